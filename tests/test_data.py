import struct
from pathlib import Path

import pytest
import torch
import torchvision
from skimage import data as skimage_data

from utils import data
from utils.fetch import DatasetUnavailable

SAMPLES = Path(__file__).parent / "data"
SETS = [
    ("fashion_mnist", torchvision.datasets.FashionMNIST, 1000, 500),
    ("mnist", torchvision.datasets.MNIST, 500, 250),
]


def idx(*shape, content=None, magic=b"\0\0\x08"):
    size = int(torch.tensor(shape).prod())
    content = bytes(range(size)) if content is None else content
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def test_read_idx_keeps_the_order_of_axes(tmp_path):
    (tmp_path / "a").write_bytes(idx(2, 3, 4))
    assert torch.equal(data.read_idx(tmp_path / "a"), torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(2, 3, content=b"12345"), "cut short"),
        (idx(2, 3, content=b"1234567"), "cut short"),
        (idx(2, 3, magic=b"\0\0\x0d"), "not an idx file"),
        (b"\x1f\x8b\x08\0", "not an idx file"),
        (b"", "not an idx file"),
        (b"\0\0\x08\x03\0\0", "cut short"),
    ],
)
def test_read_idx_names_the_bad_file(tmp_path, content, message):
    (tmp_path / "bad-idx").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad-idx.*{message}"):
        data.read_idx(tmp_path / "bad-idx")


@pytest.mark.parametrize(("name", "reference", "n_train", "n_test"), SETS, ids=["fashion_mnist", "mnist"])
def test_sets_are_what_torchvision_reads(monkeypatch, name, reference, n_train, n_test):
    monkeypatch.setenv("CV_DATA", str(SAMPLES))
    for dataset, train, n in zip(getattr(data, name)(), (True, False), (n_train, n_test), strict=True):
        expected = reference(SAMPLES, train=train, download=False)
        assert torch.equal(dataset.images[:, 0], expected.data) and dataset.images.shape == (n, 1, 28, 28)
        assert torch.equal(dataset.labels, expected.targets)
        assert dataset.labels.bincount().min() >= 0.085 * n  # stratified
        names = (
            [label.split(" - ")[-1] for label in expected.classes]
            if name == "fashion_mnist"
            else dataset.classes
        )
        assert dataset.classes == names and len(names) == 10


def test_a_set_that_is_not_to_be_had_is_replaced_by_its_sample_and_says_so(monkeypatch, capsys):
    def fail(name):
        raise DatasetUnavailable(f"{name}: no network")

    monkeypatch.setattr(data, "fetch", fail)
    train, _ = data.fashion_mnist()
    assert len(train) == 1000
    printed = capsys.readouterr().out
    assert "no network" in printed and "sample" in printed
    monkeypatch.setattr(data, "SAMPLES", Path("nowhere"))
    with pytest.raises(DatasetUnavailable, match="no network"):
        data.fashion_mnist()


def test_photos_are_scikit_images():
    photos = data.photos()
    assert set(photos) == {"astronaut", "cat", "coffee"}
    assert all(photo.dtype == torch.uint8 and photo.shape[0] == 3 for photo in photos.values())
    assert torch.equal(photos["cat"][2, 10], torch.from_numpy(skimage_data.cat()[10, :, 2].copy()))


def test_textures_are_scikit_images():
    textures = data.textures()
    assert set(textures) == {"brick", "grass", "gravel"}
    assert {(texture.dtype, texture.shape) for texture in textures.values()} == {(torch.uint8, (1, 512, 512))}
    assert torch.equal(textures["grass"][0, 3], torch.from_numpy(skimage_data.grass()[3].copy()))
