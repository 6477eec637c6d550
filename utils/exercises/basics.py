"""The exercises of chapter 02: PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from utils.exercises import Case, Exercise
from utils.metrics import accuracy
from utils.training import evaluate, train_one_epoch

CPU = torch.device("cpu")


def _network(layers: str) -> nn.Sequential:
    """Return a small network, always the same, with the layers that `layers` names."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU())
    if "batch norm" in layers:
        network.append(nn.BatchNorm1d(16))
    if "dropout" in layers:
        network.append(nn.Dropout(0.4))
    network.append(nn.Linear(16, 3))
    return network


def _loader(images: int, batch_size: int) -> DataLoader:
    """Return a loader of so many random images [1, 3, 4] of three classes."""
    generator = torch.Generator().manual_seed(2)
    data = torch.rand(images, 1, 3, 4, generator=generator)
    labels = torch.randint(3, (images,), generator=generator)
    return DataLoader(TensorDataset(2 * data, labels), batch_size)


def _margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return a loss that is not cross-entropy."""
    return F.multi_margin_loss(logits, labels, margin=2.0)


LOSSES = {"cross-entropy": F.cross_entropy, "margin": _margin}


def _play_steps(
    step: Callable,
    network: str,
    images: int,
    batch_size: int,
    loss: str,
    optimizer: str,
) -> dict[str, Any] | None:
    """Train a small network for one epoch with the step of the reader."""
    model = _network(network)
    chosen = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1)
    steps: list[int] = []
    chosen.register_step_post_hook(lambda *_: steps.append(1))
    model.eval()  # as an evaluation leaves it
    for parameter in model.parameters():  # gradients of something before the loop
        parameter.grad = torch.ones_like(parameter)
    torch.manual_seed(3)
    losses = [
        step(model, *batch, LOSSES[loss], chosen)
        for batch in _loader(images, batch_size)
    ]
    if any(value is None for value in losses):
        return None
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {
        "the calls of optimizer.step": len(steps),
        "model.training afterwards": model.training,
        "a returned loss that carries its graph": any(
            isinstance(value, torch.Tensor) and value.requires_grad for value in losses
        ),
        "each returned loss a plain number": all(
            isinstance(value, float) for value in losses
        ),
        "the returned losses": losses,
        "the weights afterwards": weights,
    }


def _play_evaluation(
    measure: Callable, network: str, images: int, batch_size: int, loss: str
) -> dict[str, Any] | None:
    """Measure a small network that has just been trained with the reader's function."""
    model = _network(network)
    graphs: list[bool] = []
    model.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    model.train()  # as a training step leaves it
    torch.manual_seed(3)
    result = measure(model, _loader(images, batch_size), LOSSES[loss], CPU)
    if result is None:
        return None
    return {
        "model.training afterwards": model.training,
        "the returned pair (loss, accuracy)": result,
        "a forward pass that records a graph": any(graphs),
    }


def _step(model, images, labels, loss_fn, optimizer) -> float:
    batch = [(images, labels)]
    options = {"loss_fn": loss_fn, "optimizer": optimizer}
    return train_one_epoch(model, batch, device=CPU, amp=False, **options)["loss"]


def _forgets_to_clear(model, images, labels, loss_fn, optimizer) -> float:
    model.train()
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def _clears_too_late(model, images, labels, loss_fn, optimizer) -> float:
    model.train()
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def _clears_after(model, images, labels, loss_fn, optimizer) -> float:
    loss = _forgets_to_clear(model, images, labels, loss_fn, optimizer)
    optimizer.zero_grad()
    return loss


def _forgets_to_step(model, images, labels, loss_fn, optimizer) -> float:
    model.train()
    loss = loss_fn(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def _forgets_train(model, images, labels, loss_fn, optimizer) -> float:
    loss = loss_fn(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _keeps_the_graph(model, images, labels, loss_fn, optimizer) -> torch.Tensor:
    model.train()
    loss = loss_fn(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def _returns_a_tensor(model, images, labels, loss_fn, optimizer) -> torch.Tensor:
    loss = _keeps_the_graph(model, images, labels, loss_fn, optimizer)
    return loss.detach()


def _softmax_first(model, images, labels, loss_fn, optimizer) -> float:
    def of_probabilities(logits, labels):
        return loss_fn(logits.softmax(1), labels)

    return _step(model, images, labels, of_probabilities, optimizer)


def _own_loss(model, images, labels, loss_fn, optimizer) -> float:
    return _step(model, images, labels, F.cross_entropy, optimizer)


GRAPH_LOST = (
    "if loss_fn raised: does it get the logits first and the labels second, without "
    "argmax? If backward() raised: is the loss still a tensor with its graph, without "
    "item(), detach() or no_grad()?"
)

TRAINING_STEP = Exercise(
    minutes=10,
    stars=2,
    cases=lambda: [
        Case(
            {
                "network": network,
                "images": images,
                "batch_size": size,
                "loss": loss,
                "optimizer": optimizer,
            },
            GRAPH_LOST,
        )
        for network, images, size, loss, optimizer in [
            ("two linear layers", 1, 1, "cross-entropy", "SGD"),
            ("two linear layers", 10, 4, "cross-entropy", "SGD"),
            ("with dropout", 9, 4, "cross-entropy", "SGD"),
            ("with dropout and batch norm", 10, 4, "cross-entropy", "Adam"),
            ("with dropout", 8, 3, "margin", "SGD"),
        ]
    ],
    play=_play_steps,
    reference=_step,
    against="utils.training.train_one_epoch",
    mistakes={
        "The gradients of the previous batch are still there when backward() adds the "
        "new ones: they have to be cleared in every step.": _forgets_to_clear,
        "You clear after the step, so gradients that were there before your first "
        "step are added in: clear before backward().": _clears_after,
        "optimizer.step() runs and no weight moves, so it finds no gradients: between "
        "backward() and step() nothing may clear them, and backward() must be "
        "called.": _clears_too_late,
        "The gradients are computed, and nothing uses them: the weights are what they "
        "were before. Which call changes them?": _forgets_to_step,
        "Your step computes in evaluation mode: call `model.train()`, since an "
        "evaluation leaves the model in the other mode, in which dropout and batch "
        "norm do not do what they should in training.": _forgets_train,
        "The loss that you return still carries its graph, which keeps the memory of "
        "the whole batch in use: return it as a plain number.": _keeps_the_graph,
        "The loss that you return is still a tensor, although without its graph: "
        "return a plain Python number.": _returns_a_tensor,
        "The logits pass through softmax before they reach the loss. Cross-entropy "
        "does that itself: hand it the logits.": _softmax_first,
        "Your step uses cross-entropy whatever loss it is given: call the argument "
        "loss_fn.": _own_loss,
    },
    hints=(
        "Five things, each one line: training mode, the loss of this batch (forward), "
        "clear the old gradients, compute the new ones (backward), update the weights.",
        "Four of them are method calls: one on the model, one on the loss, two on the "
        "optimizer. The fifth computes the loss, loss_fn of logits and labels, in this "
        "order.",
        "The loss must stay a tensor until backward() has run. Its number is what "
        "loss.item() gives, at the very end.",
    ),
)


def _measure(model, loader, loss_fn, device) -> tuple[float, float]:
    metrics = {"accuracy": accuracy}
    found = evaluate(
        model, loader, loss_fn=loss_fn, device=device, metrics=metrics, amp=False
    )
    return found["loss"], found["accuracy"]


def _batches(model, loader, loss_fn) -> list[tuple[float, int, int]]:
    """Return the mean loss, the right answers and the size of each batch."""
    found = []
    for images, labels in loader:
        logits = model(images)
        right = (logits.argmax(1) == labels).sum().item()
        found.append((loss_fn(logits, labels).item(), right, len(labels)))
    return found


def _means(batches: list[tuple[float, int, int]]) -> tuple[float, float]:
    """Return the mean loss and the share of right answers, over images."""
    losses, right, sizes = zip(*batches, strict=True)
    total = sum(loss * size for loss, size in zip(losses, sizes, strict=True))
    return total / sum(sizes), sum(right) / sum(sizes)


def _means_of_means(model, loader, loss_fn, device) -> tuple[float, float]:
    with torch.inference_mode():
        batches = _batches(model.eval(), loader, loss_fn)
    loss = sum(loss for loss, _, _ in batches) / len(batches)
    return loss, sum(right / size for _, right, size in batches) / len(batches)


def _loss_by_batches(model, loader, loss_fn, device) -> tuple[float, float]:
    loss, _ = _means_of_means(model, loader, loss_fn, device)
    return loss, _measure(model, loader, loss_fn, device)[1]


def _accuracy_by_batches(model, loader, loss_fn, device) -> tuple[float, float]:
    _, share = _means_of_means(model, loader, loss_fn, device)
    return _measure(model, loader, loss_fn, device)[0], share


def _not_weighted(model, loader, loss_fn, device) -> tuple[float, float]:
    with torch.inference_mode():
        batches = _batches(model.eval(), loader, loss_fn)
    loss = sum(loss for loss, _, _ in batches) / sum(size for _, _, size in batches)
    return loss, _means(batches)[1]


def _counts_right_ones(model, loader, loss_fn, device) -> tuple[float, float]:
    loss, share = _measure(model, loader, loss_fn, device)
    return loss, share * len(loader.dataset)


def _percent(model, loader, loss_fn, device) -> tuple[float, float]:
    loss, share = _measure(model, loader, loss_fn, device)
    return loss, 100 * share


def _switches_back(model, loader, loss_fn, device) -> tuple[float, float]:
    found = _measure(model, loader, loss_fn, device)
    model.train()
    return found


def _modes_ignored(model, loader, loss_fn, device) -> tuple[float, float]:
    with torch.inference_mode():
        return _means(_batches(model, loader, loss_fn))


def _graph_recorded(model, loader, loss_fn, device) -> tuple[float, float]:
    return _means(_batches(model.eval(), loader, loss_fn))


EVALUATION = Exercise(
    minutes=10,
    stars=2,
    cases=lambda: [
        Case(
            {"network": network, "images": images, "batch_size": size, "loss": loss},
            "the loader gives pairs (images, labels), and the logits are [images, "
            "classes]: what does each line do to them, and along which axis must "
            "argmax look?",
        )
        for network, images, size, loss in [
            ("two linear layers", 1, 4, "cross-entropy"),
            ("two linear layers", 8, 4, "cross-entropy"),
            ("two linear layers", 9, 4, "cross-entropy"),
            ("with dropout", 10, 4, "cross-entropy"),
            ("with dropout and batch norm", 11, 4, "cross-entropy"),
            ("two linear layers", 30, 7, "margin"),
        ]
    ],
    play=_play_evaluation,
    reference=_measure,
    against="utils.training.evaluate",
    mistakes={
        "Every batch counts the same in your means, the short last one too: its images "
        "count more than the others.": _means_of_means,
        "Your accuracy counts images, but your loss is a mean over batches, in which "
        "the short last one counts as much as a full one.": _loss_by_batches,
        "Your loss is a mean over images, but your accuracy is a mean over batches, in "
        "which the short last one counts as much as a full one.": _accuracy_by_batches,
        "You add up the means of the batches and divide by the number of images, so "
        "that the loss comes out too small: how many images does each mean stand "
        "for?": _not_weighted,
        "Your accuracy is the number of right answers: return their share, between 0 "
        "and 1.": _counts_right_ones,
        "You return percent: return the accuracy as a share between 0 and 1.": _percent,
        "The model is still in training mode while you measure it: dropout switches "
        "off units at random, and batch norm uses the batch at hand.": _modes_ignored,
        "The numbers are right, but afterwards the model is in training mode: leave it "
        "in evaluation mode, the next training step switches back.": _switches_back,
        "The numbers are right, but every forward pass records a graph for a "
        "backward() that never comes, which costs time and memory: switch that "
        "off.": _graph_recorded,
    },
    hints=(
        "Three running totals: the loss, the right answers, the images. Divide once, "
        "after the last batch.",
        "loss_fn gives the mean over a batch. How much must a batch add to the total "
        "of the loss, so that dividing by the number of images is right?",
        "Two things come before the loop: a mode for the model, and a mode for "
        "PyTorch, torch.inference_mode(), as decorator or as `with` block.",
    ),
)

EXERCISES: dict[str, Exercise] = {"2.14.1": TRAINING_STEP, "2.14.2": EVALUATION}
