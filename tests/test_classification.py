"""Sets of one label an image, and what stands in where one of them is absent."""

import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder
from torchvision.ops import box_iou

from utils.data import (
    FASHION_CLASSES,
    cats_dogs,
    cifar10,
    cifar100,
    classification,
    fashion_mnist,
    gtsrb,
    hymenoptera,
    load_or_stand_in,
    mnist,
    tree_patches,
)
from utils.data.classification import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    SHARED,
    SIGN_CLASSES,
    _ground,
    _squares,
    cut_patches,
)
from utils.data.detection import TREES
from utils.data.readers import fit_square, read_image
from utils.fetch import DatasetAbsent, DatasetUnavailable

SAMPLES = Path(__file__).parent / "data"
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("load", "reference", "n_train", "n_test"),
    [
        (fashion_mnist, torchvision.datasets.FashionMNIST, 1000, 500),
        (mnist, torchvision.datasets.MNIST, 500, 250),
    ],
)
def test_mnist_and_fashion_mnist_are_what_torchvision_reads(
    sample_data, load, reference, n_train, n_test
):
    for dataset, train, n in zip(load(), (True, False), (n_train, n_test), strict=True):
        expected = reference(SAMPLES, train=train, download=False)
        assert dataset.images.shape == (n, 1, 28, 28)
        assert torch.equal(dataset.images[:, 0], expected.data)
        assert torch.equal(dataset.labels, expected.targets)
        assert dataset.labels.bincount().min() >= 0.085 * n  # stratified
        digits = "zero one two three four five six seven eight nine".split()
        names = [
            f"{name} - {digits[int(name)]}" if name.isdigit() else name
            for name in dataset.classes
        ]
        assert names == expected.classes


def test_where_a_set_is_absent_its_sample_serves_and_says_so(
    data_folder, capsys, monkeypatch
):
    train, test = fashion_mnist()
    assert (len(train), len(test)) == (1000, 500) and train.classes == FASHION_CLASSES
    printed = capsys.readouterr().out
    assert "'fashion_mnist' is not here" in printed and "sample of it" in printed
    # installed without the repository, there is none
    monkeypatch.setattr(classification, "SAMPLES", data_folder)
    with pytest.raises(DatasetAbsent, match="'fashion_mnist' is not here"):
        fashion_mnist()


RAW = SAMPLES / "FashionMNIST" / "raw"
LABELS, IMAGES = "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"


@pytest.fixture
def own_files(data_folder):
    """Files of Fashion-MNIST in the data root, which a test may damage."""
    shutil.copytree(RAW, data_folder / "FashionMNIST" / "raw")
    return data_folder / "FashionMNIST" / "raw"


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, lambda b: b[:1000], "holds 984 bytes of data, but its header"),
        (LABELS, lambda b: b"", "not an idx file"),
        (
            LABELS,
            lambda b: b[:50] + b"\xc8" + b[51:],
            "holds the label 200, expected 0 to 9",
        ),
        (LABELS, lambda b: b[:50] + b"\x0a" + b[51:], "holds the label 10"),
        (
            LABELS,
            lambda b: b[:4] + struct.pack(">I", 999) + b[8:-1],
            r"train-images-idx3-ubyte holds \[1000, 28, 28\] and .*\[999\], expected",
        ),
        (
            IMAGES,
            lambda b: b[:4] + struct.pack(">I", 499) + b[8:-784],
            r"holds \[499, 28, 28\] and .*\[500\]",
        ),
        (
            IMAGES,
            lambda b: (RAW / "t10k-labels-idx1-ubyte").read_bytes(),
            r"holds \[500\] and .*\[500\], expected images \[N, H, W\]",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_remedy_and_no_sample_serves(
    own_files, name, change, message, capsys
):
    rewrite(own_files / name, change)
    with pytest.raises(ValueError, match=rf"{message}.*(?s:.*): delete .* and fetch"):
        fashion_mnist()
    with pytest.raises(ValueError, match=name):
        fashion_mnist()
    assert capsys.readouterr().out == ""


def test_a_refused_archive_a_part_of_a_set_and_no_room_lead_to_no_sample(
    data_folder, own_files, monkeypatch, tmp_path, capsys
):
    (own_files / LABELS).unlink()
    with pytest.raises(DatasetUnavailable, match="holds a part of it"):
        fashion_mnist()
    shutil.rmtree(own_files.parent)
    mirror = tmp_path / "mirror" / "fashion_mnist"
    mirror.mkdir(parents=True)
    for path in RAW.iterdir():  # not the whole set, and not even compressed
        shutil.copy(path, mirror / f"{path.name}.gz")
    monkeypatch.setenv("CV_MIRROR", str(mirror.parent))
    with pytest.raises(DatasetUnavailable) as error:
        fashion_mnist()
    assert not isinstance(error.value, DatasetAbsent)
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("CV_DATA", str(blocked / "data"))
    with pytest.raises(DatasetUnavailable, match="cannot be stored") as error:
        fashion_mnist()
    assert not isinstance(error.value, DatasetAbsent)
    assert "sample" not in capsys.readouterr().out


def write(path, shape=(32, 32, 3), value=None, file_format="PNG"):
    """An image of noise, or of one value; PNG, so that no value is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8)).save(path, file_format)


def write_cifar(folder, classes, each=2):
    for part, n in (("train", each), ("val", 1)):
        for label, name in enumerate(classes):
            for i in range(n):
                value = 100 * (part == "val") + 10 * i + label
                write(folder / part / name / f"{name}_{i}.jpg", value=value)


def test_cifar10_from_folders(data_folder):
    write_cifar(data_folder / "cifar10", CIFAR10_CLASSES)
    train, test = cifar10()
    assert (train.images.shape, test.images.shape) == ((20, 3, 32, 32), (10, 3, 32, 32))
    assert train.classes == test.classes == CIFAR10_CLASSES
    expected = [10 * i + label for label in range(10) for i in range(2)]
    assert train.images[:, 0, 0, 0].tolist() == expected
    assert test.images[:, 2, 31, 31].tolist() == list(range(100, 110))
    # torchvision's own reader agrees
    for part, name in ((train, "train"), (test, "val")):
        reference = ImageFolder(data_folder / "cifar10" / name)
        assert part.labels.tolist() == reference.targets
        assert part.classes == reference.classes
    write(data_folder / "cifar10" / "train" / "aeroplane" / "1.jpg")
    with pytest.raises(ValueError, match="10 folders airplane, .*found aeroplane"):
        cifar10()


def test_cifar100_classes_are_in_torchvisions_order(data_folder):
    write_cifar(data_folder / "cifar100", CIFAR100_CLASSES, each=1)
    train, test = cifar100()
    assert train.labels.tolist() == test.labels.tolist() == list(range(100))
    assert train.classes == sorted(set(train.classes)) and len(train.classes) == 100


@pytest.fixture
def pickles(data_folder, monkeypatch):
    """What torchvision's classes read, with the md5 that they expect."""

    def store(original, name, content):
        path = data_folder / original.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(key, labels, shift):
        rows = [np.arange(3072) % 32 + shift + label for label in labels]
        return {"data": np.stack(rows).astype(np.uint8), key: labels}

    # the files that the catalog needs; torchvision reads those of its lists
    for original, key, classes, train, test in (
        (
            CIFAR10,
            "labels",
            CIFAR10_CLASSES,
            [f"data_batch_{n}" for n in range(1, 6)],
            "test_batch",
        ),
        (CIFAR100, "fine_labels", CIFAR100_CLASSES, ["train"], "test"),
    ):
        last = len(classes) - 1
        files = [store(original, name, batch(key, [0, last], 0)) for name in train]
        monkeypatch.setattr(original, "train_list", files)
        files = [store(original, test, batch(key, [last, 0], 50))]
        monkeypatch.setattr(original, "test_list", files)
        meta = dict(original.meta)
        name, meta["md5"] = store(
            original, meta["filename"], {meta["key"]: list(classes)}
        )
        monkeypatch.setattr(original, "meta", meta)
    return data_folder


@pytest.mark.parametrize(
    ("load", "classes"), [(cifar10, CIFAR10_CLASSES), (cifar100, CIFAR100_CLASSES)]
)
def test_cifar_from_pickles(pickles, load, classes):
    train, test = load()
    last = len(classes) - 1
    assert train.labels[:2].tolist() == [0, last] and test.labels.tolist() == [last, 0]
    assert train.classes == classes and train.images.is_contiguous()
    expected = (torch.arange(1024) % 32 + 50).reshape(32, 32).byte()
    assert torch.equal(test.images[1, 0], expected)
    assert train.images[:2, 2, 3, 4].tolist() == [4, 4 + last]


def test_cifar_pickles_with_another_hash_are_refused(pickles):
    with (pickles / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="cifar-10-batches-py does not hold"):
        cifar10()


def write_insects(folder):
    for part in ("train", "val"):
        for label, name in enumerate(("ants", "bees")):
            write(folder / part / name / "wide.jpg", (20, 45, 3))
            write(folder / part / name / "tall.jpg", (50, 30, 3), value=50 + label)


@pytest.fixture
def insects(data_folder):
    write_insects(data_folder / "hymenoptera")
    return data_folder / "hymenoptera"


def test_photos_of_all_sizes_become_squares(insects):
    train, test = hymenoptera(40)
    assert train.images.shape == test.images.shape == (4, 3, 40, 40)
    assert train.labels.tolist() == [0, 0, 1, 1] and train.classes == ["ants", "bees"]
    assert (train.images[0] == 50).all() and (train.images[2] == 51).all()
    wide = read_image(insects / "val" / "bees" / "wide.jpg")
    assert torch.equal(test.images[3], fit_square(wide, 40))
    assert hymenoptera()[0].images.shape[2:] == (256, 256)
    for size in (0, 64.5):
        with pytest.raises(ValueError, match="whole number of pixels from 1 on"):
            hymenoptera(size)


def test_cats_and_dogs(data_folder):
    for part, n in (("train", 2), ("val", 1)):
        for label, name in enumerate(("cats", "dogs")):
            for i in range(n):
                path = data_folder / "cats_dogs" / part / name / f"{name[:-1]}.{i}.jpg"
                write(path, (60, 70, 3), value=label)
    train, test = cats_dogs()
    assert train.images.shape == (4, 3, 128, 128) and test.labels.tolist() == [0, 1]
    assert train.classes == ["cats", "dogs"]
    assert train.images[:, 0, 5, 5].tolist() == train.labels.tolist() == [0, 0, 1, 1]


def test_the_known_placeholder_is_named_and_left_out(insects, capsys):
    write(insects / "train" / "ants" / "imageNotFound.gif")
    train, _ = hymenoptera(16)
    assert train.labels.bincount().tolist() == [2, 2]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "imageNotFound.gif" in lines[0]
    (insects / "train" / "ants" / "imageNotFound.gif").unlink()
    hymenoptera(16)
    assert capsys.readouterr().out == ""


def test_all_bad_files_of_both_parts_are_named(insects):
    whole = (insects / "val" / "ants" / "wide.jpg").read_bytes()
    bad = {
        "train/ants/empty.jpg": b"",
        "train/bees/notes.txt": b"notes",
        "val/bees/text.jpg": b"text",
        "val/ants/cut.png": whole[:900],
    }
    for name, content in bad.items():
        (insects / name).write_bytes(content)
    (insects / "val" / "ants" / ".DS_Store").write_bytes(b"left by a system")
    with pytest.raises(ValueError) as raised:
        hymenoptera(16)
    for name in bad:
        assert str(Path(name)) in str(raised.value)
    assert "wide" not in str(raised.value) and ".DS_Store" not in str(raised.value)


def test_missing_and_empty_folders_are_named(insects):
    for path in (insects / "val" / "bees").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="bees, which is empty"):
        hymenoptera(16)
    (insects / "val" / "bees").rmdir()
    with pytest.raises(ValueError, match="found no bees"):
        hymenoptera(16)
    shutil.rmtree(insects / "train")
    with pytest.raises(DatasetUnavailable, match="holds a part of it"):
        hymenoptera(16)


@pytest.fixture
def signs(data_folder):
    """The signs of a mirror: two tracks of each of the 43 classes, one for the test."""
    folder = data_folder / "gtsrb"
    for label in range(43):
        for track in (0, 12):
            path = folder / "train" / f"{label:05d}" / f"{track:05d}_00003.jpg"
            write(path, value=label + 100 * (track > 0))
        write(folder / "val" / f"{label:05d}" / f"test_{label:05d}.jpg", value=label)
    (folder / "classes.txt").write_text("00000 speed limit 20\n")
    return folder


def test_signs_of_a_mirror(signs):
    train, test = gtsrb()
    assert train.images.shape == (86, 3, 32, 32) and len(test) == 43
    assert train.labels.tolist() == [label for label in range(43) for _ in range(2)]
    first = train.images[:, 0, 0, 0].tolist()
    assert first == [label + extra for label in range(43) for extra in (0, 100)]
    tracks = [100_000 * label + track for label in range(43) for track in (0, 12)]
    assert train.tracks.tolist() == tracks
    assert test.tracks.tolist() == [-1] * 43 and test.labels.tolist() == list(range(43))
    assert gtsrb(48)[0].images.shape[2:] == (48, 48)


def test_the_43_signs():
    assert len(SIGN_CLASSES) == len(set(SIGN_CLASSES)) == 43
    names = {0: "speed limit 20", 6: "end of speed limit 80", 12: "priority road"}
    names |= {14: "stop", 17: "no entry", 25: "road work", 34: "turn left ahead"}
    names |= {40: "roundabout", 42: "end of no passing for trucks"}
    assert {label: SIGN_CLASSES[label] for label in names} == names


@pytest.fixture
def official_signs(data_folder):
    folder, shape = data_folder / "gtsrb", (40, 60, 3)
    for label in range(43):
        training = folder / "GTSRB" / "Training" / f"{label:05d}"
        for frame in range(2):
            write(training / f"00007_{frame:05d}.ppm", shape, label, "PPM")
        (training / f"GT-{label:05d}.csv").write_text("Filename;Width\n")
    table = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    images = folder / "GTSRB" / "Final_Test" / "Images"
    for number, label in enumerate([16, 1, 38]):
        write(images / f"{number:05d}.ppm", shape, label, "PPM")
        table.append(f"{number:05d}.ppm;53;54;6;5;48;49;{label}")
    (images / "GT-final_test.test.csv").write_text("Filename\n")
    (folder / "GT-final_test.csv").write_text("\n".join(table) + "\n")
    return folder


def test_signs_of_the_official_set(official_signs):
    train, test = gtsrb()
    assert train.images.shape == (86, 3, 32, 32) and test.labels.tolist() == [16, 1, 38]
    assert train.images[:, 0, 0, 0].tolist() == train.labels.tolist()
    assert test.images[:, 2, 31, 31].tolist() == [16, 1, 38]
    tracks = [100_000 * label + 7 for label in range(43) for _ in range(2)]
    assert train.tracks.tolist() == tracks and test.tracks.tolist() == [-1, -1, -1]
    wide = read_image(official_signs / "GTSRB/Training/00005/00007_00001.ppm")
    assert torch.equal(train.images[11], fit_square(wide, 32))


def test_bad_files_among_the_signs_are_named(signs):
    odd, long = signs / "train/00004/sign.jpg", signs / "train/00009/1234567_1.jpg"
    write(odd, value=4)
    write(long, value=4)
    with pytest.raises(ValueError, match="(?s)track, frame.*sign.jpg.*1234567_1.jpg"):
        gtsrb()
    odd.unlink()
    long.rename(long.with_name("00001_1.jpg")).write_bytes(b"")
    with pytest.raises(ValueError, match="00001_1.jpg is empty"):
        gtsrb()
    write(signs / "train" / "00043" / "00001_1.jpg", value=4)
    with pytest.raises(ValueError, match="found 00043"):
        gtsrb()


def test_a_bad_official_test_is_named(official_signs):
    images = official_signs / "GTSRB" / "Final_Test" / "Images"
    (images / "00001.ppm").rename(images / "00009.ppm")
    with pytest.raises(ValueError, match="csv: no annotation of its own for 00009.ppm"):
        gtsrb()
    for text in ("Filename;ClassId\n00000.ppm;x\n", "Name\n00000.ppm\n"):
        (official_signs / "GT-final_test.csv").write_text(text)
        with pytest.raises(ValueError, match="lacks Filename or ClassId"):
            gtsrb()


def forest(height=300, width=400, n=12, seed=0):
    """A grey photo whose trees, 16 to 30 pixels large, are white, and their boxes."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=generator)
    corners = (corners * torch.tensor([width - 30, height - 30])).floor()
    sides = torch.randint(16, 31, (n, 2), generator=generator)
    boxes = torch.cat([corners, corners + sides], dim=1)
    image = torch.full((3, height, width), 100, dtype=torch.uint8)
    for x0, y0, x1, y1 in boxes.int().tolist():
        image[:, y0:y1, x0:x1] = 255
    return image, boxes


def test_squares_by_hand():
    boxes = torch.tensor(
        [[50.0, 60, 70, 70], [0, 0, 10, 20], [90, 75, 100, 80], [0, 0, 100, 80]]
    )
    expected = [[48, 53, 72, 77], [0, 0, 24, 24], [88, 68, 100, 80], [10, 0, 90, 80]]
    assert _squares(boxes, height=80, width=100).tolist() == expected


def test_ground_touches_no_tree_and_no_patch_twice():
    _, boxes = forest(n=30)
    squares = _squares(boxes, 300, 400)
    ground, kept = _ground(squares, boxes, 300, 400, torch.Generator().manual_seed(0))
    assert len(ground) == len(kept) > 20
    assert (box_iou(ground.float(), boxes) == 0).all()
    shared = box_iou(ground.float(), ground.float()) - torch.eye(len(ground))
    assert shared.max() <= SHARED + 1e-6
    sides = squares[:, 2:] - squares[:, :2]
    assert torch.equal(ground[:, 2:] - ground[:, :2], sides[kept])
    assert (ground >= 0).all() and (ground[:, 2:] <= torch.tensor([400, 300])).all()


def test_ground_reaches_the_edges():
    boxes, square = torch.tensor([[4.0, 4, 6, 6]]), torch.tensor([[0, 0, 4, 4]])
    generator = torch.Generator().manual_seed(0)
    found = [_ground(square, boxes, 10, 12, generator)[0][0] for _ in range(300)]
    left, top = torch.stack(found)[:, :2].unbind(1)
    assert set(left.tolist()) == set(range(9)) and set(top.tolist()) == set(range(7))


def test_patches_show_what_they_say():
    image, boxes = forest()
    ground, tree = cut_patches(image, boxes, 16, torch.Generator().manual_seed(0))
    assert ground.shape == tree.shape == (12, 3, 16, 16) and ground.dtype == torch.uint8
    assert (ground == 100).all()
    assert (tree[:, :, 7:9, 7:9] > 200).all()
    assert len(cut_patches(image, boxes[:1], 8, torch.Generator())[0]) == 1
    assert cut_patches(image, boxes[:0], 8, torch.Generator())[0].shape == (0, 3, 8, 8)
    # no room for ground
    full = cut_patches(image, torch.tensor([[0.0, 0, 400, 300]]), 8, torch.Generator())
    assert full[0].shape == full[1].shape == (0, 3, 8, 8)


def test_a_tree_without_room_for_ground_is_left_out():
    image = torch.full((3, 100, 100), 100, dtype=torch.uint8)
    image[:, :60, :60], image[:, 80:96, 80:96] = 200, 255
    # 72 pixels fit nowhere beside the first
    boxes = torch.tensor([[0.0, 0, 60, 60], [80, 80, 96, 96]])
    ground, tree = cut_patches(image, boxes, 8, torch.Generator())
    assert len(ground) == len(tree) == 1
    assert ground.unique().tolist() == [100] and int(tree[0, 0, 4, 4]) == 255


def test_small_trees_are_left_out_but_are_no_ground():
    image, boxes = forest(80, 100, n=1)
    corners = torch.cartesian_prod(
        torch.arange(0.0, 100, 15), torch.arange(0.0, 80, 15)
    )
    small = torch.cat([corners, corners + 15], dim=1)  # they cover the image
    ground, tree = cut_patches(image, torch.cat([boxes, small]), 8, torch.Generator())
    assert len(ground) == len(tree) == 0
    assert len(cut_patches(image, small[:1], 8, torch.Generator())[1]) == 0
    wider = small[:1] + torch.tensor([0, 0, 1, 0])
    assert len(cut_patches(image, wider, 8, torch.Generator())[1]) == 1


@pytest.fixture
def photos(data_folder):
    """The four photos of `trees`, one for training; each ground has its own grey."""
    folder = data_folder / "trees"
    folder.mkdir()
    for number, name in enumerate(TREES["train"] + TREES["test"]):
        image, boxes = forest(seed=number)
        image[image == 100] -= number
        image[0] += torch.arange(400, dtype=torch.uint8) % 3  # so that places differ
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
        objects = "".join(
            f"<object><bndbox><xmin>{x0 + 1:.0f}</xmin><ymin>{y0 + 1:.0f}</ymin>"
            f"<xmax>{x1:.0f}</xmax><ymax>{y1:.0f}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in boxes.tolist()
        )
        size = "<size><width>400</width><height>300</height></size>"
        (folder / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return folder


def test_tree_patches(photos):
    train, test = tree_patches(size=20)
    assert train.images.shape == (24, 3, 20, 20)
    assert test.images.shape[1:] == (3, 20, 20) and train.classes == ["ground", "tree"]
    for part, greys in ((train, [100]), (test, [97, 98, 99])):  # no photo is in both
        assert part.labels.bincount().tolist() == [len(part) // 2] * 2
        assert part.images[part.labels == 0][:, 1].unique().tolist() == greys
        assert (part.images[part.labels == 1][:, 1, 10, 10] > 200).all()
    again, other = tree_patches(size=20)[0], tree_patches(size=20, seed=1)[0]
    assert torch.equal(train.images, again.images)
    assert torch.equal(train.images[12:], other.images[12:])  # the trees
    assert not torch.equal(train.images[:12], other.images[:12])
    assert tree_patches()[0].images.shape[2:] == (64, 64)
    with pytest.raises(ValueError, match="whole number of pixels"):
        tree_patches(size=0)


@pytest.fixture
def pets(data_folder):
    """A whole set `cats_dogs` of four images; remove it, and no source has it."""
    for part in ("train", "val"):
        for label in ("cats", "dogs"):
            write(data_folder / "cats_dogs" / part / label / "1.jpg", (60, 90, 3))
    return data_folder / "cats_dogs"


def test_the_set_that_is_there_is_loaded_without_a_word(pets, photos, capsys):
    train, test, name = load_or_stand_in("cats_dogs", "tree_patches")
    assert name == "cats_dogs" and train.classes == ["cats", "dogs"]
    assert test.images.shape == (2, 3, 128, 128)
    train = load_or_stand_in("cats_dogs", "tree_patches", size=48).train
    assert train.images.shape[-1] == 48 and capsys.readouterr().out == ""


def test_the_stand_in_says_so_in_one_line(photos, capsys):
    train, _, name = load_or_stand_in("cats_dogs", "tree_patches", size=32)
    assert name == "tree_patches" and train.classes == ["ground", "tree"]
    assert train.images.shape[-1] == 32
    tried, printed = capsys.readouterr().out.splitlines()
    assert tried.startswith("cats_dogs: from github ")
    assert "cats_dogs is not here" in printed and "stand-in, tree_patches" in printed
    assert "it would come from github chanakya2734/Image-classification" in printed


def test_of_a_set_that_is_generated_the_line_names_what_it_is_made_of(
    data_folder, capsys
):
    shutil.copytree(RAW, data_folder / "FashionMNIST" / "raw")
    assert load_or_stand_in("tree_patches", "articles").name == "articles"
    assert "it would come from pypi deepforest==" in capsys.readouterr().out


def test_a_damaged_set_is_never_covered_by_its_stand_in(pets, photos, capsys):
    (pets / "val" / "dogs" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1.jpg is not an image"):
        load_or_stand_in("cats_dogs", "tree_patches")
    shutil.rmtree(pets / "val")
    with pytest.raises(DatasetUnavailable, match="holds a part of it"):
        load_or_stand_in("cats_dogs", "tree_patches")
    assert "stand-in" not in capsys.readouterr().out


def test_where_both_are_missing_it_says_so_of_both(photos, capsys):
    with pytest.raises(
        DatasetAbsent,
        match="(?s)'cats_dogs' is not here.*'hymenoptera'.*'hymenoptera' is not",
    ):
        load_or_stand_in("cats_dogs", "hymenoptera")
    name = TREES["test"][0]
    (photos / f"{name}.xml").write_text("damaged")
    with pytest.raises(ValueError, match=f"{name}.xml is not an annotation"):
        load_or_stand_in("cats_dogs", "tree_patches")
    assert "stand-in" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("cats_dog", "articles"), None, "one of .*cats_dogs.*, got 'cats_dog'"),
        (("cats_dogs", "trees"), None, "expected one of .*, got 'trees'"),
        (("cats_dogs", "cats_dogs"), None, "cannot stand in for itself"),
        (("cats_dogs", "cifar10"), 64, "'cifar10' are 32 px.*got 64"),
        (("cifar100", "cats_dogs"), 0, "'cifar100' are 32 px.*got 0"),
    ],
)
def test_names_and_sizes_are_checked_before_anything_is_loaded(
    names, size, message, data_folder, capsys
):
    with pytest.raises(ValueError, match=message):
        load_or_stand_in(*names, size=size)
    assert capsys.readouterr().out == ""


def test_cifar_and_articles(pickles, capsys):
    """As notebook 3.10 calls it: CIFAR has one size, and articles are as large."""
    assert load_or_stand_in("cifar100", "articles").name == "cifar100"
    assert load_or_stand_in("cifar100", "articles", size=32).name == "cifar100"
    shutil.rmtree(pickles / "cifar-10-batches-py")
    shutil.copytree(RAW, pickles / "FashionMNIST" / "raw")
    train, test, name = load_or_stand_in("cifar10", "articles", size=32)
    assert name == "articles" and train.images.shape == (1000, 3, 32, 32)
    assert len(test) == 500 and train.classes == FASHION_CLASSES
