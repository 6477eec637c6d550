"""Interrupted comparisons go on, and no finished run is taken for another."""

import functools
import json

import pandas as pd
import pytest
import torch
from comparison_helpers import RATES, deep, linear, pictures, sets, small, without_time
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from utils import comparison
from utils.training import Arm


@pytest.fixture
def counted(monkeypatch):
    """The trials that were really run."""
    made = []
    original = comparison.run_trial

    def run_trial(trial, *args, **options):
        made.append((trial.name, trial.phase, trial.learning_rate, trial.seed))
        return original(trial, *args, **options)

    monkeypatch.setattr(comparison, "run_trial", run_trial)
    return made


def noisy(images):
    return images / 255 + torch.rand(len(images), 1, 1, 1)


ARMS = {
    "dropout": Arm(
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2)), train_transform=noisy
    ),
    "deep": Arm(
        deep, optimizer=functools.partial(torch.optim.SGD, momentum=0.9), scheduler=CosineAnnealingLR
    ),
}


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("finished", [0, 1, 5, 6, 7, 11])
def test_an_interrupted_comparison_goes_on_and_ends_the_same(tmp_path, monkeypatch, counted, finished):
    whole = small(ARMS, folder=tmp_path / "whole")
    pd.testing.assert_frame_equal(without_time(whole.table), without_time(small(ARMS).table))
    original = comparison.run_trial
    counted.clear()

    def fail(*args, **options):
        if len(counted) == finished:
            raise Interrupted
        return original(*args, **options)

    monkeypatch.setattr(comparison, "run_trial", fail)
    with pytest.raises(Interrupted):
        small(ARMS, folder=tmp_path / "parts")
    before = list(counted)
    monkeypatch.setattr(comparison, "run_trial", original)
    resumed = small(ARMS, folder=tmp_path / "parts")
    pd.testing.assert_frame_equal(without_time(resumed.table), without_time(whole.table), check_exact=True)
    assert len(before) == finished and len(counted) == 12 and len(set(counted)) == 12  # none made twice


def test_a_finished_comparison_is_read_seconds_included(tmp_path, counted):
    first = small(folder=tmp_path)
    counted.clear()
    again = small(folder=tmp_path)
    assert counted == []
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)
    assert not list(tmp_path.glob("*.part"))


def test_a_further_arm_and_a_further_rate_cost_only_their_own_runs(tmp_path, counted):
    small({"linear": linear}, folder=tmp_path)
    counted.clear()
    small({"linear": linear, "deep": deep}, folder=tmp_path)
    assert len(counted) == 6 and {name for name, *_ in counted} == {"deep"}
    counted.clear()
    small({"linear": linear}, folder=tmp_path, learning_rates=[*RATES, 1e-9])
    assert counted == [("linear", "search", 1e-9, 3)]


def smoothed(outputs, labels):
    return F.cross_entropy(outputs, labels, label_smoothing=0.1)


def wrong(outputs, labels):
    return (outputs.argmax(1) != labels).float().mean()


def accuracy(outputs, labels):
    """Like the real one, of the same name, and another number."""
    return (outputs.argmax(1) == labels).float().mean() / 2


class Halved(nn.Sequential):
    def forward(self, images):
        return super().forward(images) / 2


CHANGES = {
    "steps": {"steps": 13},
    "batch size": {"batch_size": 7},
    "the kind of budget": {"steps": None, "epochs": 12 * 8 / 70},
    "optimizer": {"optimizer": torch.optim.Adam},
    "momentum": {"optimizer": functools.partial(torch.optim.SGD, momentum=0.5)},
    "scheduler": {"scheduler": CosineAnnealingLR},
    "transform": {"transform": lambda images: images / 254},
    "a hair of the transform": {"transform": lambda images: images / 255 + 1e-6},
    "train_transform": {"train_transform": noisy},
    "loss": {"loss_fn": smoothed},
    "metric": {"metric": wrong, "higher_is_better": False},
    "metric of the same name": {"metric": accuracy},
    "training pictures": {"train": pictures(70, 8)},
    "fewer training pictures": {"train": pictures(69, 1)},
    "validation pictures": {"validation": pictures(40, 8)},
    "architecture": {"arms": {"linear": deep}},
    "forward": {"arms": {"linear": lambda: Halved(nn.Flatten(), nn.Linear(8, 2))}},
    "name": {"arms": {"other": linear}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_never_reuses_a_run(tmp_path, counted, name):
    small({"linear": linear}, folder=tmp_path)
    counted.clear()
    changed = {"arms": {"linear": linear}} | CHANGES[name]
    small(changed.pop("arms"), folder=tmp_path, **changed)
    assert len(counted) == 6


def test_other_test_pictures_repeat_the_final_runs_alone(tmp_path, counted):
    small({"linear": linear}, folder=tmp_path)
    counted.clear()
    small({"linear": linear}, folder=tmp_path, test=pictures(60, 8))
    assert [phase for _, phase, *_ in counted] == ["final"] * 3


def test_labels_in_the_middle_count_too(tmp_path, counted):
    data = sets()
    small({"linear": linear}, folder=tmp_path, **data)
    counted.clear()
    data["train"].labels[35] = 1 - data["train"].labels[35]
    small({"linear": linear}, folder=tmp_path, **data)
    assert len(counted) == 6


def test_a_schedule_that_differs_late_is_another(tmp_path, counted):
    for gamma in (0.5, 0.1):
        counted.clear()
        arm = Arm(linear, scheduler=lambda optimizer, steps, gamma=gamma: StepLR(optimizer, steps - 1, gamma))
        small({"linear": arm}, folder=tmp_path)
        assert len(counted) == 6


def edit(change):
    def damage(file):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return damage


DAMAGE = {
    "cut short": lambda file: file.write_text(file.read_text()[:40]),
    "empty": lambda file: file.write_text(""),
    "a list": lambda file: file.write_text("[]"),
    "another number": edit(lambda content: content["row"].update(validation_accuracy=1.0)),
    "a column less": edit(lambda content: content["row"].pop("steps")),
    "another key": edit(lambda content: content.update(key="0" * 64)),
    "no checksum": edit(lambda content: content.pop("sum")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_journal_is_an_error_that_names_the_file(tmp_path, counted, name):
    small({"linear": linear}, folder=tmp_path)
    file = sorted(tmp_path.glob("*.json"))[2]
    DAMAGE[name](file)
    with pytest.raises(RuntimeError, match=f"{file.name} .* damaged .*delete it"):
        small({"linear": linear}, folder=tmp_path)
    file.unlink()
    counted.clear()
    small({"linear": linear}, folder=tmp_path)
    assert len(counted) == 1


def test_a_run_that_diverged_is_kept(tmp_path, counted):
    def explode(outputs, labels):
        return F.cross_entropy(outputs, labels) * torch.where(outputs.abs().max() > 50, torch.inf, 1.0)

    call = functools.partial(small, {"arm": linear}, loss_fn=explode, learning_rates=[0.1, 1.0, 1e4])
    first = call(folder=tmp_path).table
    counted.clear()
    pd.testing.assert_frame_equal(call(folder=tmp_path).table, first, check_exact=True)
    assert first.diverged.sum() == 1 and counted == []


def test_swapped_arms_are_noticed(tmp_path, counted):
    small({"a": linear, "b": deep}, folder=tmp_path)
    counted.clear()
    swapped = small({"b": linear, "a": deep}, folder=tmp_path)
    assert len(counted) == 12
    alone = small({"b": linear})
    table = swapped.table[swapped.table.arm == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(without_time(table), without_time(alone.table))
