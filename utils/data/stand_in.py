"""Sets that take the internet or a mirror, and sets that stand in for them."""

from collections.abc import Callable
from typing import NamedTuple

from utils.data.classification import (
    cats_dogs,
    cifar10,
    cifar100,
    hymenoptera,
    tree_patches,
)
from utils.data.dataset import ImageSet
from utils.data.generated import articles
from utils.fetch import DatasetAbsent, DatasetUnavailable
from utils.fetch.catalog import entry_of

LOADERS: dict[str, Callable[..., tuple[ImageSet, ImageSet]]] = {
    "articles": articles,
    "cats_dogs": cats_dogs,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "hymenoptera": hymenoptera,
    "tree_patches": tree_patches,
}
FIXED = ("cifar10", "cifar100")  # their images are 32 px wide and high


def _load(name: str, size: int | None) -> tuple[ImageSet, ImageSet]:
    """Load the set `name`, its images `size` px wide and high if it says so."""
    if name in FIXED or size is None:
        return LOADERS[name]()
    return LOADERS[name](size)


class Obtained(NamedTuple):
    """A set and the name of the one it is: the one asked for, or its stand-in."""

    train: ImageSet
    test: ImageSet
    name: str


def load_or_stand_in(name: str, stand_in: str, *, size: int | None = None) -> Obtained:
    """Load a set, or, where it is not to be had, the one that stands in for it.

    The stand-in is for readers whom no source of the real set can be reached by; one
    printed line says so. Anything else that is wrong (a damaged or incomplete set, no
    room to store it) is raised, never covered by the stand-in.

    Args:
        name: Of the set: articles, cats_dogs, cifar10, cifar100, hymenoptera,
            tree_patches.
        stand_in: Of the other, one of the same.
        size: Side of the images in px; each set's own default without it. CIFAR has
            32.

    Returns:
        `(train, test, name)`, the name that of the set that was loaded. Titles and
        sentences take the names of set and classes from here, so that they are true of
        both.

    Raises:
        ValueError: If a name or the size is not possible, or a file is not what it
            should be.
        DatasetUnavailable: If neither set is to be had, or what a source delivered was
            refused.
    """
    # before anything is fetched, or a mistake would show on some machines only
    for one in (name, stand_in):
        if one not in LOADERS:
            raise ValueError(f"expected one of {', '.join(LOADERS)}, got {one!r}")
        if one in FIXED and size not in (None, 32):
            raise ValueError(
                f"the images of {one!r} are 32 px wide and high: leave size out, got "
                f"{size}"
            )
    if name == stand_in:
        raise ValueError(f"{name!r} cannot stand in for itself: name another set")
    try:
        return Obtained(*_load(name, size), name)
    except DatasetAbsent as error:
        absence = error
    try:
        train, test = _load(stand_in, size)
    except DatasetUnavailable as error:
        raise type(error)(
            f"{absence}\nNor is its stand-in {stand_in!r} to be had: {error}"
        ) from error
    entry = entry_of(name)
    parts = [entry] if entry.sources else map(entry_of, entry.made_from)
    online = [
        source.label
        for part in parts
        for source in part.sources
        if source.kind != "mirror"
    ]
    print(
        f"{name} is not here and no source delivers it (with internet, it would come "
        f"from {online[0]}; `python -m utils.fetch get {name}` says more): all "
        f"that follows is about its stand-in, {stand_in}."
    )
    return Obtained(train, test, stand_in)
