"""The exercises of chapter 01: neural networks by hand."""

import functools

import numpy as np
import torch
import torch.nn.functional as F

from utils.exercises import Case, Exercise

EXERCISES: dict[str, Exercise] = {}


# 1.1 Feed forward propagation


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _networks() -> list[Case]:
    """Return inputs of a network with one hidden layer, all [out, in]."""
    rng = np.random.default_rng(0)
    question = (
        "compare the shapes: x is [N, in], w1 [hidden, in], w2 [out, hidden], so what "
        "must be transposed? (`sigmoid` above takes whole arrays, `math.exp` only one "
        "number.)"
    )
    pair = np.array([[0.8, 0.4]])
    edges = {
        "w1": np.array([[10.0, -10.0], [-10.0, 10.0], [4.0, 4.0]]),
        "b1": np.array([-3.0, -3.0, -4.0]),
        "w2": np.array([[6.0, 6.0, -3.0]]),
        "b2": np.array([-2.5]),
    }
    cases = [Case({"x": x, **edges}, question) for x in (pair, np.eye(2))]
    # examples, inputs, hidden neurons, outputs; where all are equal, nothing raises
    for n, inputs, hidden, outputs in [(4, 2, 1, 2), (3, 3, 3, 3), (5, 4, 2, 3)]:
        arrays = {
            "x": rng.normal(size=(n, inputs)),
            "w1": rng.normal(size=(hidden, inputs)),
            "b1": rng.normal(size=hidden),
            "w2": rng.normal(size=(outputs, hidden)),
            "b2": rng.normal(size=outputs),
        }
        cases.append(Case(arrays, question))
    return cases


def _forward_by_torch(*arrays):
    x, w1, b1, w2, b2 = map(torch.from_numpy, arrays)
    return torch.sigmoid(F.linear(torch.sigmoid(F.linear(x, w1, b1)), w2, b2))


EXERCISES["1.1.1"] = Exercise(
    minutes=10,
    stars=1,
    cases=_networks,
    reference=_forward_by_torch,
    against="torch.nn.functional.linear and torch.sigmoid",
    mistakes={
        "The hidden layer has no activation: its sums, too, must go through "
        "`sigmoid`.": (lambda x, w1, b1, w2, b2: _sigmoid((x @ w1.T + b1) @ w2.T + b2)),
        "You return the sums of the output layer: they must go through `sigmoid`.": (
            lambda x, w1, b1, w2, b2: _sigmoid(x @ w1.T + b1) @ w2.T + b2
        ),
        "The bias of the hidden layer is missing.": (
            lambda x, w1, b1, w2, b2: _sigmoid(_sigmoid(x @ w1.T) @ w2.T + b2)
        ),
        "The bias of the output layer is missing.": (
            lambda x, w1, b1, w2, b2: _sigmoid(_sigmoid(x @ w1.T + b1) @ w2.T)
        ),
        "There is no `sigmoid` at all: the sums of both layers must go through it.": (
            lambda x, w1, b1, w2, b2: (x @ w1.T + b1) @ w2.T + b2
        ),
        "There is no bias at all: each layer adds its own to its sums.": (
            lambda x, w1, b1, w2, b2: _sigmoid(_sigmoid(x @ w1.T) @ w2.T)
        ),
        "You add the biases after the activation: they belong to the sums inside.": (
            lambda x, w1, b1, w2, b2: _sigmoid((_sigmoid(x @ w1.T) + b1) @ w2.T) + b2
        ),
    },
    hints=(
        "Start with the shapes: [N, in] times which matrix gives [N, hidden]?",
        "Both layers do the same: a product with the transposed weights, plus the "
        "bias, through `sigmoid`.",
        "What the first layer returns is the input of the second, in place of `x`.",
    ),
    rtol=1e-6,  # float32 answers are right
    atol=1e-6,
)


def _logits() -> list[Case]:
    """Return one row [K] or a batch [N, K] of logits, small and huge ones."""
    rng = np.random.default_rng(1)
    axis = (
        "z may be one row [K] or a batch [N, K]: which number names the last axis of "
        "both?"
    )
    shape = (
        "the powers have the shape [2, 3]: which shape must their sums have, so that "
        "each row is divided by its own?"
    )
    cases = [
        Case({"z": np.array(row)}, axis)
        for row in ([2.0, 1.0, 0.0], [5.0], [1000.0, 999.0, 998.0])
    ]
    cases += [
        Case({"z": np.array(batch)}, shape)
        for batch in (
            [[2.0, 1.0, 0.0], [0.0, 0.5, -3.0]],
            [[-1000.0, -1001.0, -1002.0], [3.0, 3.0, 3.0]],
            [[1000.0, 0.0, -1000.0], [0.0, 1.0, 2.0]],
            # in the second row all powers are 0 beside the first row's largest
            [[1000.0, 998.0, 999.0], [-1000.0, -999.0, -1001.0]],
        )
    ]
    # as many examples as classes: a sum without `keepdims` raises nothing
    cases.append(Case({"z": 3 * rng.normal(size=(3, 3))}, shape))
    return cases


def _shifted_softmax(z, shift, axis: int | None = -1):
    with np.errstate(all="ignore"):  # what overflows here is known
        powers = np.exp(z - shift)
        return powers / powers.sum(axis=axis, keepdims=True)


def _half_shifted_softmax(z):
    with np.errstate(all="ignore"):
        above = np.exp(z - z.max(axis=-1, keepdims=True))
        return above / np.exp(z).sum(axis=-1, keepdims=True)


EXERCISES["1.1.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_logits,
    reference=lambda z: F.softmax(torch.from_numpy(z), dim=-1),
    against="torch.nn.functional.softmax",
    mistakes={
        "Large logits give nan: e^1000 is infinite as a float. Lower each row of "
        "logits first, so that no power exceeds 1.": lambda z: _shifted_softmax(z, 0),
        "You subtract the largest logit of the whole batch. In a row far below it all "
        "powers are 0, and 0/0 is nan: each row needs its own largest.": (
            lambda z: _shifted_softmax(z, z.max())
        ),
        "Each column adds up to 1, because you go along the examples: the classes lie "
        "along the last axis.": (
            lambda z: _shifted_softmax(z, z.max(axis=0, keepdims=True), axis=0)
        ),
        "Without an axis, all probabilities of the batch together add up to 1: each "
        "row must, by itself.": lambda z: _shifted_softmax(z, z.max(), axis=None),
        "You subtract the mean of the row, and its largest logit may still lie far "
        "above 0: subtract what leaves none above 0.": (
            lambda z: _shifted_softmax(z, z.mean(axis=-1, keepdims=True))
        ),
        "You cut the logits off at a limit, so 1000 and 999 become equal: move the row "
        "as a whole, which changes no difference.": (
            lambda z: _shifted_softmax(np.clip(z, -700, 700), 0)
        ),
        "You shift the powers above the line only: those in the sum need the same "
        "shift.": _half_shifted_softmax,
    },
    hints=(
        "Change one thing in `softmax_formula`: what goes into `exp`?",
        "`z.max()` is the largest of the whole batch: which `axis` gives one for each "
        "row?",
        "`axis=-1` goes along the classes, and `keepdims=True` keeps the result a "
        "column, so that it meets each row.",
    ),
    rtol=1e-7,
    atol=1e-7,
)

# 1.5 Back propagation


def _layers() -> list[Case]:
    """Return delta, input and weights of single layers; first those done by hand."""
    rng = np.random.default_rng(2)
    question = "which index is added up, and does it lie side by side in your product?"
    by_hand = {
        "delta": np.array([[1.0, -2.0]]),
        "a_in": np.array([[3.0, 0.5, -1.0]]),
        "weight": np.array([[1.0, 0.0, 2.0], [-1.0, 4.0, 0.5]]),
    }
    cases = [
        Case(by_hand, question),
        Case({name: array[:1, :1] for name, array in by_hand.items()}),
        Case({**by_hand, "delta": np.zeros((1, 2))}, question),
    ]
    # examples, inputs, outputs; where all are equal, nothing raises
    for n, inputs, outputs in [(2, 3, 1), (3, 3, 3), (6, 4, 5)]:
        shapes = ((n, outputs), (n, inputs), (outputs, inputs))
        arrays = (rng.normal(size=shape).round(2) for shape in shapes)
        cases.append(Case(dict(zip(by_hand, arrays, strict=True)), question))
    return cases


def _layer_by_torch(delta, a_in, weight):
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    a_in, weight = (torch.tensor(x, requires_grad=True) for x in (a_in, weight))
    z = F.linear(a_in, weight, bias)
    return torch.autograd.grad(z, (weight, bias, a_in), torch.from_numpy(delta))


EXERCISES["1.5.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_layers,
    reference=_layer_by_torch,
    against="torch.autograd.grad of torch.nn.functional.linear",
    mistakes={
        "You average the bias gradient over the batch: delta comes from the mean loss "
        "and holds its 1/B already, so add up.": (
            lambda d, a, w: (d.T @ a, d.mean(axis=0), d @ w)
        ),
        "You divide the gradients of weight and bias by B: delta comes from the mean "
        "loss and holds its 1/B already.": (
            lambda d, a, w: (d.T @ a / len(d), d.mean(axis=0), d @ w)
        ),
        "You divide all three gradients by B: delta comes from the mean loss and holds "
        "its 1/B already.": (
            lambda d, a, w: (d.T @ a / len(d), d.mean(axis=0), d @ w / len(d))
        ),
        "You multiply the gradient of a_in by the slope of tanh. That step belongs to "
        "the layer below: here, return the gradient of a_in itself.": (
            lambda d, a, w: (d.T @ a, d.sum(axis=0), d @ w * (1 - a**2))
        ),
        "You add up over the batch before you multiply: in the weight gradient each "
        "example's delta meets that example's own inputs.": (
            lambda d, a, w: (np.outer(d.sum(0), a.sum(0)), d.sum(axis=0), d @ w)
        ),
        "Your signs are those of a step downhill: return the gradients, the minus "
        "comes with the update.": lambda d, a, w: (-d.T @ a, -d.sum(axis=0), -d @ w),
    },
    hints=(
        "A gradient has the shape of what it belongs to. First write the shape beside "
        "each of the three lines.",
        "Each line is one formula of the table. In a matrix product the index that is "
        "added up stands last in the left factor and first in the right one.",
        "The gradients of weights and biases add up over the examples, that of `a_in` "
        "over the outputs. With `weight` as [out, in] the latter transposes nothing.",
    ),
)


def _deep_networks() -> list[Case]:
    """Return weights, activations and labels of tanh networks with 1 to 4 layers."""
    rng = np.random.default_rng(3)
    question = (
        "compare the shapes in the line that raised: which layer does each array "
        "belong to?"
    )
    cases = []
    # the widths and the examples; where all widths are equal, nothing raises
    for n, widths in [
        (1, [2, 2]),
        (3, [3, 2]),
        (1, [2, 3, 2]),
        (3, [3, 3, 3, 3]),
        (2, [4, 5, 2]),
        (5, [2, 6, 3, 4, 3]),
    ]:
        activations, weights = [rng.normal(size=(n, widths[0])).round(2)], []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            weights.append((0.8 * rng.normal(size=(outputs, inputs))).round(2))
            z = activations[-1] @ weights[-1].T + rng.normal(size=outputs).round(2) / 2
            activations.append(np.tanh(z))
        activations[-1] = z  # the logits
        labels = rng.integers(widths[-1], size=n)
        arrays = {"weights": weights, "activations": activations, "labels": labels}
        cases.append(Case(arrays, question))
    return cases


def _backward_by_torch(weights, activations, labels):
    weights = [torch.tensor(w, requires_grad=True) for w in weights]
    activations = [torch.from_numpy(a) for a in activations]
    sums = [*map(torch.atanh, activations[1:-1]), activations[-1]]
    biases = [  # what is left of a layer's sums without its weights
        (z - a @ w.T)[0].detach().requires_grad_()
        for z, a, w in zip(sums, activations[:-1], weights, strict=True)
    ]
    z = F.linear(activations[0], weights[0], biases[0])
    for w, b in zip(weights[1:], biases[1:], strict=True):
        z = F.linear(torch.tanh(z), w, b)
    loss = F.cross_entropy(z, torch.from_numpy(labels))
    gradients = torch.autograd.grad(loss, [*weights, *biases])
    return list(gradients[: len(weights)]), list(gradients[len(weights) :])


def _backward(
    weights,
    activations,
    labels,
    softmax: bool = True,
    softmax_axis: int = 1,
    true_class: float = 1,
    sign: int = 1,
    slope_of_tanh=lambda a: 1 - a**2,
    slope_at_the_end: bool = False,
    means: str = "one",
):
    """Return what `_backward_by_torch` does, or with an option what a mistake makes."""
    z = activations[-1]
    p = np.exp(z) / np.exp(z).sum(softmax_axis, keepdims=True) if softmax else z
    delta = sign * (p - true_class * np.eye(z.shape[1])[labels])
    delta = delta / len(labels) ** {"none": 0, "twice": 2}.get(means, 1)
    if slope_at_the_end:
        delta = delta * slope_of_tanh(z)
    for_weights, for_biases = [], []
    for w, a in zip(reversed(weights), reversed(activations[:-1]), strict=True):
        for_weights.insert(0, delta.T @ a)
        add_up = np.mean if means == "bias" else np.sum
        for_biases.insert(0, add_up(delta, axis=0))
        delta = delta @ w * slope_of_tanh(a)
        delta = delta / (len(labels) if means == "each layer" else 1)
    return for_weights, for_biases


EXERCISES["1.5.2"] = Exercise(
    minutes=20,
    stars=3,
    cases=_deep_networks,
    reference=_backward_by_torch,
    against="torch.autograd.grad",
    mistakes={
        "Your gradients are B times too large: the loss is the mean over the batch, so "
        "the first delta has to be divided by B.": (
            functools.partial(_backward, means="none")
        ),
        "You divide by B again in each layer: the 1/B of the mean loss enters once, at "
        "the last layer, and travels back with delta.": (
            functools.partial(_backward, means="each layer")
        ),
        "You leave out the slope of tanh: on its way back delta has to pass the "
        "activation, too.": functools.partial(_backward, slope_of_tanh=np.ones_like),
        "You apply tanh once more to find its slope: `activations` holds what came out "
        "of tanh, not the sums that went in.": (
            functools.partial(_backward, slope_of_tanh=lambda a: 1 - np.tanh(a) ** 2)
        ),
        "That is the slope of the sigmoid: the hidden layers here use tanh.": (
            functools.partial(_backward, slope_of_tanh=lambda a: a * (1 - a))
        ),
        "You multiply the first delta by a slope of tanh: the last layer has no "
        "activation, its outputs are the logits.": (
            functools.partial(_backward, slope_at_the_end=True)
        ),
        "Your first delta is made of logits: it starts from the probabilities.": (
            functools.partial(_backward, softmax=False)
        ),
        "Your gradients point the wrong way: delta starts from p - y, not y - p.": (
            functools.partial(_backward, sign=-1)
        ),
        "Your first delta is p alone: subtract 1 at the true class.": (
            functools.partial(_backward, true_class=0)
        ),
        "You average the bias gradients over the batch: delta holds its 1/B already, "
        "so add up.": functools.partial(_backward, means="bias"),
        "Your gradients are B times too small: the 1/B of the mean loss enters once, "
        "with the first delta.": functools.partial(_backward, means="twice"),
        "Your softmax runs over the batch: it needs axis=1.": (
            functools.partial(_backward, softmax_axis=0)
        ),
    },
    hints=(
        "Begin with the delta of the logits, [B, C], for the mean loss. Then loop over "
        "the layers from the last to the first.",
        "In the loop: `layer_backward` with the delta of this layer, the activations "
        "that went into it, and its weights. What is the next delta made of?",
        "`activations[layer]` went into layer `layer`, `activations[layer + 1]` came "
        "out. The slope you need is that of the tanh between this layer and the one "
        "below, and its output is at hand.",
    ),
    rtol=1e-9,
    atol=1e-9,
)
