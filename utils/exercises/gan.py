"""The exercises of chapter 09: generative adversarial networks."""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from utils.exercises import Case, Exercise

EXERCISES: dict[str, Exercise] = {}

# 9.1.1: one step of the discriminator


def _play_step(
    answer: Callable,
    discriminator: nn.Module,
    generator: nn.Module,
    real: torch.Tensor,
    noise: torch.Tensor,
) -> dict:
    """Call a step where gradients of an earlier one are left; return what it did."""
    optimizer = torch.optim.SGD(discriminator.parameters(), 0.5)
    for parameter in discriminator.parameters():  # left there by the generator's step
        parameter.grad = torch.full_like(parameter, 0.7)
    before = torch.cat([p.detach().flatten() for p in generator.parameters()])
    loss = answer(discriminator, generator, optimizer, real, noise)
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    after = torch.cat([p.detach().flatten() for p in generator.parameters()])
    return {
        "the loss": loss,
        "the discriminator's weights": torch.cat(
            [p.detach().flatten() for p in discriminator.parameters()]
        ),
        "the generator's gradients": float(sum(g.abs().sum() for g in gradients)),
        "the change of the generator": float((after - before).abs().sum()),
        "whether the generator can still learn": all(
            p.requires_grad for p in generator.parameters()
        ),
        "whether the generator is in training mode": generator.training,
    }


def _by_torch_step(discriminator, generator, optimizer, real, noise):
    """Make the step with F.binary_cross_entropy_with_logits."""
    on_real = discriminator(real)
    on_fake = discriminator(generator(noise).detach())
    loss = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
    loss = loss + F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _step_with(
    loss_of: Callable = lambda on_real, on_fake: (
        F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    ),
    detach: bool = True,
    zero: bool = True,
    step: bool = True,
    before: Callable = lambda generator: None,
) -> Callable:
    """Return the step, or with an option one with a mistake."""

    def discriminator_step(discriminator, generator, optimizer, real, noise):
        before(generator)
        fake = generator(noise)
        on_real = discriminator(real)
        on_fake = discriminator(fake.detach() if detach else fake)
        loss = loss_of(on_real, on_fake)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        if step:
            optimizer.step()
        return loss.item()

    return discriminator_step


def _bce(scores: torch.Tensor, label: float) -> torch.Tensor:
    """Return the mean cross-entropy of logits with one label for all."""
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def _both_at_once(on_real, on_fake):
    return torch.cat([F.softplus(-on_real), F.softplus(on_fake)]).mean()


@functools.cache
def _load_optimizers() -> None:
    """Make PyTorch load what it loads at the first step; no answer pays that time."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], 0.5).step()


def _step_cases() -> list[Case]:
    """Return one real and one fake, unequal numbers, and images of several pixels."""
    _load_optimizers()
    draw = torch.Generator().manual_seed(911)

    def linear(inputs: int, outputs: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
        return layer

    cases = []
    for n_real, n_fake, pixels in ((1, 1, 1), (4, 2, 1), (3, 5, 4), (8, 8, 6)):
        hidden = nn.Sequential(linear(pixels, 3), nn.Tanh(), linear(3, 1))
        cases.append(
            Case(
                {
                    "discriminator": linear(1, 1) if pixels == 1 else hidden,
                    "generator": linear(2, pixels),
                    "real": torch.randn(n_real, pixels, generator=draw) + 1,
                    "noise": torch.randn(n_fake, 2, generator=draw),
                },
                "do the targets have the shape of the logits, and does `noise` go "
                "into the generator?",
            )
        )
    return cases


EXERCISES["9.1.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_step_cases,
    reference=_by_torch_step,
    against="with F.binary_cross_entropy_with_logits",
    play=_play_step,
    mistakes={
        "Your labels are swapped: the discriminator should say 1 for real examples "
        "and 0 for fakes.": _step_with(
            lambda on_real, on_fake: _bce(on_real, 0.0) + _bce(on_fake, 1.0)
        ),
        "The generator gets gradients, too, and they make its fakes easier to tell: "
        "cut the fakes off with .detach().": _step_with(detach=False),
        "Gradients are left from the step before, and you add to them: call "
        "zero_grad() before backward().": _step_with(zero=False),
        "You apply a sigmoid twice: binary_cross_entropy_with_logits has its own and "
        "takes the logits as they are.": _step_with(
            lambda on_real, on_fake: (
                _bce(on_real.sigmoid(), 1.0) + _bce(on_fake.sigmoid(), 0.0)
            )
        ),
        "Your real examples get the label of the fakes: their label is 1.": _step_with(
            lambda on_real, on_fake: _bce(on_real, 0.0) + _bce(on_fake, 0.0)
        ),
        "The generator stays frozen after your step, and could never learn: cut the "
        "fakes off with .detach() instead.": _step_with(
            before=lambda generator: generator.requires_grad_(False)
        ),
        "You leave the generator in evaluation mode: this step needs no other "
        "mode.": _step_with(before=lambda generator: generator.eval()),
        "The discriminator's weights do not change: call step() after backward(), "
        "with no zero_grad() between them.": _step_with(step=False),
        "Your fakes get the label 1. That is the generator's loss: the discriminator "
        "should call them fake, 0.": _step_with(
            lambda on_real, on_fake: _bce(on_real, 1.0) + _bce(on_fake, 1.0)
        ),
        "You add up over the examples: take the mean over the real ones and the mean "
        "over the fakes.": _step_with(
            lambda on_real, on_fake: (
                F.softplus(-on_real).sum() + F.softplus(on_fake).sum()
            )
        ),
        "Your loss is half as large: add the two means, without dividing by "
        "2.": _step_with(
            lambda on_real, on_fake: (_bce(on_real, 1.0) + _bce(on_fake, 0.0)) / 2
        ),
        "You take one mean over all examples. Take the mean over the real ones and the "
        "mean over the fakes, and add them.": _step_with(_both_at_once),
    },
    hints=(
        "Three lines as in every training step: zero_grad(), backward(), step(). "
        "Before them, two calls of the discriminator: one on `real`, one on the fakes.",
        "F.binary_cross_entropy_with_logits(logits, targets) with torch.ones_like and "
        "torch.zeros_like for the targets.",
        "The fakes are `generator(noise)`. This step must not reach the generator: "
        "what does .detach() do?",
    ),
)

# 9.1.2: two losses of the generator


def _by_torch_losses(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both losses, by F.binary_cross_entropy_with_logits."""
    return -_bce(logits, 0.0), _bce(logits, 1.0)


def _losses_by_sigmoid(logits):
    p = torch.sigmoid(logits)
    return torch.log(1 - p).mean(), -torch.log(p).mean()


def _losses_with_epsilon(logits):
    p = torch.sigmoid(logits)
    return torch.log(1 - p + 1e-8).mean(), -torch.log(p + 1e-8).mean()


def _losses_swapped(logits):
    minimax, non_saturating = _by_torch_losses(logits)
    return non_saturating, minimax


def _minimax_negative(logits):
    minimax, non_saturating = _by_torch_losses(logits)
    return -minimax, non_saturating


def _non_saturating_negative(logits):
    minimax, non_saturating = _by_torch_losses(logits)
    return minimax, -non_saturating


def _minimax_twice(logits):
    minimax, _ = _by_torch_losses(logits)
    return minimax, minimax


def _losses_clamped(logits):
    p = torch.sigmoid(logits).clamp(1e-7, 1 - 1e-7)
    return torch.log(1 - p).mean(), -torch.log(p).mean()


def _losses_by_exp(logits):
    return -torch.log(1 + logits.exp()).mean(), torch.log(1 + (-logits).exp()).mean()


def _losses_of_probabilities(logits):
    return torch.log(1 - logits).mean(), -torch.log(logits).mean()


def _losses_summed(logits):
    minimax, non_saturating = _by_torch_losses(logits)
    return minimax * logits.numel(), non_saturating * logits.numel()


def _logit_cases() -> list[Case]:
    """Return an undecided discriminator, sure ones, very sure ones, and random ones."""
    draw = torch.Generator().manual_seed(912)
    sure = "what is log(0), and can a logit this large make it?"
    written = [
        ([[0.0]], ""),
        ([[-4.0], [4.0]], ""),
        ([[-200.0]], sure),
        ([[200.0]], sure),
        ([[-30.0], [2.0], [30.0]], sure),
    ]
    cases = [Case({"logits": torch.tensor(values)}, asked) for values, asked in written]
    for n in (5, 16):
        logits = 3 * torch.randn(n, 1, generator=draw)
        cases.append(Case({"logits": logits}))
    return cases


EXERCISES["9.1.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_logit_cases,
    reference=_by_torch_losses,
    against="F.binary_cross_entropy_with_logits",
    mistakes={
        "A logit of 200 makes the sigmoid exactly 1 and your logarithm infinite: use "
        "F.logsigmoid or F.softplus on the logits.": _losses_by_sigmoid,
        "A small number inside the logarithm hides the overflow and makes the loss "
        "wrong: use F.logsigmoid or F.softplus on the logits.": _losses_with_epsilon,
        "Clamping D hides the overflow and makes the loss of a sure discriminator "
        "wrong: use F.logsigmoid or F.softplus on the logits.": _losses_clamped,
        "exp(200) is infinite in float32. F.softplus(s) is log(1 + exp(s)) without "
        "that overflow.": _losses_by_exp,
        "You take the logits for probabilities: D is the sigmoid of a "
        "logit.": _losses_of_probabilities,
        "You return them in the other order: first minimax, then non-saturating.": (
            _losses_swapped
        ),
        "Your minimax loss has the wrong sign: the generator must make it smaller when "
        "D rises.": _minimax_negative,
        "Your non-saturating loss has the wrong sign: it must fall when D "
        "rises.": _non_saturating_negative,
        "You return the minimax loss twice: the non-saturating one is the negative "
        "logarithm of D itself.": _minimax_twice,
        "You add up over the fakes: take the mean.": _losses_summed,
    },
    hints=(
        "F.logsigmoid(s) is the logarithm of the sigmoid, without overflow.",
        "1 minus the sigmoid of s is the sigmoid of -s.",
        "F.softplus(s) is log(1 + exp(s)). One loss has a minus in front of it, the "
        "other a minus inside.",
    ),
)
