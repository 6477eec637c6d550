"""Sets that only the internet or a mirror has, and the sets that stand in for them elsewhere."""

from collections.abc import Callable
from typing import NamedTuple

from utils.data import cats_dogs, cifar10, cifar100, hymenoptera, tree_patches
from utils.fetch import DatasetAbsent, DatasetUnavailable
from utils.loading import ImageSet
from utils.scenes import articles

__all__ = ["Obtained", "load_or_stand_in"]

SQUARES: dict[str, Callable[..., tuple[ImageSet, ImageSet]]] = {  # sets of squares of any side
    "articles": articles,
    "cats_dogs": cats_dogs,
    "hymenoptera": hymenoptera,
    "tree_patches": tree_patches,
}
FIXED: dict[str, Callable[[], tuple[ImageSet, ImageSet]]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
}  # 32 px


class Obtained(NamedTuple):
    """A set with its name: `name` tells which one was obtained, the one asked for or its stand-in."""

    train: ImageSet
    test: ImageSet
    name: str


def _load(name: str, size: int | None) -> tuple[ImageSet, ImageSet]:
    """Load the set `name`, its pictures `size` px wide and high if it says so."""
    if name in FIXED:
        return FIXED[name]()
    return SQUARES[name]() if size is None else SQUARES[name](size)


def _check(names: tuple[str, str], size: int | None) -> None:
    """Refuse names and sizes before anything is fetched, or a mistake would show on some machines only."""
    for name in names:
        if name not in SQUARES and name not in FIXED:
            raise ValueError(f"expected one of {', '.join(sorted(SQUARES | FIXED))}, got {name!r}")
        if name in FIXED and size not in (None, 32):
            raise ValueError(f"the pictures of {name!r} are 32 px wide and high: leave size out, not {size}")
    if names[0] == names[1]:
        raise ValueError(f"{names[0]!r} cannot stand in for itself: name another set")


def load_or_stand_in(name: str, stand_in: str, *, size: int | None = None) -> Obtained:
    """Load a set, or, only where it is not to be had, the one that stands in for it, and say so in one line.

    The stand-in is for readers whom no source of the real set can be reached by. Anything else that is wrong
    (a damaged or incomplete set, no room to store it) is raised, never covered by the stand-in.

    Args:
        name: Of the set: articles, cats_dogs, cifar10, cifar100, hymenoptera, tree_patches.
        stand_in: Of the other, one of the same.
        size: Side of the pictures in px; each set's own default without it. CIFAR has 32.

    Returns:
        `(train, test, name)`, the name that of the set that was loaded. Titles and sentences take the names
        of set and classes from here, so that they are true of both.

    Raises:
        ValueError: If a name or the size is not possible, or a file is not what it should be.
        DatasetUnavailable: If neither set is to be had, or what a source delivered was refused.
    """
    _check((name, stand_in), size)
    try:
        return Obtained(*_load(name, size), name)
    except DatasetAbsent as error:
        absence = error
    try:
        train, test = _load(stand_in, size)
    except DatasetUnavailable as error:
        raise type(error)(f"{absence}\nNor is its stand-in {stand_in!r} to be had: {error}") from error
    print(
        f"{name} is not here and no source delivers it (`python -m utils.fetch get {name}` says more): "
        f"all that follows is about its stand-in, {stand_in}."
    )
    return Obtained(train, test, stand_in)
