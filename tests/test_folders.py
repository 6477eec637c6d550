import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder
from torchvision.models import MobileNet_V2_Weights

from utils import folders
from utils.folders import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    cats_dogs,
    cifar10,
    cifar100,
    hymenoptera,
    samples,
)
from utils.loading import split, take
from utils.pictures import fit_square, read_picture

RANDOM = np.random.default_rng(0)


def write(path, shape=(32, 32, 3), value=None):
    """A picture of noise, or of one value; PNG whatever its suffix says, so that no value is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "PNG")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "fetch", lambda name: tmp_path / name)
    return tmp_path


def write_cifar(folder, classes, each=2):
    for part, n in (("train", each), ("val", 1)):
        for label, name in enumerate(classes):
            for i in range(n):
                write(folder / part / name / f"{name}_{i}.jpg", value=100 * (part == "val") + 10 * i + label)


def write_pickles(folder, original, classes, key, monkeypatch):
    """Write what torchvision's class reads, and let it expect these files' md5."""

    def store(name, content):
        path = folder / original.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(labels, shift):
        rows = np.stack([np.arange(3072) % 32 + shift + label for label in labels]).astype(np.uint8)
        return {"data": rows, key: labels}

    last = len(classes) - 1
    monkeypatch.setattr(original, "train_list", [store("a", batch([0, last], 0)), store("b", batch([1], 0))])
    monkeypatch.setattr(original, "test_list", [store("c", batch([last, 0], 50))])
    meta = dict(original.meta)
    meta["md5"] = store("meta", {meta["key"]: classes})[1]
    monkeypatch.setattr(original, "meta", meta | {"filename": "meta"})


def test_cifar10_from_folders(folder):
    write_cifar(folder / "cifar10", CIFAR10_CLASSES)
    train, test = cifar10()
    assert (train.images.shape, test.images.shape) == ((20, 3, 32, 32), (10, 3, 32, 32))
    assert train.classes == test.classes == CIFAR10_CLASSES
    assert train.images[:, 0, 0, 0].tolist() == [10 * i + label for label in range(10) for i in range(2)]
    assert test.images[:, 2, 31, 31].tolist() == list(range(100, 110))
    for part, name in ((train, "train"), (test, "val")):  # torchvision's own reader agrees
        reference = ImageFolder(folder / "cifar10" / name)
        assert part.labels.tolist() == reference.targets and part.classes == reference.classes


def test_cifar100_classes_are_in_torchvisions_order(folder):
    write_cifar(folder / "cifar100", CIFAR100_CLASSES, each=1)
    train, test = cifar100()
    assert train.labels.tolist() == test.labels.tolist() == list(range(100))
    assert train.classes == sorted(set(train.classes)) and len(train.classes) == 100


@pytest.mark.parametrize("beside", [False, True], ids=["the folder itself", "a folder in it"])
def test_cifar_from_pickles(folder, monkeypatch, beside):
    for original, load, classes, key in (
        (CIFAR10, cifar10, CIFAR10_CLASSES, "labels"),
        (CIFAR100, cifar100, CIFAR100_CLASSES, "fine_labels"),
    ):
        write_pickles(folder, original, classes, key, monkeypatch)
        place = folder if beside else folder / original.base_folder
        monkeypatch.setattr(folders, "fetch", lambda name, place=place: place)
        train, test = load()
        assert train.labels.tolist() == [0, len(classes) - 1, 1] and test.labels.tolist() == [
            len(classes) - 1,
            0,
        ]
        assert train.classes == classes and train.images.is_contiguous()
        assert torch.equal(test.images[1, 0], (torch.arange(1024) % 32 + 50).reshape(32, 32).byte())
        assert train.images[:, 2, 3, 4].tolist() == [4, 4 + len(classes) - 1, 5]


def test_cifar_pickles_with_another_hash_are_refused(folder, monkeypatch):
    write_pickles(folder, CIFAR10, CIFAR10_CLASSES, "labels", monkeypatch)
    monkeypatch.setattr(folders, "fetch", lambda name: folder / "cifar-10-batches-py")
    with (folder / "cifar-10-batches-py" / "b").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="cifar-10-batches-py does not hold"):
        cifar10()


def test_cifar_pickles_with_other_classes_are_refused(folder, monkeypatch):
    write_pickles(folder, CIFAR10, CIFAR10_CLASSES[::-1], "labels", monkeypatch)
    monkeypatch.setattr(folders, "fetch", lambda name: folder / "cifar-10-batches-py")
    with pytest.raises(ValueError, match="names its classes"):
        cifar10()


def test_what_is_no_cifar_is_refused(folder):
    (folder / "cifar10").mkdir()
    with pytest.raises(ValueError, match=r"train and val or cifar-10-batches-py; found nothing"):
        cifar10()
    write(folder / "cifar10" / "stray.jpg")
    with pytest.raises(ValueError, match=r"found stray.jpg"):
        cifar10()
    (folder / "cifar10" / "stray.jpg").unlink()
    write_cifar(folder / "cifar10", CIFAR10_CLASSES)
    write(folder / "cifar10" / "train" / "aeroplane" / "1.jpg")
    with pytest.raises(ValueError, match="10 folders airplane, .*found aeroplane"):
        cifar10()


def test_cifar_pictures_of_another_size_are_refused(folder):
    for part in ("train", "val"):
        for name in CIFAR10_CLASSES:
            write(folder / "cifar10" / part / name / "1.jpg", (28, 28, 3))
    with pytest.raises(ValueError, match=r"\[3, 28, 28\], expected \[3, 32, 32\]"):
        cifar10()
    write(folder / "cifar10" / "val" / "ship" / "2.jpg")
    with pytest.raises(ValueError, match="ship.*2.jpg is 32x32"):
        cifar10()


def write_insects(folder):
    for part in ("train", "val"):
        for label, name in enumerate(("ants", "bees")):
            write(folder / part / name / "wide.jpg", (20, 45, 3))
            write(folder / part / name / "tall.jpg", (50, 30, 3), value=50 + label)


def test_photos_of_all_sizes_become_squares(folder):
    write_insects(folder / "hymenoptera")
    train, test = hymenoptera(40)
    assert train.images.shape == test.images.shape == (4, 3, 40, 40)
    assert train.labels.tolist() == [0, 0, 1, 1] and train.classes == ["ants", "bees"]
    assert (train.images[0] == 50).all() and (train.images[2] == 51).all()
    wide = read_picture(folder / "hymenoptera" / "val" / "bees" / "wide.jpg")
    assert torch.equal(test.images[3], fit_square(wide, 40))
    assert hymenoptera()[0].images.shape[2:] == (256, 256)
    with pytest.raises(ValueError, match="at least 1"):
        hymenoptera(0)


def test_cats_and_dogs(folder):
    for part, n in (("train", 2), ("val", 1)):
        for label, name in enumerate(("cats", "dogs")):
            for i in range(n):
                write(folder / "cats_dogs" / part / name / f"{name[:-1]}.{i}.jpg", (60, 70, 3), value=label)
    train, test = cats_dogs()
    assert train.images.shape == (4, 3, 128, 128) and test.labels.tolist() == [0, 1]
    assert train.classes == ["cats", "dogs"]
    assert train.images[:, 0, 5, 5].tolist() == train.labels.tolist() == [0, 0, 1, 1]
    assert len(take(train, 2)) == 2 and len(split(train, 0.5)[1]) == 2


def test_the_known_placeholder_is_named_and_left_out(folder, capsys):
    write_insects(folder / "hymenoptera")
    write(folder / "hymenoptera" / "train" / "ants" / "imageNotFound.gif")
    train, _ = hymenoptera(16)
    assert train.labels.bincount().tolist() == [2, 2]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "imageNotFound.gif" in lines[0]
    (folder / "hymenoptera" / "train" / "ants" / "imageNotFound.gif").unlink()
    hymenoptera(16)
    assert capsys.readouterr().out == ""


def test_all_bad_files_of_both_parts_are_named(folder, capsys):
    write_insects(folder / "hymenoptera")
    bad = ["train/ants/empty.jpg", "train/bees/notes.txt", "val/bees/text.jpg", "val/ants/cut.png"]
    whole = (folder / "hymenoptera" / "val" / "ants" / "wide.jpg").read_bytes()
    for name, content in zip(bad, (b"", b"notes", b"text", whole[:900]), strict=True):
        (folder / "hymenoptera" / name).write_bytes(content)
    (folder / "hymenoptera" / "val" / "ants" / ".DS_Store").write_bytes(b"left by a system")
    with pytest.raises(ValueError) as raised:
        hymenoptera(16)
    for name in bad:
        assert str(Path(name)) in str(raised.value)
    assert "wide" not in str(raised.value) and ".DS_Store" not in str(raised.value)


def test_missing_and_empty_folders(folder):
    write_insects(folder / "hymenoptera")
    for path in (folder / "hymenoptera" / "val" / "bees").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="bees, which is empty"):
        hymenoptera(16)
    (folder / "hymenoptera" / "val" / "bees").rmdir()
    with pytest.raises(ValueError, match="found no bees"):
        hymenoptera(16)
    (folder / "cats_dogs").mkdir()
    with pytest.raises(ValueError, match="train and val; found nothing"):
        cats_dogs()


def test_samples(folder):
    home = folder / "imagenet_samples"
    for name, shape in (("00_243", (512, 512)), ("01_0", (60, 90)), ("02_999", (700, 600))):
        write(home / f"imagenet_{name}.jpg", (*shape, 3))
    write(home / "cifar10_00_9.png", value=9)
    write(home / "cifar100_00_99.png", value=99)
    photos = samples()
    assert photos.images.shape == (3, 3, 512, 512) and photos.labels.tolist() == [243, 0, 999]
    assert photos.classes == MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    assert photos.classes[285] == "Egyptian cat"
    assert torch.equal(photos.images[0], read_picture(home / "imagenet_00_243.jpg"))
    assert torch.equal(photos.images[2], fit_square(read_picture(home / "imagenet_02_999.jpg"), 512))
    small = samples("cifar10")
    assert small.images.shape == (1, 3, 32, 32) and small.classes[small.labels[0]] == "truck"
    assert (small.images == 9).all()
    small = samples("cifar100")
    assert (small.images == 99).all() and small.classes[small.labels[0]] == "worm"


def test_samples_that_are_not_there(folder):
    with pytest.raises(ValueError, match="expected one of imagenet, cifar10, cifar100"):
        samples("mnist")
    write(folder / "imagenet_samples" / "imagenet_00_7.jpg")
    with pytest.raises(ValueError, match="cifar10_00_7.png.*found imagenet_00_7.jpg"):
        samples("cifar10")
    for bad in ("imagenet_01.jpg", "imagenet_02_1000.jpg"):
        write(folder / "imagenet_samples" / bad)
    with pytest.raises(ValueError, match="imagenet_01.jpg, imagenet_02_1000.jpg hold no label"):
        samples()
