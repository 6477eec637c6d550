"""Sets with an annotation for each pixel."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from utils.data import IGNORE, camvid, rgbd_indoor
from utils.fetch import DatasetUnavailable

CLASSES = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol"]
CLASSES += ["Fence", "Car", "Pedestrian", "Bicyclist"]


def mask_of(seed, height=36, width=48):
    """Random classes 0..11 in blocks of 3x3 pixels."""
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 12, (height // 3, width // 3), dtype=np.uint8)
    return blocks.repeat(3, 0).repeat(3, 1)


@pytest.fixture
def streets(data_folder):
    folder, seed = data_folder / "camvid", 0
    for part, n in {"train": 3, "val": 2, "test": 1}.items():
        (folder / "images" / part).mkdir(parents=True)
        (folder / "masks" / part).mkdir(parents=True)
        for number in range(n):
            name = f"seq_{part}_{number}"
            image = np.full((36, 48, 3), 40 * seed, np.uint8)
            image[:, 24:] += 50  # the right half is lighter
            path = folder / "images" / part / f"{name}.jpg"
            Image.fromarray(image).save(path, quality=95)
            mask = Image.fromarray(mask_of(seed))
            mask.save(folder / "masks" / part / f"{name}.png")
            seed += 1
    lines = [
        f"{number} {name}\n" for number, name in enumerate([*CLASSES, "Unlabelled"])
    ]
    (folder / "classes.txt").write_text("".join(lines))
    return folder


def test_camvid_has_three_parts_and_eleven_classes(streets):
    parts = camvid(None)
    assert [len(part) for part in parts] == [3, 2, 1]
    assert parts[0].names == ["seq_train_0", "seq_train_1", "seq_train_2"]
    assert parts[0].classes == CLASSES
    for seed, (image, mask) in enumerate(pair for part in parts for pair in part):
        assert image.shape == (3, 36, 48) and image.dtype == mask.dtype == torch.uint8
        left, right = int(image[0, 0, 0]), int(image[0, 0, 47])
        assert abs(left - 40 * seed) <= 3 and right > left + 40
        original = torch.from_numpy(mask_of(seed))
        assert torch.equal(mask == IGNORE, original == 11) and (original == 11).any()
        assert torch.equal(mask[mask != IGNORE], original[original != 11])


def test_masks_are_resized_by_nearest_pixel_and_images_smoothly(streets):
    train = camvid((13, 20))[0]
    assert train.images.shape == (3, 3, 13, 20)
    assert train.annotations.shape == (3, 13, 20)
    for number, mask in enumerate(train.annotations):
        original = torch.from_numpy(mask_of(number)).float()[None, None]
        expected = functional.interpolate(original, (13, 20), mode="nearest-exact")
        expected = torch.where(expected[0, 0] == 11, IGNORE, expected[0, 0])
        assert torch.equal(expected.long(), mask.long())
    # a third: the middle of each block
    same = camvid((12, 16))[0].annotations[0].long()
    blocks = torch.from_numpy(mask_of(0)[1::3, 1::3].copy()).long()
    assert torch.equal(same, torch.where(blocks == 11, IGNORE, blocks))
    edge = train.images[2, 0, 6]  # bilinear: some pixel lies between dark and light
    assert ((edge > edge[0] + 5) & (edge < edge[-1] - 5)).any()
    assert (
        camvid()[1].images.shape[2:] == camvid()[1].annotations.shape[1:] == (192, 256)
    )


@pytest.mark.parametrize("size", [192, (192,), (0, 256), (192.5, 256), "ab", (1, 2, 3)])
def test_camvid_refuses_what_is_no_size(size, data_folder):
    with pytest.raises(ValueError, match=r"size must be \(height, width\)"):
        camvid(size)


def test_images_and_masks_are_paired_by_name(streets):
    images, masks = streets / "images" / "train", streets / "masks" / "train"
    (masks / "seq_train_0.png").rename(masks / "seq_train_9.png")
    (images / "seq_train_0.jpg").rename(images / "seq_train_9.jpg")
    train = camvid(None)[0]
    assert train.names == ["seq_train_1", "seq_train_2", "seq_train_9"]
    unlabelled = torch.from_numpy(mask_of(0)) == 11
    assert torch.equal(train.annotations[2] == IGNORE, unlabelled)
    (masks / "seq_train_2.png").unlink()
    with pytest.raises(ValueError, match="no annotation of its own for seq_train_2"):
        camvid(None)
    (images / "seq_train_2.jpg").unlink()
    (images / "seq_train_1.jpg").unlink()
    with pytest.raises(ValueError, match="no image of its own for seq_train_1"):
        camvid(None)


def test_a_mask_with_an_unknown_class_of_another_size_or_in_colour_is_named(streets):
    path, mask = streets / "masks" / "val" / "seq_val_0.png", mask_of(3)
    mask[0, 0] = 12
    Image.fromarray(mask).save(path)
    with pytest.raises(ValueError, match=r"seq_val_0\.png .* 0 to 11, holds 12"):
        camvid()
    Image.fromarray(mask_of(3)[:33]).save(path)
    with pytest.raises(
        ValueError, match=r"seq_val_0\.png is \(33, 48\) .* image \(36, 48\)"
    ):
        camvid()
    Image.new("RGB", (48, 36)).save(path)
    with pytest.raises(ValueError, match=r"seq_val_0\.png is a colour image"):
        camvid()
    (streets / "classes.txt").unlink()
    with pytest.raises(DatasetUnavailable, match="holds a part of it"):
        camvid()


PARTS = ("train", "val", "test_unseen_scene")


@pytest.fixture
def rooms(data_folder):
    folder = data_folder / "rgbd_indoor"
    for index, part in enumerate(PARTS):
        for kind in ("rgb", "depth"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(2):
            name = f"office_{index}{number}"
            image = Image.new("RGB", (8, 6), (100 * index, 0, 0))
            image.save(folder / part / "rgb" / f"{name}.jpg")
            depth = np.full((6, 8), 1000 * index + 500 * number, np.uint16)
            Image.fromarray(depth).save(folder / part / "depth" / f"{name}.png")
    (folder / "index.csv").write_text("split,name,scene,valid_fraction,median_mm\n")
    return folder


def test_rgbd_indoor_gives_three_parts(rooms):
    parts = rgbd_indoor()
    names = [[f"office_{i}{n}" for n in range(2)] for i in range(3)]
    assert [part.names for part in parts] == names
    for index, part in enumerate(parts):
        assert part.images.shape == (2, 3, 6, 8) and part.images.dtype == torch.uint8
        assert abs(int(part.images[1, 0, 3, 3]) - 100 * index) < 4
        assert part.annotations.shape == (2, 6, 8)
        assert (part.annotations[1] == index + 0.5).all()  # metres
    assert parts[0].annotations[0].isnan().all()


def test_frames_without_a_partner_and_depths_of_another_size_are_named(rooms):
    path = rooms / "val" / "depth" / "office_10.png"
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"office_10\.png is \(8, 6\) .* \(6, 8\)"):
        rgbd_indoor()
    path.unlink()
    with pytest.raises(ValueError, match="no annotation of its own for office_10"):
        rgbd_indoor()
