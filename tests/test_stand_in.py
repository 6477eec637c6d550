"""`utils.stand_in`: only a set that is not to be had is replaced, and never without a word."""

import shutil
from pathlib import Path

import pytest
import torch
from fetch_helpers import FILES, GZ, described
from PIL import Image

from utils import data, fetch, folders, stand_in
from utils.catalog import entry_of, torn_here
from utils.fetch import DatasetAbsent, DatasetUnavailable
from utils.loading import ImageSet
from utils.stand_in import load_or_stand_in

SAMPLES = Path(__file__).parent / "data"


def pair(side, classes=("a", "b")):
    images = torch.zeros(4, 3, side, side, dtype=torch.uint8)
    return (ImageSet(images, torch.tensor([0, 1, 0, 1]), classes),) * 2


def failing(error):
    def load(size=0):
        raise error

    return load


@pytest.fixture
def sets(monkeypatch):
    """`cats_dogs` and `tree_patches` that draw nothing, so that a test may replace one of them."""
    loaders = {
        "cats_dogs": lambda size=128: pair(size),
        "tree_patches": lambda size=64: pair(size, ("ground", "tree")),
    }
    monkeypatch.setattr(stand_in, "SQUARES", loaders)
    return loaders


def test_the_set_that_is_there_is_loaded_without_a_word(sets, capsys):
    train, test, name = load_or_stand_in("cats_dogs", "tree_patches")
    assert name == "cats_dogs" and train.classes == ["a", "b"] and test.images.shape[-1] == 128
    assert load_or_stand_in("cats_dogs", "tree_patches", size=48).train.images.shape[-1] == 48
    assert capsys.readouterr().out == ""


def test_the_stand_in_says_so_in_one_line(sets, capsys):
    sets["cats_dogs"] = failing(DatasetAbsent("no source\ndelivers it"))
    train, _, name = load_or_stand_in("cats_dogs", "tree_patches", size=32)
    assert name == "tree_patches" and train.classes == ["ground", "tree"] and train.images.shape[-1] == 32
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "cats_dogs is not here" in printed and "tree_patches" in printed


@pytest.mark.parametrize(
    "error",
    [DatasetUnavailable("damaged"), ValueError("a bad file"), OSError("unreadable"), RuntimeError("x")],
)
def test_every_other_error_is_raised(sets, error, capsys):
    sets["cats_dogs"] = failing(error)
    with pytest.raises(type(error)) as raised:
        load_or_stand_in("cats_dogs", "tree_patches")
    assert raised.value is error and capsys.readouterr().out == ""


def test_where_both_are_missing_it_says_so_of_both(sets, capsys):
    sets["cats_dogs"] = failing(DatasetAbsent("no cats"))
    sets["tree_patches"] = failing(DatasetAbsent("no trees"))
    with pytest.raises(DatasetAbsent, match="(?s)no cats.*stand-in 'tree_patches'.*no trees"):
        load_or_stand_in("cats_dogs", "tree_patches")
    assert capsys.readouterr().out == ""
    sets["tree_patches"] = failing(ValueError("a damaged tree"))
    with pytest.raises(ValueError, match="^a damaged tree"):
        load_or_stand_in("cats_dogs", "tree_patches")


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("cats_dog", "tree_patches"), None, "expected one of .*cats_dogs.*, got 'cats_dog'"),
        (("cats_dogs", "trees"), None, "expected one of .*, got 'trees'"),
        (("cats_dogs", "cats_dogs"), None, "cannot stand in for itself"),
        (("cats_dogs", "cifar10"), 64, "'cifar10' are 32 px.*not 64"),
        (("cifar100", "cats_dogs"), 0, "'cifar100' are 32 px.*not 0"),
    ],
)
def test_names_and_sizes_are_checked_before_anything_is_loaded(names, size, message, monkeypatch):
    monkeypatch.setattr(fetch, "fetch", failing(AssertionError("fetched")))
    monkeypatch.setattr(folders, "fetch", failing(AssertionError("fetched")))
    with pytest.raises(ValueError, match=message):
        load_or_stand_in(*names, size=size)


def test_cifar_and_articles(monkeypatch):
    """As notebook 3.10 calls it: CIFAR has one size, and articles are drawn as large."""
    monkeypatch.setattr(
        stand_in, "FIXED", {"cifar10": failing(DatasetAbsent("none")), "cifar100": lambda: pair(32)}
    )
    assert load_or_stand_in("cifar100", "articles").name == "cifar100"
    assert load_or_stand_in("cifar100", "articles", size=32).name == "cifar100"
    monkeypatch.setenv("CV_DATA", str(SAMPLES))
    train, test, name = load_or_stand_in("cifar10", "articles", size=32)
    assert name == "articles" and train.images.shape == (1000, 3, 32, 32) and len(test) == 500
    assert train.classes == data.FASHION_CLASSES


def test_a_real_set_in_the_data_root_and_none_there(monkeypatch, tmp_path, sets, capsys):
    """With the course's own loader and catalog: pictures in the folder, no folder, a part of the folder."""
    monkeypatch.setenv("CV_DATA", str(tmp_path))
    monkeypatch.delenv("CV_MIRROR", raising=False)
    sets["cats_dogs"] = folders.cats_dogs
    assert load_or_stand_in("cats_dogs", "tree_patches").name == "tree_patches"
    for part in ("train", "val"):
        for label in ("cats", "dogs"):
            place = tmp_path / "cats_dogs" / part / label
            place.mkdir(parents=True)
            Image.new("RGB", (90, 60), (200, 30, 30)).save(place / "1.jpg")
    capsys.readouterr()
    train, test, name = load_or_stand_in("cats_dogs", "tree_patches", size=40)
    assert name == "cats_dogs" and train.images.shape == test.images.shape == (2, 3, 40, 40)
    assert capsys.readouterr().out == ""
    (tmp_path / "cats_dogs" / "val" / "dogs" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="1.jpg"):
        load_or_stand_in("cats_dogs", "tree_patches")
    shutil.rmtree(tmp_path / "cats_dogs" / "val")
    with pytest.raises(DatasetUnavailable, match="holds a part of it"):
        load_or_stand_in("cats_dogs", "tree_patches")


def test_absent_or_refused(course, mirror, tmp_path):
    """What `fetch` calls absent: nobody has it. What was delivered and refused, or half there, is not."""
    course.describe({"kind": "mirror", "archives": [], "member": "{name}.gz"})
    (tmp_path / "sets").mkdir()
    archives = []
    for name, content in GZ.items():
        (tmp_path / "sets" / name).write_bytes(content)
        archives.append(described(tmp_path / "sets" / name))
    course.describe({"kind": "mirror", "archives": archives, "member": "{name}.gz"})
    with pytest.raises(DatasetAbsent, match="holds no"):
        fetch.fetch("digits")
    for archive in archives:
        (mirror / archive["name"]).write_bytes(b"damaged")
    with pytest.raises(DatasetUnavailable, match="is not the catalog's") as error:
        fetch.fetch("digits")
    assert not isinstance(error.value, DatasetAbsent)
    for archive in archives:
        (mirror / archive["name"]).unlink()
    raw = course.set / "raw"
    raw.mkdir(parents=True)
    with pytest.raises(DatasetAbsent):
        fetch.fetch("digits")
    (raw / "train-images-idx3-ubyte").write_bytes(b"1")
    with pytest.raises(DatasetUnavailable, match="holds a part of it") as error:
        fetch.fetch("digits")
    assert not isinstance(error.value, DatasetAbsent)
    entry = entry_of("digits")
    assert torn_here(entry) == [course.set]
    for path, content in FILES.items():
        (course.set / path).write_bytes(content)
    assert torn_here(entry) == []
