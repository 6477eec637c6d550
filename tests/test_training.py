import math
import os
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from utils.data import ImageSet, make_loader
from utils.metrics import accuracy
from utils.training import (
    History,
    evaluate,
    fit,
    milliseconds_an_image,
    predict,
    train_one_epoch,
)

CPU = torch.device("cpu")
LEARN = {"loss_fn": F.cross_entropy, "device": CPU}


def random_set(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return ImageSet(
        images, torch.randint(0, 3, (n,), generator=generator), ["a", "b", "c"]
    )


def build(seed=0, lr=0.05):
    """A network in which everything that can break a resumed run is at work."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(12, 3),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return model, optimizer


def run(epochs, *, checkpoint=None, schedule=True, val=True, **options):
    model, optimizer = build()
    scheduler = CosineAnnealingLR(optimizer, 40) if schedule else None
    train, test = (
        make_loader(random_set(), 8, shuffle=True, seed=1),
        make_loader(random_set(21, 1), 8),
    )
    options = {
        "loss_fn": F.cross_entropy,
        "metrics": {"accuracy": accuracy},
        "verbose": False,
    } | options
    history = fit(
        model,
        train,
        test if val else None,
        epochs=epochs,
        optimizer=optimizer,
        scheduler=scheduler,
        device=CPU,
        checkpoint=checkpoint,
        **options,
    )
    return model, history


def numbers(history):
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in history.rows
    ]


def equal_weights(one, other):
    other = other.state_dict()
    return all(
        torch.equal(value, other[key]) for key, value in one.state_dict().items()
    )


def test_evaluate_weights_the_short_batch_by_its_size():
    model, _ = build()
    dataset = random_set(21)
    measured = evaluate(
        model,
        make_loader(dataset, 8),
        loss_fn=F.cross_entropy,
        device=CPU,
        metrics={"accuracy": accuracy, "one": lambda outputs, labels: 1},
        amp=False,
    )
    assert measured["one"] == 1
    with torch.inference_mode():
        logits = model.eval()(dataset.images / 255)
    assert measured["loss"] == pytest.approx(
        F.cross_entropy(logits, dataset.labels).item(), rel=1e-6
    )
    assert measured["accuracy"] == pytest.approx(
        (logits.argmax(1) == dataset.labels).double().mean().item()
    )


def test_modes_are_set_whatever_they_were():
    model, optimizer = build()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    train_one_epoch(
        model.eval(), make_loader(random_set(8), 4), optimizer=optimizer, **LEARN
    )
    evaluate(model.train(), make_loader(random_set(8), 4), **LEARN)
    predict(model.train(), make_loader(random_set(8), 4), device=CPU)
    assert modes == [True] * 2 + [False] * 4


def test_fit_trains_in_training_mode_in_every_epoch():
    model, optimizer = build()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    loaders = make_loader(random_set(8), 4, shuffle=True), make_loader(random_set(4), 4)
    fit(model, *loaders, epochs=3, optimizer=optimizer, verbose=False, **LEARN)
    assert modes == [True, True, False] * 3
    assert not model.training


def test_evaluation_changes_nothing_and_keeps_no_graph():
    model, _ = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, make_loader(random_set(), 8), **LEARN)
    outputs, labels = predict(model, make_loader(random_set(), 8), device=CPU)
    assert all(
        torch.equal(before[key], value) for key, value in model.state_dict().items()
    )
    assert not outputs.requires_grad
    assert (outputs.shape, outputs.dtype) == ((50, 3), torch.float32)
    assert torch.equal(labels, random_set().labels)


def test_predict_keeps_what_it_is_told_to_of_each_batch():
    model, _ = build()
    loader = make_loader(random_set(10), 4)
    outputs, _ = predict(model, loader, device=CPU)
    classes, labels = predict(
        model, loader, device=CPU, keep=lambda logits: logits.argmax(1)
    )
    assert classes.dtype == torch.int64 and classes.shape == (10,) == labels.shape
    assert torch.equal(classes, outputs.argmax(1))


def test_a_step_is_torchs_own():
    model, optimizer = build()
    twin, twin_optimizer = build()
    loader = make_loader(random_set(20), 8)
    torch.manual_seed(5)
    steps, total = [], 0.0
    means = train_one_epoch(
        model, loader, optimizer=optimizer, amp=False, on_step=steps.append, **LEARN
    )
    torch.manual_seed(5)
    losses = []
    twin.train()
    for images, labels in loader:
        twin_optimizer.zero_grad()
        loss = F.cross_entropy(twin(images), labels)
        loss.backward()
        twin_optimizer.step()
        losses.append(loss.item())
        total += losses[-1] * len(labels)
    assert equal_weights(model, twin)
    assert steps == losses  # what is called at each step gets its loss
    assert means["loss"] == pytest.approx(total / 20, rel=1e-12)


def test_history_has_a_row_an_epoch(capsys):
    _, history = run(3, verbose=True)
    keys = [
        "epoch",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
        "seconds",
    ]
    assert [list(row) for row in history.rows] == [keys] * 3
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert history.last() is history.rows[-1]
    assert history.to_frame().shape == (3, 6)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3 and re.match(
        r"epoch 1/3  train loss \d\.\d+ .* val accuracy \d\.\d+ ", lines[0]
    )


def test_history_plots_itself():
    _, history = run(2)
    figure = history.plot(title="two epochs")
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    drawn = figure.axes[1].lines[1].get_ydata()
    assert list(drawn) == [row["val_accuracy"] for row in history.rows]


def test_without_validation_there_are_no_validation_numbers():
    model, history = run(1, val=False)
    assert not model.training
    assert not [key for key in history.last() if key.startswith("val")]


def test_scheduler_steps_with_the_optimiser_and_plateau_with_the_epoch():
    _, history = run(2)  # 7 steps an epoch of a cosine over 40
    assert history.last()["lr"] == pytest.approx(
        0.05 * (1 + math.cos(math.pi * 14 / 40)) / 2
    )
    model, optimizer = build()
    plateau = ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
    loaders = make_loader(random_set(8), 4, shuffle=True), make_loader(random_set(4), 4)
    options = {"optimizer": optimizer, "scheduler": plateau, "verbose": False}
    history = fit(model, *loaders, epochs=3, **options, **LEARN)
    assert [row["lr"] for row in history.rows] == pytest.approx(
        [0.005, 0.0005, 0.00005]
    )  # each epoch misses the threshold


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_step_and_spares_the_weights(bad):
    model, optimizer = build()
    calls, before = [], {}

    def loss_fn(outputs, labels):
        calls.append(len(labels))
        before.update({key: value.clone() for key, value in model.named_parameters()})
        return F.cross_entropy(outputs, labels) * (bad if len(calls) == 10 else 1)

    loader = make_loader(random_set(), 8, shuffle=True)
    with pytest.raises(
        FloatingPointError, match=r"epoch 2: the loss is (nan|inf) at step 3 of 7"
    ):
        options = LEARN | {"loss_fn": loss_fn, "optimizer": optimizer}
        fit(model, loader, None, epochs=3, verbose=False, **options)
    assert all(
        torch.equal(before[key], value) for key, value in model.named_parameters()
    )


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole_model, whole = run(4)
    run(2, checkpoint=tmp_path / "run.pt")
    torch.rand(7)  # the world has moved on
    resumed_model, resumed = run(4, checkpoint=tmp_path / "run.pt")
    assert numbers(resumed) == numbers(whole)
    assert equal_weights(resumed_model, whole_model)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_not_trained_again(tmp_path, capsys):
    first_model, first = run(2, checkpoint=tmp_path / "a" / "run.pt")
    again_model, again = run(2, checkpoint=tmp_path / "a" / "run.pt", verbose=True)
    assert again.rows == first.rows and equal_weights(first_model, again_model)
    assert "after epoch 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has 2 epochs"):
        run(1, checkpoint=tmp_path / "a" / "run.pt")


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.pt"
    run(1, checkpoint=path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1  # among the weights, which would load all the same
    for content in (whole[: len(whole) // 2], bytes(changed), b"", b"a text"):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=f"{path} is not a readable.*delete it"):
            run(2, checkpoint=path)
    with pytest.raises(RuntimeError, match="is a folder"):
        run(2, checkpoint=tmp_path)


def test_a_file_of_torch_that_fit_did_not_write_is_no_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    weights = build()[0].state_dict()
    for content in (weights, {"model": {}, "rows": []}, [1], {"evil": print}):
        torch.save(content, path)
        with pytest.raises(RuntimeError, match="no checkpoint that `fit` wrote"):
            run(1, checkpoint=path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named_and_leaves_the_last_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    (tmp_path / "run.pt.part").symlink_to("/dev/full")  # a file on a disk that is full
    with pytest.raises(OSError, match=f"{path} .*free some disk space.*no earlier one"):
        run(1, checkpoint=path)
    run(1, checkpoint=path)
    whole = path.read_bytes()
    (tmp_path / "run.pt.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"{path} .*free some disk.*the last one is kept"):
        run(2, checkpoint=path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write the checkpoint .*run.pt"):
        run(1, checkpoint=tmp_path / "file" / "run.pt")


def start(
    path,
    epochs,
    *,
    seed=0,
    width=12,
    optimizer=torch.optim.SGD,
    scheduler=None,
    order=0,
    train=None,
    batch_size=8,
    val=None,
    **options,
):
    """Run as a reader does, who runs all cells again after a change."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, 3))
    optimizer = optimizer(model.parameters(), lr=options.pop("lr", 0.05))
    options = LEARN | {"optimizer": optimizer, "verbose": False} | options
    if scheduler:
        options["scheduler"] = scheduler(optimizer)
    loader = make_loader(train or random_set(16), batch_size, shuffle=True, seed=order)
    return fit(model, loader, val, epochs=epochs, checkpoint=path, **options)


def with_part(name):
    """The set of `start`, with the images or the labels of another."""
    dataset, other = random_set(16), random_set(16, seed=1)
    setattr(dataset, name, getattr(other, name))
    return dataset


def of_tensors(dataset):
    """The same as a set of PyTorch's."""
    return TensorDataset(dataset.images / 255, dataset.labels)


SGD, STEP = torch.optim.SGD, partial(StepLR, step_size=1)


@pytest.mark.parametrize(
    ("first", "then", "difference"),
    [
        ({}, {"lr": 0.1}, "lr was 0.05 and is 0.1;"),
        (
            {"scheduler": STEP},
            {"scheduler": STEP, "lr": 0.1},
            "initial_lr was 0.05 and is 0.1;",
        ),
        ({}, {"seed": 1}, "torch's seed was 0 and is 1;"),
        ({}, {"order": 1}, "loader's seed was 0 and is 1;"),
        ({}, {"batch_size": 4}, "batch size was 8 and is 4;"),
        ({}, {"train": with_part("images")}, "training set's checksum was"),
        ({}, {"train": with_part("labels")}, "training set's checksum was"),
        ({}, {"train": random_set(24)}, "batches an epoch was 2 and is 3;"),
        (
            {"train": Subset(random_set(24), range(16))},
            {"train": Subset(random_set(24), range(8, 24))},
            "training set's checksum was",
        ),
        (
            {"train": Subset(random_set(24), range(16))},
            {"train": Subset(random_set(24, seed=1), range(16))},
            "training set's checksum was",
        ),
        (
            {"train": of_tensors(random_set(16))},
            {"train": of_tensors(random_set(16, seed=1))},
            "training set's checksum was",
        ),
        ({"lr": np.float64(0.05)}, {"lr": np.float64(0.1)}, "lr was 0.05 and is 0.1;"),
        ({}, {"optimizer": torch.optim.Adam}, "optimizer was SGD and is Adam;"),
        ({"optimizer": torch.optim.Adam}, {}, "optimizer was Adam and is SGD;"),
        ({}, {"optimizer": partial(SGD, momentum=0.9)}, "momentum was 0 and is 0.9;"),
        ({}, {"scheduler": STEP}, "scheduler was None and is StepLR;"),
        (
            {"scheduler": STEP},
            {"scheduler": partial(CosineAnnealingLR, T_max=9)},
            "scheduler was StepLR and is CosineAnnealingLR;",
        ),
        ({}, {"width": 10}, r"1.weight was \[12, 16\] and is \[10, 16\];"),
        ({}, {"loss_fn": F.multi_margin_loss}, "was cross_entropy and is multi_margin"),
        ({}, {"metrics": {"a": accuracy}}, r"was \['loss'\] and is \['a', 'loss'\];"),
        ({}, {"val": make_loader(random_set(8), 8)}, "validation was False and is"),
        ({}, {"amp": False}, "amp was True and is False;"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    tmp_path, first, then, difference
):
    path = tmp_path / "run.pt"
    start(path, 1, **first)
    whole = path.read_bytes()
    with pytest.raises(RuntimeError, match=f"{path} is of another run: .*{difference}"):
        start(path, 2, **then)
    assert path.read_bytes() == whole
    assert len(start(path, 2, **first).rows) == 2  # goes on as it was


@pytest.mark.parametrize(
    "scheduler",
    [
        None,
        partial(OneCycleLR, max_lr=0.1, total_steps=90),  # moves the momentum too
        partial(ReduceLROnPlateau, patience=0, threshold=1e9),
    ],
)
def test_a_cell_that_was_interrupted_goes_on_when_it_is_run_again(tmp_path, scheduler):
    """With the objects of the first run, which are in the middle of an epoch."""

    def train(path, *stops):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        options = {"optimizer": optimizer, "verbose": False, "checkpoint": path}
        if scheduler:
            options["scheduler"] = scheduler(optimizer)
        loaders = (
            make_loader(random_set(16), 4, shuffle=True),
            make_loader(random_set(4, 1), 4),
        )
        calls = []

        def loss_fn(outputs, labels):
            calls.append(len(labels))
            if len(calls) in stops:
                raise KeyboardInterrupt
            return F.cross_entropy(outputs, labels)

        options |= {"loss_fn": loss_fn, "device": CPU}
        for _ in stops:
            with pytest.raises(KeyboardInterrupt):
                fit(model, *loaders, epochs=4, **options)
        history = fit(model, *loaders, epochs=4, **options)
        return model, numbers(history)

    # an epoch has 4 steps of training and 1 of validation
    model, rows = train(tmp_path / "run.pt", 8, 14)
    whole_model, whole = train(None)
    assert rows == whole and equal_weights(model, whole_model)


def test_a_run_goes_on_with_its_optimiser_or_with_a_new_one_like_it(tmp_path):
    loaders = make_loader(random_set(), 8, shuffle=True), make_loader(random_set(8), 8)
    options = {"checkpoint": tmp_path / "run.pt", "verbose": False, **LEARN}
    for epochs in (1, 2, 3, 4):
        if epochs != 2:  # a new one, at the first rate
            model, optimizer = build()
            plateau = ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
        options |= {"optimizer": optimizer, "scheduler": plateau}
        history = fit(model, *loaders, epochs=epochs, **options)
    rates = [row["lr"] for row in history.rows]
    assert rates == pytest.approx([5e-3, 5e-4, 5e-5, 5e-6])


def test_a_loader_without_a_batch_is_refused():
    model, optimizer = build()
    short = DataLoader(random_set(3), 8, drop_last=True)
    with pytest.raises(ValueError, match="no batch"):
        train_one_epoch(model, short, optimizer=optimizer, **LEARN)
    with pytest.raises(ValueError, match="no batch"):
        evaluate(model, short, **LEARN)
    with pytest.raises(ValueError, match="no batch"):
        predict(model, short, device=CPU)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "whole number, at least 1, got 0"),
        ({"epochs": 2.5}, ValueError, "whole number, at least 1, got 2.5"),
        ({"metrics": {"loss": accuracy}}, ValueError, "would overwrite the loss"),
        ({"metrics": accuracy}, TypeError, "metrics must be a dict.*got function"),
        ({"metrics": {"hit": lambda o, _: o}}, ValueError, r"hit must be one number"),
        ({"metrics": {"hit": lambda o, _: None}}, TypeError, "hit must .*got NoneType"),
        (
            {"loss_fn": partial(F.cross_entropy, reduction="none")},
            ValueError,
            r"loss must be one number for a batch, got \[4\]",
        ),
        ({"loss_fn": lambda o, _: o.sum().item()}, ValueError, "loss has no gradient"),
        ({"loss_fn": lambda o, _: o.detach().sum()}, ValueError, "has no gradient"),
        ({"loss_fn": nn.CrossEntropyLoss}, TypeError, r"CrossEntropyLoss\(\)"),
        ({"optimizer": build()[1]}, ValueError, "updates no trainable parameter"),
        ({"optimizer": torch.optim.SGD}, TypeError, "expected an optimizer"),
        ({"scheduler": StepLR(build()[1], 1)}, ValueError, "to another optimizer"),
        (
            {"scheduler": ReduceLROnPlateau(build()[1]), "val_loader": None},
            ValueError,
            "ReduceLROnPlateau follows the validation loss",
        ),
        (
            {"train_loader": random_set(8), "checkpoint": "run.pt"},
            TypeError,
            "got the set itself .ImageSet.",
        ),
        ({"val_loader": random_set(8)}, TypeError, "got the set itself .ImageSet."),
    ],
)
def test_fit_refuses_what_would_train_nothing_or_something_else(
    options, error, message
):
    model, optimizer = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    options = (
        LEARN
        | {
            "train_loader": make_loader(random_set(8), 4, shuffle=True),
            "val_loader": make_loader(random_set(4), 4),
            "epochs": 1,
            "optimizer": optimizer,
            "verbose": False,
        }
        | options
    )
    with pytest.raises(error, match=message):
        fit(model, **options)
    for name, parameter in model.named_parameters():
        # a metric is computed after the first step
        assert torch.equal(parameter, before[name]) or "hit" in message


def test_a_model_whose_parameters_are_frozen_is_not_trained():
    model, optimizer = build()
    loader = make_loader(random_set(8), 4)
    with pytest.raises(ValueError, match="updates no trainable parameter"):
        train_one_epoch(
            model.requires_grad_(False), loader, optimizer=optimizer, **LEARN
        )
    model[1].weight.requires_grad_()  # one is enough
    train_one_epoch(model, loader, optimizer=optimizer, **LEARN)


def test_evaluate_and_predict_refuse_what_they_cannot_measure():
    model, loader = build()[0], make_loader(random_set(8), 4)
    with pytest.raises(ValueError, match="would overwrite the loss"):
        evaluate(model, loader, metrics={"loss": accuracy}, **LEARN)
    with pytest.raises(TypeError, match="got the set itself"):
        predict(model, random_set(8), device=CPU)
    recurrent = nn.Sequential(nn.Flatten(), nn.LSTM(16, 3))
    with pytest.raises(TypeError, match="must return one tensor, got tuple"):
        predict(recurrent, loader, device=CPU)


def test_a_device_may_be_named_and_batches_come_from_any_iterable():
    model, optimizer = build()
    batches = list(make_loader(random_set(8), 4))
    options = {"loss_fn": F.cross_entropy, "optimizer": optimizer, "verbose": False}
    history = fit(model, batches, batches, epochs=1, device="cpu", **options)
    assert math.isfinite(history.last()["val_loss"])
    assert predict(model, batches, device="cpu")[0].shape == (8, 3)


def test_losses_metrics_and_predictions_see_float32_also_from_bfloat16(monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False
    )
    model, optimizer = build()
    loader = make_loader(random_set(4), 4)
    layers, seen = [], []
    model[-1].register_forward_hook(
        lambda module, inputs, output: layers.append(output.dtype)
    )

    def dtype(outputs, labels):
        seen.append(outputs.dtype)
        return F.cross_entropy(outputs, labels)

    for amp in (True, False):
        options = {"loss_fn": dtype, "metrics": {"m": dtype}, "device": CPU, "amp": amp}
        train_one_epoch(model, loader, optimizer=optimizer, **options)
        evaluate(model, loader, **options)
        seen.append(predict(model, loader, device=CPU, amp=amp)[0].dtype)
        assert model[1].weight.grad.dtype == torch.float32
    assert seen == [torch.float32] * 10
    assert layers == [torch.bfloat16] * 3 + [torch.float32] * 3


def test_progress_is_shown_unless_the_environment_or_the_caller_says_no(
    capsys, monkeypatch
):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run(1, verbose=True)
    assert "7/7" in capsys.readouterr().err  # 7 steps an epoch
    run(1, verbose=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    run(1, verbose=True)
    assert capsys.readouterr().err == ""


def test_an_empty_history_says_so():
    with pytest.raises(ValueError, match="empty"):
        History().plot()


def test_a_sampler_that_is_shared_out_is_told_the_epoch():
    dataset = TensorDataset(torch.rand(16, 1, 4, 4), torch.zeros(16).long())
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0)
    loader = DataLoader(dataset, 8, sampler=sampler)
    model, optimizer = build()
    fit(model, loader, None, epochs=3, optimizer=optimizer, verbose=False, **LEARN)
    # without which each epoch would repeat the first one's order
    assert sampler.epoch == 3


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d, nn.Linear])
def test_the_weights_of_convolutions_are_stored_with_the_channels_last(kind):
    layer = kind(3, 4) if kind is nn.Linear else kind(3, 4, 2)
    images = torch.rand(6, 3) if kind is nn.Linear else torch.rand(6, 3, 8, 8)
    labels = torch.zeros(6).long()
    model = nn.Sequential(layer, nn.Flatten())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [(images, labels)]
    options = {"loss_fn": F.cross_entropy, "optimizer": optimizer, "device": "cpu"}
    train_one_epoch(model, loader, **options)
    last = {"memory_format": torch.channels_last}
    assert layer.weight.ndim == 2 or layer.weight.is_contiguous(**last)
    assert layer.weight.ndim == 4 or layer.weight.is_contiguous()


def test_the_time_of_an_image_is_the_median_over_the_repeats(monkeypatch):
    seconds = iter([0.5, 0.006, 0.004, 0.002, 0.008])

    class Clock:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.seconds = next(seconds)

    monkeypatch.setattr("utils.training.Stopwatch", Clock)
    images = TensorDataset(torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    model = nn.Conv2d(3, 5, 1)
    found = milliseconds_an_image(model, DataLoader(images, 2), device="cpu", repeats=5)
    assert found == pytest.approx(3)  # 6 ms for two images
    assert not model.training
    with pytest.raises(ValueError, match="at least 1"):
        milliseconds_an_image(model, DataLoader(images), device="cpu", repeats=0)
