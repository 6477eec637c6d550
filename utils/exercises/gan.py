"""The exercises of chapter 09: generative adversarial networks."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from scipy import linalg
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

# 9.2.1: the transposed convolution


def _scattered(x, weight, stride, padding, put=None, size=None, cut=None):
    """Return the transposed convolution by scattering, or with an option a mistake."""
    (batch, _, height, width), k = x.shape, weight.shape[-1]
    size = size or (lambda n: (n - 1) * stride + k)
    full = x.new_zeros(batch, weight.shape[1], size(height), size(width))
    for row in range(height):
        for column in range(width):
            patch = torch.einsum("bc,cdij->bdij", x[:, :, row, column], weight)
            y, x0 = row * stride, column * stride
            view = full[:, :, y : y + k, x0 : x0 + k]
            patch = patch[:, :, : view.shape[2], : view.shape[3]]
            if put == "over":
                view.copy_(patch)
            else:
                view += patch
    if cut is not None:
        return cut(full, padding)
    rows, columns = full.shape[2] - padding, full.shape[3] - padding
    return full[:, :, padding:rows, padding:columns]


def _padding_not_cut(x, weight, stride, padding):
    return _scattered(x, weight, stride, padding, cut=lambda full, p: full)


def _padding_cut_once(x, weight, stride, padding):
    return _scattered(x, weight, stride, padding, cut=lambda full, p: full[..., p:, p:])


def _padding_cut_at_the_end(x, weight, stride, padding):
    def cut(full, p):
        rows, columns = full.shape[2] - p, full.shape[3] - p
        return full[..., :rows, :columns]

    return _scattered(x, weight, stride, padding, cut=cut)


def _padding_minus_zero(x, weight, stride, padding):
    return _scattered(
        x, weight, stride, padding, cut=lambda full, p: full[..., p:-p, p:-p]
    )


def _padding_cut_twice(x, weight, stride, padding):
    return _scattered(x, weight, stride, 2 * padding)


def _padding_of_the_input(x, weight, stride, padding):
    return _scattered(F.pad(x, [padding] * 4), weight, stride, 0)


def _overwritten(x, weight, stride, padding):
    return _scattered(x, weight, stride, padding, put="over")


def _kernel_flipped(x, weight, stride, padding):
    return _scattered(x, weight.flip(2, 3), stride, padding)


def _kernel_transposed(x, weight, stride, padding):
    return _scattered(x, weight.mT, stride, padding)


def _size_without_overhang(x, weight, stride, padding):
    return _scattered(x, weight, stride, padding, size=lambda n: n * stride)


def _stride_ignored(x, weight, stride, padding):
    return _scattered(x, weight, 1, padding)


def _transposed_cases() -> list[Case]:
    """Return one value, overlapping and separate kernels, and several channels."""
    draw = torch.Generator().manual_seed(921)
    overlap = "what happens to an output pixel that two kernels reach?"
    sizes = [
        # batch, C, D, height, width, k, stride, padding
        (1, 1, 1, 1, 1, 3, 1, 0, "the output is the kernel times the value"),
        (1, 1, 1, 1, 2, 3, 2, 0, overlap),
        (1, 1, 1, 2, 3, 2, 3, 0, "what lies between two kernels that do not meet?"),
        (1, 1, 1, 3, 2, 4, 2, 1, overlap),
        (2, 2, 2, 2, 3, 3, 2, 1, "which axis of `weight` belongs to the input?"),
        (2, 3, 2, 3, 3, 4, 2, 1, "which axis of `weight` belongs to the input?"),
        (1, 2, 2, 4, 3, 3, 1, 1, ""),
        (1, 2, 3, 3, 4, 5, 2, 2, ""),
    ]
    cases = []
    for batch, c, d, height, width, k, stride, padding, asked in sizes:
        x = torch.randn(batch, c, height, width, generator=draw)
        weight = torch.randn(c, d, k, k, generator=draw)
        arguments = {"x": x, "weight": weight, "stride": stride, "padding": padding}
        cases.append(Case(arguments, asked))
    return cases


def _channels_summed(x, weight, stride, padding):
    return _scattered(
        x.sum(1, keepdim=True), weight.sum(0, keepdim=True), stride, padding
    )


def _play_transposed(answer: Callable, x, weight, stride, padding) -> dict:
    """Return the size of the output and its values, on a canvas for any size."""
    output = answer(x, weight, stride, padding)
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        came = tuple(output.shape) if hasattr(output, "shape") else type(output)
        raise TypeError(f"return a tensor [B, D, rows, columns]; {came} came")
    canvas = torch.zeros(4, 4, 24, 24)
    batch, channels, rows, columns = output.shape
    canvas[:batch, :channels, :rows, :columns] = output[:4, :4, :24, :24].detach()
    return {"the size": torch.tensor(output.shape), "the values": canvas}


def _by_torch_transposed(x, weight, stride, padding):
    """Return the transposed convolution, by F.conv_transpose2d."""
    return F.conv_transpose2d(x, weight, stride=stride, padding=padding)


EXERCISES["9.2.1"] = Exercise(
    minutes=15,
    stars=3,
    cases=_transposed_cases,
    reference=_by_torch_transposed,
    against="F.conv_transpose2d",
    play=_play_transposed,
    mistakes={
        "You do not cut `padding` rows and columns off: here padding makes the output "
        "smaller.": _padding_not_cut,
        "You cut `padding` off at the top and on the left only: cut it off at all four "
        "sides.": _padding_cut_once,
        "You cut `padding` off at the bottom and on the right only: cut it off at all "
        "four sides.": _padding_cut_at_the_end,
        "With a padding of 0 your slice is `0:-0`, which is empty: count its end from "
        "the start.": _padding_minus_zero,
        "You cut off twice as much as `padding` at each side.": _padding_cut_twice,
        "You add zeros around the input. Here `padding` is cut off the "
        "output.": _padding_of_the_input,
        "Where kernels overlap you keep the last one only: add them up, with "
        "+=.": _overwritten,
        "Your kernel comes out mirrored. Each value is multiplied by the kernel as it "
        "is; if you call conv2d, flip the kernel first.": _kernel_flipped,
        "Rows and columns of the kernel are swapped.": _kernel_transposed,
        "You add the channels up first: each input channel has its own kernels, and "
        "the products are added.": _channels_summed,
        "Your output has `stride` times the size of the input. The last kernel reaches "
        "farther: (n - 1) * stride + k.": _size_without_overhang,
        "Your kernels lie one pixel apart: they lie `stride` pixels "
        "apart.": _stride_ignored,
    },
    hints=(
        "Before the cut, the output has (H - 1) * stride + k rows. Start from zeros.",
        "For one place of the input, torch.einsum('bc,cdij->bdij', values, weight) "
        "gives what is added.",
        "The value at (row, column) is added to the k x k pixels that begin at "
        "(row * stride, column * stride).",
    ),
    atol=1e-5,
)

# 9.2.2: the Frechet distance


def _frechet(
    features_a,
    features_b,
    shift=lambda a, b: (a.mean(0) - b.mean(0)).square().sum(),
    covariance=lambda x: torch.cov(x.T),
    root=None,
    factor=2.0,
):
    """Return the Frechet distance, or with an option one with a mistake."""
    a, b = features_a.double(), features_b.double()
    of_a, of_b = covariance(a), covariance(b)
    if root is None:
        both = torch.linalg.eigvals(of_a @ of_b).real.clamp(min=0).sqrt().sum()
    else:
        both = root(of_a, of_b)
    return (shift(a, b) + of_a.trace() + of_b.trace() - factor * both).item()


def _frechet_option(**options) -> Callable:
    """Return the distance with options set."""

    def frechet(features_a, features_b):
        return _frechet(features_a, features_b, **options)

    return frechet


def _by_scipy_frechet(features_a, features_b):
    """Return the Frechet distance with the matrix root of scipy.linalg.sqrtm."""
    a, b = features_a.double().numpy(), features_b.double().numpy()
    of_a, of_b = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(of_a @ of_b).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(shift + np.trace(of_a + of_b - 2 * root))


def _product_of_roots(of_a, of_b):
    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    return (root(of_a) @ root(of_b)).trace()


def _eigenvalues_of_sum(of_a, of_b):
    return torch.linalg.eigvalsh(of_a + of_b).clamp(min=0).sqrt().sum()


def _frechet_cases() -> list[Case]:
    """Return equal sets, a pure shift, a pure stretch, a rotation, and unequal sets."""
    draw = torch.Generator().manual_seed(922)

    def normal(n, d, mixed=True):
        x = torch.randn(n, d, generator=draw)
        return x @ torch.randn(d, d, generator=draw) if mixed else x

    x, spread = normal(40, 3), torch.tensor([3.0, 1.0])
    flat = normal(60, 2, mixed=False) * spread
    return [
        Case({"features_a": x, "features_b": x.flip(0)}, "the sets are the same"),
        Case({"features_a": x, "features_b": x + 2}, "only the means differ"),
        Case({"features_a": x, "features_b": 3 * x}, "is the mean of x zero?"),
        Case(
            {"features_a": flat, "features_b": flat.flip(1)},
            "the spreads are equal, their directions are not",
        ),
        Case({"features_a": normal(30, 2), "features_b": normal(50, 2) + 1}, ""),
        Case({"features_a": 5 + normal(80, 4), "features_b": normal(20, 4)}, ""),
        Case({"features_a": normal(200, 6), "features_b": normal(200, 6)}, ""),
    ]


EXERCISES["9.2.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_frechet_cases,
    reference=_by_scipy_frechet,
    against="with scipy.linalg.sqrtm",
    mistakes={
        "You take the distance of the means as it is: it is squared.": _frechet_option(
            shift=lambda a, b: (a.mean(0) - b.mean(0)).norm()
        ),
        "You average over the features where the squared distance of the means is a "
        "sum.": _frechet_option(
            shift=lambda a, b: (a.mean(0) - b.mean(0)).square().mean()
        ),
        "The means do not count in your distance: add their squared "
        "distance.": _frechet_option(shift=lambda a, b: torch.zeros(())),
        "You take the root of each element. A matrix root R has R @ R = C: use the "
        "eigenvalues.": _frechet_option(
            root=lambda a, b: (a @ b).clamp(min=0).sqrt().trace()
        ),
        "You use the variances only, and leave out the covariances between the "
        "features.": _frechet_option(
            root=lambda a, b: (a.diag() * b.diag()).sqrt().sum()
        ),
        "You add the two roots' traces. It is the root of the *product* of the "
        "covariances.": _frechet_option(
            root=lambda a, b: (
                torch.linalg.eigvalsh(a).clamp(min=0).sqrt().sum()
                + torch.linalg.eigvalsh(b).clamp(min=0).sqrt().sum()
            )
        ),
        "You use eigvalsh, which takes the product for symmetric: C_a C_b is not. Use "
        "torch.linalg.eigvals.": _frechet_option(
            root=lambda a, b: torch.linalg.eigvalsh(a @ b).clamp(min=0).sqrt().sum()
        ),
        "You take the singular values of the product. They are its eigenvalues only if "
        "it is symmetric, and C_a C_b is not.": _frechet_option(
            root=lambda a, b: torch.linalg.svdvals(a @ b).sqrt().sum()
        ),
        "You take the root of the trace. The trace of the root is the sum of the roots "
        "of the eigenvalues.": _frechet_option(
            root=lambda a, b: (a @ b).trace().sqrt()
        ),
        "You multiply the two roots. It is the root of the product, which is another "
        "matrix unless C_a and C_b commute.": _frechet_option(root=_product_of_roots),
        "You take the root of the sum of the covariances: it is the root of their "
        "matrix product.": _frechet_option(root=_eigenvalues_of_sum),
        "You multiply the covariances element by element: C_a C_b is a matrix product, "
        "`@`.": _frechet_option(
            root=lambda a, b: torch.linalg.eigvals(a * b).real.clamp(min=0).sqrt().sum()
        ),
        "You forget the root: the trace of the product itself is "
        "subtracted.": _frechet_option(root=lambda a, b: (a @ b).trace()),
        "You subtract the root once: it counts twice.": _frechet_option(factor=1.0),
        "You do not subtract the mean before you build the covariance: use "
        "torch.cov.": _frechet_option(covariance=lambda x: x.T @ x / (len(x) - 1)),
        "Your covariance divides by N. Divide by N - 1, as torch.cov "
        "does.": _frechet_option(covariance=lambda x: torch.cov(x.T, correction=0)),
        "You return the root of the distance. The Frechet distance of this lesson is "
        "the squared one, as FID.": lambda features_a, features_b: (
            max(_frechet(features_a, features_b), 0.0) ** 0.5
        ),
    },
    hints=(
        "torch.cov takes the features as rows: give it the transpose.",
        "The trace of a matrix is the sum of its eigenvalues, and those of a root are "
        "the roots of the eigenvalues.",
        "torch.linalg.eigvals(C_a @ C_b) are real and not negative but for rounding: "
        "take .real and .clamp(min=0).",
    ),
    rtol=1e-3,
    atol=1e-3,
)

# 9.3.1: the largest singular value by power iteration


def _by_torch_spectral(weight, v, steps):
    """Return the estimate that torch's spectral_norm divides by."""
    inputs, outputs = weight[0].numel(), len(weight)
    layer = nn.utils.parametrizations.spectral_norm(
        nn.Linear(inputs, outputs, bias=False), n_power_iterations=steps
    )
    inner = layer.parametrizations.weight
    with torch.no_grad():
        inner.original.copy_(weight.flatten(1))
        inner[0]._v.copy_(F.normalize(v, dim=0))
        limited = layer.weight
    return float(weight.norm() / limited.norm())


def _power(
    weight,
    v,
    steps,
    matrix_of=lambda weight: weight.flatten(1),
    unit=lambda x: F.normalize(x, dim=0),
    unit_v=None,
    answer=lambda u, matrix, v: u @ matrix @ v,
    repeat=lambda steps: steps,
) -> float:
    """Return the estimate, or with an option one with a mistake."""
    matrix = matrix_of(weight)
    for _ in range(repeat(steps)):
        u = unit(matrix @ v)
        v = (unit_v or unit)(matrix.T @ u)
    return float(answer(u, matrix, v))


def _power_option(**options) -> Callable:
    """Return the estimate with options set."""

    def spectral_norm(weight, v, steps):
        return _power(weight, v, steps, **options)

    return spectral_norm


def _power_from_ones(weight, v, steps):
    return _power(weight, torch.ones_like(v), steps)


def _half_a_step_behind(weight, v, steps):
    matrix = weight.flatten(1)
    for _ in range(steps):
        before = v
        u = F.normalize(matrix @ v, dim=0)
        v = F.normalize(matrix.T @ u, dim=0)
    return float(u @ matrix @ F.normalize(before, dim=0))


def _spectral_cases() -> list[Case]:
    """Return a diagonal matrix, wide and tall ones, kernels; few and many steps."""
    draw = torch.Generator().manual_seed(931)
    diagonal = torch.tensor([[3.0, 0.0], [0.0, -5.0]])
    kernel = "a kernel becomes a matrix with one row for each output channel"
    cases = [
        Case({"weight": diagonal, "v": torch.tensor([1.0, 1.0]), "steps": 1}),
        Case({"weight": diagonal, "v": torch.tensor([4.0, 1.0]), "steps": 3}),
    ]
    for shape, steps in (((3, 5), 1), ((6, 2), 2), ((4, 4), 30)):
        weight = torch.randn(shape, generator=draw)
        v = torch.randn(shape[1], generator=draw)
        cases.append(Case({"weight": weight, "v": v, "steps": steps}))
    for shape, steps in (((4, 2, 3, 3), 1), ((2, 3, 2, 2), 2), ((5, 1, 4, 4), 20)):
        weight = torch.randn(shape, generator=draw)
        v = torch.randn(weight[0].numel(), generator=draw)
        cases.append(Case({"weight": weight, "v": v, "steps": steps}, kernel))
    return cases


EXERCISES["9.3.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_spectral_cases,
    reference=_by_torch_spectral,
    against="with torch.nn.utils.parametrizations.spectral_norm",
    mistakes={
        "You return the Frobenius norm, the root of the sum of all squares. Asked is "
        "the largest singular value.": lambda weight, v, steps: float(weight.norm()),
        "You return the exact value. Asked is the estimate after `steps` repetitions "
        "from `v`.": lambda weight, v, steps: float(
            torch.linalg.matrix_norm(weight.flatten(1), 2)
        ),
        "You do not use `v`: the iteration begins with it.": _power_from_ones,
        "You make one repetition, whatever `steps` says.": _power_option(
            repeat=lambda steps: 1
        ),
        "You make one repetition too many.": _power_option(
            repeat=lambda steps: steps + 1
        ),
        "You do not divide u and v by their lengths: the estimate grows with each "
        "repetition.": _power_option(unit=lambda x: x),
        "You do not divide v by its length after each repetition, so your answer is a "
        "square.": _power_option(unit_v=lambda x: x),
        "You return the estimate with the v from before the last update.": (
            _half_a_step_behind
        ),
        "You return |W v|, which is half a repetition further: asked is u W v with the "
        "u of the last repetition.": _power_option(
            answer=lambda u, matrix, v: (matrix @ v).norm()
        ),
        "Your rows are not the output channels: a kernel's matrix is "
        "weight.flatten(1).": _power_option(
            matrix_of=lambda weight: weight.reshape(weight[0].numel(), -1).T
        ),
    },
    hints=(
        "weight.flatten(1) is the matrix, for a linear layer and for a kernel.",
        "F.normalize(x, dim=0) divides a vector by its length.",
        "In each repetition first u from v, then v from u; at the end u @ W @ v.",
    ),
    rtol=1e-3,
    atol=1e-4,
)

# 9.3.2: both losses with augmentation


def _play_augmented(
    answer: Callable, discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor
) -> dict:
    """Return both losses and the gradients that they give the fakes."""
    fake = fake.clone().requires_grad_()

    def augment(images: torch.Tensor) -> torch.Tensor:
        """Return the images, twice as bright, and the pixels in another order."""
        return 2 * images.flip(1) + 0.3

    loss_d, loss_g = answer(discriminator, real, fake, augment)
    for name, loss in (("first", loss_d), ("second", loss_g)):
        if not isinstance(loss, torch.Tensor):
            raise TypeError(
                f"return two tensors; the {name} is a {type(loss).__name__}"
            )

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        if not loss.requires_grad:
            return torch.zeros_like(fake)
        (found,) = torch.autograd.grad(loss, fake, retain_graph=True, allow_unused=True)
        return torch.zeros_like(fake) if found is None else found

    def weights(loss: torch.Tensor) -> torch.Tensor:
        own = [*discriminator.parameters()]
        if not loss.requires_grad:
            return torch.cat([torch.zeros_like(w).flatten() for w in own])
        found = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
        pairs = zip(own, found, strict=True)
        found = [torch.zeros_like(w) if g is None else g for w, g in pairs]
        return torch.cat([g.flatten() for g in found])

    return {
        "the discriminator's loss": loss_d,
        "the generator's loss": loss_g,
        "the gradient of the discriminator's loss in the fakes": gradient(loss_d),
        "the gradient of the generator's loss in the fakes": gradient(loss_g),
        "the gradient of the discriminator's loss in its weights": weights(loss_d),
    }


def _augmented(
    discriminator,
    real,
    fake,
    augment,
    use=(True, True, True),
    detach=(True, False),
    loss_of_d=lambda on_real, on_fake: _bce(on_real, 1.0) + _bce(on_fake, 0.0),
    loss_of_g=lambda on_fake: _bce(on_fake, 1.0),
    swap=False,
):
    """Return both losses, or with an option a mistake."""

    def seen(images, number):
        return discriminator(augment(images) if use[number] else images)

    for_d = fake.detach() if detach[0] else fake
    for_g = fake.detach() if detach[1] else fake
    loss_d = loss_of_d(seen(real, 0), seen(for_d, 1))
    loss_g = loss_of_g(seen(for_g, 2))
    return (loss_g, loss_d) if swap else (loss_d, loss_g)


def _logits_detached(discriminator, real, fake, augment):
    loss_d, loss_g = _augmented(discriminator, real, fake, augment)
    return loss_d.detach(), loss_g


def _fake_logits_detached(discriminator, real, fake, augment):
    loss_d, loss_g = _augmented(discriminator, real, fake, augment)
    on_fake = discriminator(augment(fake)).detach()
    on_real = discriminator(augment(real))
    return _bce(on_real, 1.0) + _bce(on_fake, 0.0), loss_g


def _augmented_option(**options) -> Callable:
    """Return the losses with options set."""

    def augmented_losses(discriminator, real, fake, augment):
        return _augmented(discriminator, real, fake, augment, **options)

    return augmented_losses


def _augmented_cases() -> list[Case]:
    """Return one real and one fake, unequal numbers, and several pixels."""
    draw = torch.Generator().manual_seed(932)
    cases = []
    for n_real, n_fake, pixels in ((1, 1, 2), (4, 2, 3), (3, 5, 4)):
        discriminator = nn.Linear(pixels, 1)
        with torch.no_grad():
            for parameter in discriminator.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
        cases.append(
            Case(
                {
                    "discriminator": discriminator,
                    "real": torch.rand(n_real, pixels, generator=draw),
                    "fake": torch.rand(n_fake, pixels, generator=draw),
                },
                "does the discriminator get augmented images, and both losses a mean?",
            )
        )
    return cases


EXERCISES["9.3.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_augmented_cases,
    reference=_augmented,
    against="with F.binary_cross_entropy_with_logits",
    play=_play_augmented,
    mistakes={
        "You augment the real images only: the fakes then learn to look "
        "augmented.": _augmented_option(use=(True, False, False)),
        "You augment the fakes only: the discriminator then tells them by the "
        "augmentation.": _augmented_option(use=(False, True, True)),
        "Nothing is augmented: the discriminator sees augment(images).": (
            _augmented_option(use=(False, False, False))
        ),
        "In the generator's loss the fakes are not augmented: the discriminator never "
        "sees such images.": _augmented_option(use=(True, True, False)),
        "In the discriminator's loss the fakes are not augmented.": _augmented_option(
            use=(True, False, True)
        ),
        "In the discriminator's loss the real images are not augmented.": (
            _augmented_option(use=(False, True, False))
        ),
        "The discriminator's loss gives the fakes a gradient: cut it off with "
        ".detach().": _augmented_option(detach=(False, False)),
        "The generator's loss gives the fakes no gradient, so the generator cannot "
        "learn: no .detach() there.": _augmented_option(detach=(True, True)),
        "The discriminator's loss gives the discriminator no gradient: detach the "
        "fakes, not the loss or the logits.": _logits_detached,
        "You detach the logits of the fakes, so the discriminator does not learn from "
        "them: detach the fakes.": _fake_logits_detached,
        "You detach in the generator's loss and not in the discriminator's: it is the "
        "other way round.": _augmented_option(detach=(False, True)),
        "You return the losses in the other order: first the discriminator's.": (
            _augmented_option(swap=True)
        ),
        "The generator's loss has the label 0: it should make the discriminator say "
        "1.": _augmented_option(loss_of_g=lambda on_fake: _bce(on_fake, 0.0)),
        "This is the minimax loss of the generator; asked is the non-saturating "
        "one.": _augmented_option(loss_of_g=lambda on_fake: -_bce(on_fake, 0.0)),
        "The discriminator's labels are swapped: 1 for real, 0 for fake.": (
            _augmented_option(
                loss_of_d=lambda on_real, on_fake: (
                    _bce(on_real, 0.0) + _bce(on_fake, 1.0)
                )
            )
        ),
        "You add up the losses of all images: take the mean over the real images, and "
        "over the fakes.": _augmented_option(
            loss_of_d=lambda on_real, on_fake: (
                len(on_real) * _bce(on_real, 1.0) + len(on_fake) * _bce(on_fake, 0.0)
            ),
            loss_of_g=lambda on_fake: len(on_fake) * _bce(on_fake, 1.0),
        ),
        "You halve the discriminator's loss: add the two means.": _augmented_option(
            loss_of_d=lambda on_real, on_fake: (
                (_bce(on_real, 1.0) + _bce(on_fake, 0.0)) / 2
            )
        ),
    },
    hints=(
        "Three calls of the discriminator, and each gets augment(...) of something.",
        "F.softplus(-logits).mean() for the label 1, F.softplus(logits).mean() for 0.",
        "fake.detach() in the discriminator's loss; fake itself in the generator's.",
    ),
)
