import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from utils import runtime


def test_the_same_seed_gives_the_same_numbers_everywhere():
    draws = []
    for _ in range(2):
        generator = runtime.seed_everything(3)
        draws.append(
            (
                random.random(),
                np.random.rand(),
                torch.rand(1).item(),
                torch.rand(1, generator=generator).item(),
            )
        )
    assert draws[0] == draws[1]
    runtime.seed_everything(np.int64(4))
    assert (random.random(), np.random.rand()) != draws[0][:2]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, "1"])
def test_what_is_no_seed_is_refused_before_anything_is_seeded(seed):
    state = random.getstate()
    with pytest.raises(ValueError, match="a seed is a whole number from 0"):
        runtime.seed_everything(seed)
    assert random.getstate() == state


def test_device_can_compute():
    assert (torch.ones(2, device=runtime.pick_device()) * 2).sum().item() == 4


def test_each_process_of_torchrun_gets_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert runtime.pick_device() == torch.device("cuda", 3)


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_autocast_only_where_the_hardware_has_bfloat16(monkeypatch, capabilities, fast):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    for device in (torch.device("cpu"), "cpu"):
        with runtime.autocast(device):
            assert layer(x).dtype == (torch.bfloat16 if fast else torch.float32)
    with runtime.autocast(torch.device("cpu"), enabled=False):
        assert layer(x).dtype == torch.float32
    # not a device here: a no-op all the same
    with runtime.autocast(torch.device("mps")):
        assert layer(x).dtype == torch.float32


def test_an_older_torch_that_cannot_tell_stays_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not runtime.has_fast_bfloat16(torch.device("cpu"))


def test_count_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    assert runtime.count_parameters(model) == 3 * 4 + 4 + 4 * 2 + 2
    assert runtime.count_parameters(model, trainable=True) == 4 + 4 * 2 + 2
    model[1].weight = nn.Parameter(torch.zeros(2, 4))
    model.tied = model[1]
    assert runtime.count_parameters(model) == 3 * 4 + 4 + 4 * 2 + 2
    assert runtime.count_parameters(nn.ReLU()) == 0
    for wrong in (None, nn.ReLU, model.parameters()):
        with pytest.raises(TypeError, match="expected a model"):
            runtime.count_parameters(wrong)


def test_stopwatch_measures_the_block_alone(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watch = runtime.Stopwatch()
    now += 7
    assert watch.seconds == 7  # it started at once
    with watch:
        now += 2
        assert watch.seconds == 2
        now += 1
    now += 30
    assert watch.seconds == 3


def test_alone_there_is_one_process():
    assert runtime.join_processes() == (0, 1)


def test_a_progress_bar_is_silent_where_the_environment_says_so(capsys, monkeypatch):
    for variable, shown in ((None, True), ("0", True), ("", True), ("1", False)):
        if variable is None:
            monkeypatch.delenv("TQDM_DISABLE", raising=False)
        else:
            monkeypatch.setenv("TQDM_DISABLE", variable)
        with runtime.progress_bar(total=7) as bar:
            bar.update()
        printed = capsys.readouterr().err
        assert ("/7" in printed) == shown
        # it is cleared at the end
        assert not shown or printed.endswith("\r")


def test_importing_utils_does_nothing_but_define():
    code = (
        "import random, sys, torch; a, b = torch.get_rng_state(), random.getstate();"
        "import utils.comparison, utils.detection, utils.interpret, utils.weights;"
        "assert torch.equal(a, torch.get_rng_state()) and b == random.getstate();"
        "assert torch.get_default_dtype() == torch.float32 and 'skimage.data' not in "
        "sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
