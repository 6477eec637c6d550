"""What a comparison refuses before it runs: shared examples, unequal budgets, too few rates or seeds."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from utils.trials import Arm, Budget
from utils.verdicts import MIN_RATES, MIN_SEEDS

DUPLICATES = 0.01  # share of pictures that may occur twice: collections hold a few duplicates (2.13)


def _origin(dataset: Dataset) -> tuple[Dataset, list[int] | range]:
    """Return the set that a `Subset`, also one of a `Subset`, chooses from, and the indices there."""
    if not isinstance(dataset, Subset):
        return dataset, range(len(dataset))
    base, indices = _origin(dataset.dataset)
    return base, [indices[int(index)] for index in dataset.indices]


def _contents(dataset: Dataset) -> set[int] | None:
    """Return a hash of each picture of a set in memory, chosen pictures only; None for other sets."""
    base, indices = _origin(dataset)
    images = getattr(base, "images", None)
    if not isinstance(images, torch.Tensor) or len(images) != len(base):
        return None
    rows = images.cpu().flatten(1).contiguous().numpy()
    return {hash(rows[index].tobytes()) for index in indices}


def shared_indices(one: Dataset, other: Dataset) -> int:
    """Count the examples that two sets take from the same set at the same index.

    Args:
        one: Any set with a length.
        other: Another one, or the same.

    Returns:
        How many.
    """
    (base, indices), (other_base, other_indices) = _origin(one), _origin(other)
    return len(set(indices) & set(other_indices)) if base is other_base else 0


def shared_pictures(one: Dataset, other: Dataset) -> int:
    """Count the pictures that occur in two sets in memory, byte by byte.

    Args:
        one: A set whose `.images` is a tensor [N, ...], or a `Subset` of one.
        other: Another one, or the same.

    Returns:
        How many; 0 for sets that are not in memory.
    """
    contents, other_contents = _contents(one), _contents(other)
    return 0 if contents is None or other_contents is None else len(contents & other_contents)


def check_apart(train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Refuse sets for training, validation and test that share examples.

    Args:
        train: The set that weights are computed from.
        validation: The set that settings are chosen on.
        test: The set that is measured on once.

    Raises:
        ValueError: If a set is empty, or two of them share an index of the same set, or more than 1 % of the
            pictures of the smaller one; it names the two.
    """
    sets = {"train": train, "validation": validation, "test": test}
    for name, dataset in sets.items():
        if len(dataset) == 0:
            raise ValueError(f"the set for {name} is empty")
    for name, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        pair, smaller = (sets[name], sets[other]), min(len(sets[name]), len(sets[other]))
        shared = shared_indices(*pair)
        if not shared and (pictures := shared_pictures(*pair)) > DUPLICATES * smaller:
            shared = pictures
        if shared:
            raise ValueError(
                f"{name} and {other} share {shared} of {len(sets[name])} and {len(sets[other])} examples: "
                "what is chosen or trained on one cannot be measured on the other; split first (`data.split`)"
            )


def check_all_apart(arms: Mapping[str, Arm], validation: Dataset, test: Dataset) -> None:
    """Apply `check_apart` to the training set of each arm.

    Args:
        arms: With all their settings.
        validation: As for `check_apart`.
        test: As for `check_apart`.

    Raises:
        ValueError: As `check_apart`.
    """
    for train in {id(arm.train): arm.train for arm in arms.values()}.values():  # most arms share theirs
        check_apart(train, validation, test)


def one_budget(arms: Mapping[str, Arm], amounts: dict[str, float | None]) -> Budget:
    """Return the one budget that is given, if the arms can keep to it.

    Args:
        arms: With all their settings.
        amounts: Kind of budget -> how much of it, or None.

    Returns:
        The budget.

    Raises:
        ValueError: If not exactly one is given, it is not positive, or an arm could not keep to it.
    """
    given = {kind: amount for kind, amount in amounts.items() if amount is not None}
    if len(given) != 1 or min(given.values()) <= 0:
        raise ValueError(f"every arm gets equally much: one of steps, epochs, seconds, above 0; got {given}")
    ((kind, amount),) = given.items()
    if kind == "steps" and amount != int(amount):
        raise ValueError(f"steps must be a whole number, got {amount}")
    if kind == "seconds" and any(arm.scheduler for arm in arms.values()):
        raise ValueError("a scheduler needs to know how many steps there will be: give steps or epochs")
    if kind == "epochs" and len({len(arm.train) for arm in arms.values()}) > 1:
        raise ValueError("epochs of training sets of different sizes are not equally much: give steps")
    return Budget(kind, amount)


def complete(name: str, arm: Arm | Callable[[], nn.Module], common: Arm) -> Arm:
    """Fill in what an arm shares with the others, and check that it can be run.

    Args:
        name: Of the arm, for the messages.
        arm: An arm, or only the function that builds its network.
        common: What all arms share.

    Returns:
        The arm with all its settings.

    Raises:
        ValueError: If its rates, its batch size or its network cannot be used, or it might train without
            the scaling that it is measured with.
    """
    arm = arm if isinstance(arm, Arm) else Arm(arm)
    if arm.transform is not None and arm.train_transform is None and common.train_transform is not None:
        raise ValueError(f"arm {name!r} has its own transform: give it its own train_transform too")
    shared = {key: value for key, value in vars(common).items() if getattr(arm, key) is None}
    arm = replace(arm, **shared)
    if arm.learning_rates is None or len(set(arm.learning_rates)) < len(arm.learning_rates):
        raise ValueError(f"arm {name!r} needs learning_rates, each once, got {arm.learning_rates}")
    if min(arm.learning_rates, default=0) <= 0:
        raise ValueError(f"arm {name!r} needs positive learning rates, got {arm.learning_rates}")
    if not 0 < arm.batch_size <= len(arm.train):
        raise ValueError(f"arm {name!r}: no batch of {arm.batch_size} in {len(arm.train)} training examples")
    one, other = arm.model(), arm.model()
    storages = [{p.data_ptr() for p in model.parameters() if p.numel()} for model in (one, other)]
    if one is other or storages[0] & storages[1]:
        raise ValueError(f"arm {name!r} must build a new model at each call, or runs go on from each other")
    return arm


def check_counts(
    arms: Mapping[str, Arm], seeds: list[int], search_seeds: list[int], exploratory: bool
) -> None:
    """Refuse too few or repeated seeds, and too few or unequally many rates.

    Args:
        arms: With all their settings.
        seeds: Of the final runs.
        search_seeds: Of the runs that choose the rates.
        exploratory: Let too few pass.

    Raises:
        ValueError: If there are.
    """
    if len(set(seeds + search_seeds)) < len(seeds + search_seeds) or not seeds or not search_seeds:
        raise ValueError(f"every seed is for one run: got seeds {seeds} and search_seeds {search_seeds}")
    counts = {name: len(arm.learning_rates) for name, arm in arms.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"every arm gets as many learning rates to choose from, got {counts}")
    rates = next(iter(counts.values()))
    if not exploratory and (len(seeds) < MIN_SEEDS or rates < MIN_RATES):
        raise ValueError(
            f"at least {MIN_SEEDS} seeds and {MIN_RATES} learning rates are needed, "
            f"got {len(seeds)} and {rates}: "
            "give more, or exploratory=True, which table and plot then say"
        )
