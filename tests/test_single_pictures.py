import json

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from utils import single_pictures
from utils.single_pictures import rgbd, stereo, voc_sample

H, W = 12, 16


def content():
    """Two objects: the first lies partly behind the second."""
    masks = np.zeros((2, H, W), np.int32)
    masks[0, 2:6, 3:8] = 1
    masks[0, 2:6, 8:11] = 2
    masks[1, 1:9, 8:14] = 1
    return {
        "rgb": np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3),
        "bboxes": np.array([[2, 3, 6, 11], [1, 8, 9, 14]], np.float32),  # y0, x0, y1, x1
        "labels": np.array([2, 1], np.int32),
        "masks": masks,
        "depth": np.where(np.eye(H, W, dtype=bool), np.nan, 0.5).astype(np.float32),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("voc", "arc2017"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "class_names.txt").write_text("_background_\nhand_weight\nfloor lamp\n")
        write(tmp_path, content())
    (tmp_path / "arc2017" / "camera_info.json").write_text(json.dumps({"K": [5, 0, 8, 0, 6, 7, 0, 0, 1]}))
    folders = {"rgbd": tmp_path, "voc_sample": tmp_path / "voc"}
    monkeypatch.setattr(single_pictures, "fetch", folders.__getitem__)
    return tmp_path


def write(folder, arrays, **changed):
    for path in folder.iterdir():
        np.savez(path / "data.npz", **{key: v for key, v in (arrays | changed).items() if v is not None})


def test_the_sample_of_voc_has_boxes_around_its_masks(folder):
    arrays = content()
    write(folder, arrays, masks=arrays["masks"] > 0, depth=None, bboxes=arrays["bboxes"].astype(np.float64))
    sample = voc_sample()
    assert (
        torch.equal(sample.image, torch.from_numpy(arrays["rgb"]).permute(2, 0, 1))
        and sample.image[1, 0, 2] == 7
    )
    assert torch.equal(sample.boxes, torch.tensor([[3.0, 2, 11, 6], [8, 1, 14, 9]]))
    assert sample.boxes.dtype == torch.float32 and sample.boxes.canvas_size == (H, W)
    edges = masks_to_boxes(sample.masks) + torch.tensor(
        [0, 0, 1, 1]
    )  # the last pixels' right and lower edges
    assert torch.equal(sample.boxes, edges)
    assert sample.masks.dtype == torch.bool and sample.masks.sum((1, 2)).tolist() == [32, 48]
    assert [sample.classes[label] for label in sample.labels] == ["floor lamp", "hand_weight"]
    assert sample.labels.dtype == torch.int64


def test_rgbd_tells_what_is_seen_from_what_is_hidden(folder):
    picture = rgbd()
    assert picture.masks.dtype == picture.hidden.dtype == torch.bool
    assert picture.masks.sum((1, 2)).tolist() == [20, 48] and picture.hidden.sum((1, 2)).tolist() == [12, 0]
    assert picture.masks[0, 2, 7] and not picture.masks[0, 2, 8] and picture.hidden[0, 2, 8]
    assert torch.equal(picture.boxes, torch.tensor([[3.0, 2, 11, 6], [8, 1, 14, 9]]))  # the whole object
    assert picture.depth.dtype == torch.float32 and picture.depth.shape == (H, W)
    assert torch.equal(picture.depth.isnan(), torch.eye(H, W, dtype=torch.bool))
    assert float(picture.depth.nanmedian()) == 0.5
    assert torch.equal(picture.camera, torch.tensor([[5, 0, 8], [0, 6, 7], [0, 0, 1]], dtype=torch.float64))
    point = picture.camera @ torch.tensor([0.2, -0.1, 2.0], dtype=torch.float64)
    torch.testing.assert_close(point[:2] / point[2], torch.tensor([8.5, 6.7], dtype=torch.float64))


def test_a_depth_of_zero_is_no_measurement(folder):
    depth = np.full((H, W), 0.5, np.float32)
    depth[1, 2] = 0
    write(folder, content(), depth=depth)
    assert rgbd().depth.isnan().nonzero().tolist() == [[1, 2]]


def with_value(name, index, value):
    array = content()[name]
    array[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": None}, "should hold the arrays .*depth"),
        ({"depth": np.zeros((W, H), np.float32)}, r"depth should be \[H, W\], is \[16, 12\]"),
        ({"bboxes": np.zeros((3, 4), np.float32)}, r"\[n, 4\]|labels should be \[n\]"),
        ({"bboxes": np.zeros((2, 5), np.float32)}, r"bboxes should be \[n, 4\], is \[2, 5\]"),
        ({"masks": np.zeros((2, H), np.int32)}, r"masks should be \[n, H, W\]"),
        ({"rgb": np.zeros((H, W, 4), np.uint8)}, r"rgb should be \[H, W, 3\]"),
        ({"rgb": np.zeros((H, W, 3), np.float32)}, "expected rgb in uint8"),
        (with_value("labels", 0, 3), r"labels in 1\.\.2"),
        (with_value("labels", 0, 0), r"labels in 1\.\.2"),
        (with_value("masks", (0, 3, 3), 3), "expected masks of 0, 1 and 2"),
        (with_value("masks", (0, 3, 3), -1), "expected masks of 0, 1 and 2"),
        (with_value("masks", (1, 0, 0), 1), "tight"),
        (with_value("bboxes", (0, 0), 1), "tight"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder, changed, message):
    write(folder, content(), **changed)
    with pytest.raises(ValueError, match=rf"data\.npz.*({message})"):
        rgbd()


def test_missing_and_broken_files_are_named(folder):
    (folder / "voc" / "data.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"data\.npz should hold the arrays rgb"):
        voc_sample()
    (folder / "voc" / "class_names.txt").unlink()
    with pytest.raises(ValueError, match=r"expected class_names\.txt"):
        voc_sample()
    camera = folder / "arc2017" / "camera_info.json"
    for text in ("{", "{}", "[]", '{"K": [1, 2]}', '{"K": "a"}'):
        camera.write_text(text)
        with pytest.raises(ValueError, match=r"camera_info\.json should hold K"):
            rgbd()
    camera.unlink()
    with pytest.raises(ValueError, match=r"expected camera_info\.json"):
        rgbd()


def test_stereo_lays_the_right_picture_on_the_left_one():
    pair = stereo()
    assert pair.left.shape == pair.right.shape == (3, 500, 741) and pair.left.dtype == torch.uint8
    assert pair.disparity.dtype == torch.float32 and not pair.disparity.isinf().any()
    known = pair.disparity > 0
    assert torch.equal(known, ~pair.disparity.isnan()) and 0.92 < float(known.float().mean()) < 0.94
    y, x = torch.meshgrid(torch.arange(500), torch.arange(741), indexing="ij")

    def difference(sign):
        source = (x + sign * pair.disparity.nan_to_num(1e6)).round().long()
        inside = known & (source >= 0) & (source < 741)
        pixels = [pair.left[:, inside].float(), pair.right[:, y[inside], source[inside]].float()]
        return float((pixels[0] - pixels[1]).abs().mean())

    assert difference(-1) < 10 < 15 < difference(1)  # grey levels
    depth = pair.focal_length * pair.baseline / (pair.disparity[known] + pair.offset)
    assert 2.0 < float(depth.min()) < 2.2 and 4.9 < float(depth.max()) < 5.1
