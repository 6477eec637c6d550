"""`utils.trials`: one run of a comparison keeps to its budget, and says what became of it."""

import pytest
import torch
from comparison_helpers import RATES, linear, small
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from utils.training import Arm


def test_equal_epochs_are_equally_many_examples():
    arms = {"small": Arm(linear, batch_size=4), "large": Arm(linear, batch_size=32)}
    table = small(arms, epochs=3, steps=None).table
    assert table.groupby("arm").steps.first().to_dict() == {"small": 52, "large": 7}  # 210 / 4 and 210 / 32
    assert ((table.examples - 210).abs() <= table.batch_size / 2).all()


def test_equal_seconds():
    comparison = small(seconds=0.05, steps=None)
    assert comparison.table.seconds.min() >= 0.05 and comparison.table.seconds.median() < 0.5
    assert comparison.budget == "seconds"
    assert comparison.table.steps.min() >= 1


def test_a_schedule_knows_its_steps():
    rates = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    def one_cycle(optimizer, steps):
        return OneCycleLR(optimizer, max_lr=optimizer.param_groups[0]["lr"], total_steps=steps)

    small({"arm": linear}, optimizer=Spy, scheduler=one_cycle)
    runs = torch.tensor(rates).view(6, 12)
    torch.testing.assert_close(runs[:3].amax(1), torch.tensor(RATES), rtol=0.1, atol=0)
    assert (runs[:, -1] < runs[:, 0]).all()


def test_a_schedule_that_nobody_would_step_is_refused():
    with pytest.raises(ValueError, match="ReduceLROnPlateau waits"):
        small({"arm": linear}, scheduler=lambda optimizer, steps: ReduceLROnPlateau(optimizer))


def test_a_rate_that_diverges_is_a_row_and_never_chosen():
    def explode(outputs, labels):
        return F.cross_entropy(outputs, labels) * torch.where(outputs.abs().max() > 50, torch.inf, 1.0)

    table = small({"arm": linear}, loss_fn=explode, learning_rates=[0.1, 1.0, 1e4]).table
    (row,) = table[table.diverged].to_dict("records")
    assert row["learning_rate"] == 1e4 and row["phase"] == "search"
    assert row["steps"] == 1 and row["examples"] == 8  # the second loss was infinite: no second step
    with pytest.raises(ValueError, match="'arm' diverged at every learning rate"):
        small({"arm": linear}, loss_fn=explode, learning_rates=[1e4, 1e5, 1e6])


def test_other_floating_point_errors_are_not_taken_for_divergence():
    def broken(images):
        raise FloatingPointError("a broken transform")

    with pytest.raises(FloatingPointError, match="a broken transform"):
        small(train_transform=broken)


def test_the_training_loss_is_the_mean_of_the_last_tenth():
    values = iter(range(1, 1000))

    def counting(outputs, labels):
        return outputs.sum() * 0 + next(values) if outputs.requires_grad else outputs.sum() * 0

    table = small({"arm": linear}, loss_fn=counting, steps=25).table
    assert table.train_loss.tolist() == [25 * run + 24 for run in range(6)]  # 23, 24 and 25: three of 25
