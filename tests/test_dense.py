import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from utils import dense
from utils.dense import IGNORE, camvid, read_depth, rgbd_indoor

CLASSES = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol"]
CLASSES += ["Fence", "Car", "Pedestrian", "Bicyclist"]
PARTS = {"train": 3, "val": 2, "test": 1}


def mask_of(seed, height=36, width=48):
    """Random classes 0..11 in blocks of 3x3 pixels."""
    blocks = np.random.default_rng(seed).integers(0, 12, (height // 3, width // 3), dtype=np.uint8)
    return blocks.repeat(3, 0).repeat(3, 1)


@pytest.fixture
def streets(tmp_path, monkeypatch):
    lines = [f"{number} {name}" for number, name in enumerate([*CLASSES, "Unlabelled"])]
    (tmp_path / "classes.txt").write_text("\n".join(lines) + "\n")
    seed = 0
    for part, n in PARTS.items():
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "masks" / part).mkdir(parents=True)
        for number in range(n):
            name = f"seq_{part}_{number}"
            picture = np.full((36, 48, 3), 40 * seed, np.uint8)
            picture[:, 24:] += 50  # the right half is lighter
            Image.fromarray(picture).save(tmp_path / "images" / part / f"{name}.jpg", quality=95)
            Image.fromarray(mask_of(seed)).save(tmp_path / "masks" / part / f"{name}.png")
            seed += 1
    monkeypatch.setattr(dense, "fetch", lambda name: {"camvid": tmp_path}[name])
    return tmp_path


def test_camvid_has_three_parts_and_eleven_classes(streets):
    parts = camvid(None)
    assert [len(part) for part in parts] == [3, 2, 1]
    assert parts[0].names == ["seq_train_0", "seq_train_1", "seq_train_2"] and parts[0].classes == CLASSES
    seed = 0
    for part in parts:
        for image, mask in part:
            assert image.shape == (3, 36, 48) and image.dtype == torch.uint8
            assert (
                abs(int(image[0, 0, 0]) - 40 * seed) <= 3 and int(image[0, 0, 47]) > int(image[0, 0, 0]) + 40
            )
            original = torch.from_numpy(mask_of(seed))
            assert mask.dtype == torch.uint8 and set(mask.unique().tolist()) <= {*range(11), IGNORE}
            assert torch.equal(mask == IGNORE, original == 11) and (original == 11).any()
            assert torch.equal(mask[mask != IGNORE], original[original != 11])
            seed += 1


def test_masks_are_resized_by_nearest_pixel_and_pictures_smoothly(streets):
    train = camvid((13, 20))[0]
    assert train.images.shape == (3, 3, 13, 20) and train.annotations.shape == (3, 13, 20)
    for number, mask in enumerate(train.annotations):
        original = torch.from_numpy(mask_of(number)).float()[None, None]
        expected = functional.interpolate(original, (13, 20), mode="nearest-exact")[0, 0]
        assert torch.equal(torch.where(expected == 11, IGNORE, expected).long(), mask.long())
    same = camvid((12, 16))[0].annotations[0].long()  # a third: the middle of each block
    blocks = torch.from_numpy(mask_of(0)[1::3, 1::3].copy()).long()
    assert torch.equal(same, torch.where(blocks == 11, IGNORE, blocks))
    edge = train.images[2, 0, 6]  # bilinear: some pixel lies between dark and light
    assert ((edge > edge[0] + 5) & (edge < edge[-1] - 5)).any()


def test_camvid_has_a_default_size(streets):
    assert camvid()[1].images.shape[2:] == camvid()[1].annotations.shape[1:] == dense.CAMVID_SIZE


def test_pictures_and_masks_are_paired_by_name(streets):
    first, last = (
        streets / "masks" / "train" / "seq_train_0.png",
        streets / "masks" / "train" / "seq_train_2.png",
    )
    first.rename(first.with_name("seq_train_9.png"))
    (streets / "images" / "train" / "seq_train_0.jpg").rename(
        streets / "images" / "train" / "seq_train_9.jpg"
    )
    train = camvid(None)[0]
    assert train.names == ["seq_train_1", "seq_train_2", "seq_train_9"]
    assert torch.equal(train.annotations[2] == IGNORE, torch.from_numpy(mask_of(0)) == 11)
    last.unlink()
    with pytest.raises(ValueError, match="no annotation for seq_train_2"):
        camvid(None)


@pytest.mark.parametrize("unknown", [12, 255])
def test_a_mask_with_an_unknown_class_is_named(streets, unknown):
    mask = mask_of(3)
    mask[0, 0] = unknown
    Image.fromarray(mask).save(streets / "masks" / "val" / "seq_val_0.png")
    with pytest.raises(ValueError, match=rf"seq_val_0\.png .* 0 to 11, holds {unknown}"):
        camvid()


def test_a_mask_of_another_size_or_in_colour_is_named(streets):
    path = streets / "masks" / "val" / "seq_val_0.png"
    Image.fromarray(mask_of(3)[:33]).save(path)
    with pytest.raises(ValueError, match=r"seq_val_0\.png is \(33, 48\) .* picture \(36, 48\)"):
        camvid()
    Image.new("RGB", (48, 36)).save(path)
    with pytest.raises(ValueError, match=r"seq_val_0\.png"):
        camvid()


@pytest.mark.parametrize("text", ["", "0 Sky\n", "\n".join(f"{n} a" for n in range(13)), "Sky\n" * 12])
def test_other_classes_are_refused(streets, text):
    (streets / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.txt should name the classes 0 to 11"):
        camvid()


def test_a_mask_without_a_picture_and_a_missing_folder_are_named(streets):
    (streets / "images" / "test" / "seq_test_0.jpg").rename(streets / "images" / "test" / "other.jpg")
    with pytest.raises(ValueError, match="no annotation for other"):
        camvid()
    (streets / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"expected classes\.txt"):
        camvid()


def test_depth_is_in_metres_and_nan_where_nothing_was_measured(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 1500], [9877, 65535, 0]], np.uint16)).save(path)
    depth = read_depth(path)
    expected = torch.tensor([[torch.nan, 0.001, 1.5], [9.877, 65.535, torch.nan]])
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, expected, equal_nan=True)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32)]
)
def test_a_depth_map_of_another_kind_is_named(tmp_path, picture):
    path = tmp_path / ("a.tiff" if picture.dtype == np.int32 else "a.png")
    Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=rf"{path.name} should hold 16-bit depths"):
        read_depth(path)


def test_a_broken_depth_map_is_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9999, (40, 40), dtype=np.uint16)).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png is a broken picture"):
            read_depth(path)


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    lines = ["split,name,scene,valid_fraction,median_mm"]
    for index, part in enumerate(dense.RGBD_PARTS):
        for kind in ("rgb", "depth"):
            (tmp_path / part / kind).mkdir(parents=True)
        for number in range(2):
            name = f"office_{index}{number}"
            lines.append(f"{part},{name},office,1.000,{1000 * index + number}")
            Image.new("RGB", (8, 6), (100 * index, 0, 0)).save(tmp_path / part / "rgb" / f"{name}.jpg")
            depth = np.full((6, 8), 1000 * index + 500 * number, np.uint16)
            Image.fromarray(depth).save(tmp_path / part / "depth" / f"{name}.png")
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(dense, "fetch", lambda name: {"rgbd_indoor": tmp_path}[name])
    return tmp_path


def test_rgbd_indoor_gives_three_parts(rooms):
    parts = rgbd_indoor()
    assert [part.names for part in parts] == [[f"office_{i}{n}" for n in range(2)] for i in range(3)]
    for index, part in enumerate(parts):
        assert part.images.shape == (2, 3, 6, 8) and part.images.dtype == torch.uint8
        assert abs(int(part.images[1, 0, 3, 3]) - 100 * index) < 4
        assert part.annotations.shape == (2, 6, 8) and float(part.annotations[1, 5, 7]) == index + 0.5
    assert parts[0].annotations[0].isnan().all()


def test_frames_without_a_partner_and_depths_of_another_size_are_named(rooms):
    path = rooms / "val" / "depth" / "office_10.png"
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"office_10\.png is \[8, 6\] pixels, its picture \[6, 8\]"):
        rgbd_indoor()
    path.unlink()
    with pytest.raises(ValueError, match="no annotation for office_10"):
        rgbd_indoor()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("val,office_10", "train,office_10", "no picture for office_10"),
        ("val,office_10,office,1.000,1000\n", "", "no annotation for office_10"),
        ("val,office_10", "wal,office_10", "lists a split 'wal'"),
        ("office,1.000,1001", "office,1.000", "line 5: expected 5 columns, got 4"),
        ("median_mm", "median_m", "median_m"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(rooms, old, new, message):
    index = rooms / "index.csv"
    assert old in index.read_text()
    index.write_text(index.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"index\.csv.*{message}"):
        rgbd_indoor()
