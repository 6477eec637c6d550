"""Single images and small collections."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as skimage_data
from torchvision.models import MobileNet_V2_Weights
from torchvision.ops import masks_to_boxes

from utils.data import (
    cards,
    emoji,
    pedestrians,
    photos,
    rgbd,
    samples,
    stereo,
    textures,
    voc_sample,
)
from utils.data.readers import fit_square, read_image
from utils.data.single_images import RANKS, SUITS


def test_photos_and_textures_are_scikit_images():
    found = photos()
    assert set(found) == {"astronaut", "cat", "coffee"}
    assert all(image.dtype == torch.uint8 for image in found.values())
    expected = torch.from_numpy(skimage_data.cat()).permute(2, 0, 1)
    assert torch.equal(found["cat"], expected)
    found = textures()
    assert set(found) == {"brick", "grass", "gravel"}
    for texture in found.values():
        assert texture.dtype == torch.uint8 and texture.shape == (1, 512, 512)
    assert torch.equal(found["grass"][0], torch.from_numpy(skimage_data.grass()))


@pytest.fixture
def sample_folder(data_folder):
    folder = data_folder / "imagenet_samples"
    folder.mkdir()
    shapes = {"00_243": (512, 512), "01_0": (60, 90), "02_999": (700, 600)}
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        noise = draw.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"imagenet_{name}.jpg")
    return folder


def test_samples(sample_folder):
    for name, value in (("cifar10_00_9", 9), ("cifar100_00_99", 99)):
        Image.new("RGB", (32, 32), (value,) * 3).save(sample_folder / f"{name}.png")
    large = samples()
    assert large.images.shape == (3, 3, 512, 512)
    assert large.labels.tolist() == [243, 0, 999]
    assert large.classes == MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    assert large.classes[285] == "Egyptian cat"
    first = read_image(sample_folder / "imagenet_00_243.jpg")
    third = read_image(sample_folder / "imagenet_02_999.jpg")
    assert torch.equal(large.images[0], first)
    assert torch.equal(large.images[2], fit_square(third, 512))
    for name, label, value in (("cifar10", "truck", 9), ("cifar100", "worm", 99)):
        small = samples(name)
        assert small.images.shape == (1, 3, 32, 32) and (small.images == value).all()
        assert small.classes[small.labels[0]] == label


def test_samples_that_are_not_there(sample_folder):
    with pytest.raises(ValueError, match="one of imagenet, cifar10, cifar100, got 'mn"):
        samples("mnist")
    with pytest.raises(ValueError, match="files like cifar10_00_7.png .* found none"):
        samples("cifar10")
    Image.new("RGB", (32, 32)).save(sample_folder / "imagenet_03_1000.jpg")
    with pytest.raises(ValueError, match=r"lie in 0\.\.999, .* got 0\.\.1000"):
        samples()


H, W = 12, 16


def content():
    """Two objects: the first lies partly behind the second."""
    masks = np.zeros((2, H, W), np.int32)
    masks[0, 2:6, 3:8] = 1
    masks[0, 2:6, 8:11] = 2
    masks[1, 1:9, 8:14] = 1
    depth = np.where(np.eye(H, W, dtype=bool), np.nan, 0.5).astype(np.float32)
    depth[5, 0] = 0  # no measurement either
    return {
        "rgb": np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3),
        # y0, x0, y1, x1
        "bboxes": np.array([[2, 3, 6, 11], [1, 8, 9, 14]], np.float32),
        "labels": np.array([2, 1], np.int32),
        "masks": masks,
        "depth": depth,
    }


def write(folder, arrays):
    folder.mkdir(parents=True)
    names = "_background_\nhand_weight\nfloor lamp\n"
    (folder / "class_names.txt").write_text(names)
    np.savez(folder / "data.npz", **arrays)


def test_the_sample_of_voc_has_boxes_around_its_masks(data_folder):
    arrays = content()
    arrays.pop("depth")
    arrays |= {"masks": arrays["masks"] > 0}
    arrays |= {"bboxes": arrays["bboxes"].astype(np.float64)}
    write(data_folder / "voc_sample", arrays)
    sample = voc_sample()
    assert torch.equal(sample.image, torch.from_numpy(arrays["rgb"]).permute(2, 0, 1))
    assert torch.equal(sample.boxes, torch.tensor([[3.0, 2, 11, 6], [8, 1, 14, 9]]))
    assert sample.boxes.dtype == torch.float32 and sample.boxes.canvas_size == (H, W)
    # the last pixels' right and lower edges
    edges = masks_to_boxes(sample.masks) + torch.tensor([0, 0, 1, 1])
    assert torch.equal(sample.boxes, edges)
    assert sample.masks.dtype == torch.bool
    assert sample.masks.sum((1, 2)).tolist() == [32, 48]
    names = [sample.classes[label] for label in sample.labels]
    assert names == ["floor lamp", "hand_weight"]
    assert sample.labels.dtype == torch.int64


def test_rgbd_tells_what_is_seen_from_what_is_hidden(data_folder):
    folder = data_folder / "rgbd" / "arc2017"
    write(folder, content())
    matrix = [5, 0, 8, 0, 6, 7, 0, 0, 1]
    (folder / "camera_info.json").write_text(json.dumps({"K": matrix}))
    sample = rgbd()
    assert sample.masks.dtype == sample.hidden.dtype == torch.bool
    assert sample.masks.sum((1, 2)).tolist() == [20, 48]
    assert sample.hidden.sum((1, 2)).tolist() == [12, 0]
    assert sample.masks[0, 2, 7] and sample.hidden[0, 2, 8]
    # the whole object
    assert torch.equal(sample.boxes, torch.tensor([[3.0, 2, 11, 6], [8, 1, 14, 9]]))
    assert sample.depth.dtype == torch.float32 and sample.depth.shape == (H, W)
    missing = torch.eye(H, W, dtype=torch.bool)
    missing[5, 0] = True
    assert torch.equal(sample.depth.isnan(), missing)
    assert float(sample.depth.nanmedian()) == 0.5
    assert sample.camera.dtype == torch.float64
    point = sample.camera @ torch.tensor([0.2, -0.1, 2.0], dtype=torch.float64)
    assert (point[:2] / point[2]).tolist() == pytest.approx([8.5, 6.7])


def test_rgbd_of_the_sample_has_tight_boxes(sample_data):
    sample = rgbd()
    whole = sample.masks | sample.hidden
    edges = masks_to_boxes(whole) + torch.tensor([0, 0, 1, 1])
    assert len(edges) == 8 and torch.equal(sample.boxes, edges)


def test_stereo_lays_the_right_image_on_the_left_one():
    pair = stereo()
    assert pair.left.shape == pair.right.shape == (3, 500, 741)
    assert pair.left.dtype == torch.uint8 and pair.disparity.dtype == torch.float32
    known = pair.disparity > 0
    assert torch.equal(known, ~pair.disparity.isnan())
    assert not pair.disparity.isinf().any()
    assert 0.92 < float(known.float().mean()) < 0.94
    y, x = torch.meshgrid(torch.arange(500), torch.arange(741), indexing="ij")

    def difference(sign):
        source = (x + sign * pair.disparity.nan_to_num(1e6)).round().long()
        inside = known & (source >= 0) & (source < 741)
        left = pair.left[:, inside].float()
        right = pair.right[:, y[inside], source[inside]].float()
        return float((left - right).abs().mean())

    assert difference(-1) < 10 < 15 < difference(1)  # grey levels
    depth = pair.focal_length * pair.baseline / (pair.disparity[known] + pair.offset)
    assert 2.0 < float(depth.min()) < 2.2 and 4.9 < float(depth.max()) < 5.1


SVG = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{}</svg>'
LEFT_HALF = SVG.format('<rect x="0" y="0" width="36" height="72" fill="#ff8000"/>')
UPPER_HALF = SVG.format(
    '<rect x="0" y="0" width="72" height="36" fill="#0000ff" opacity="0.5"/>'
)


@pytest.fixture
def glyphs(data_folder):
    folder = data_folder / "openmoji"
    folder.mkdir()
    for code in ("1F431", "1F468-200D-1F33E", "2764-FE0F", "E08C", "E0C0"):
        (folder / f"{code}.svg").write_text(LEFT_HALF)
    (folder / "2764-FE0F.svg").write_text(UPPER_HALF)
    return folder


def test_emoji_are_drawn_with_their_names(glyphs):
    images, names, codes = emoji(16)
    assert images.shape == (5, 4, 16, 16) and images.dtype == torch.uint8
    assert codes == ["1F431", "1F468-200D-1F33E", "2764-FE0F", "E08C", "E0C0"]
    assert names[:3] == ["CAT FACE", "MAN + EAR OF RICE", "HEAVY BLACK HEART"]
    assert names[3:] == ["U+E08C", "U+E0C0"]
    left = images[0]
    assert left[:, :, :8].flatten(1).unique(dim=1)[:, 0].tolist() == [255, 128, 0, 255]
    assert not left[3, :, 8:].any()
    upper = images[2]  # colour is not multiplied by opacity
    assert upper[2, 3, 3] == 255 and 126 <= int(upper[3, 3, 3]) <= 129
    assert not upper[3, 8:].any()


def test_some_emoji_may_be_asked_for_in_any_size(glyphs):
    assert emoji(codes=["1F431"]).images.shape == (1, 4, 64, 64)
    assert emoji(1, codes=["1F431"]).images.shape == (1, 4, 1, 1)
    assert emoji(8, codes=["E08C", "1F431"]).codes == ["E08C", "1F431"]
    assert emoji(8, count=2).codes == ["1F431", "2764-FE0F"]
    assert emoji(8, count=5).codes == emoji(8).codes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": ["1F431", "1F999"]}, r"expected 1F999\.svg"),
        ({"codes": []}, "give a list of codes"),
        ({"codes": "1F431"}, "give a list of codes, .* got '1F431'"),
        ({"codes": ["1F431"], "count": 1}, "or a count, or neither"),
        ({"count": 6}, "1 to 5 emoji, got 6"),
        ({"count": 0}, "1 to 5 emoji, got 0"),
        ({"count": 0.5}, "1 to 5 emoji, got 0.5"),
        ({"size": 0}, "number of pixels from 1 on"),
    ],
)
def test_emoji_that_are_not_there_are_refused(glyphs, arguments, message):
    with pytest.raises(ValueError, match=message):
        emoji(**arguments)


@pytest.fixture
def deck(data_folder):
    folder = data_folder / "cards"
    folder.mkdir()
    for suit, name in enumerate(("Clubs", "Diamonds", "Hearts", "Spades")):
        for rank, sign in enumerate("A 2 3 4 5 6 7 8 9 10 J Q K".split()):
            image = Image.new("RGBA", (14, 19), (suit, rank, 0, 100))
            image.save(folder / f"card{name}{sign}.png")
    Image.new("RGBA", (14, 19)).save(folder / "cardJoker.png")
    return folder


def test_cards_come_with_rank_and_suit(deck):
    images, ranks, suits = cards()
    assert images.shape == (52, 4, 19, 14) and images.dtype == torch.uint8
    assert torch.equal(images[:, 0, 0, 0].long(), suits) and suits.dtype == torch.int64
    assert torch.equal(images[:, 1, 0, 0].long(), ranks) and ranks.dtype == torch.int64
    assert (images[:, 3] == 100).all()
    assert (SUITS[suits[51]], RANKS[ranks[51]]) == ("Spades", "K")


def test_a_missing_or_broken_card_is_named(deck):
    (deck / "cardHearts10.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cardHearts10\.png is empty"):
        cards()
    (deck / "cardHearts10.png").unlink()
    with pytest.raises(ValueError, match=r"expected cardHearts10\.png"):
        cards()


@pytest.fixture
def video(data_folder):
    """Eleven frames 64x48: red grows, blue is 10, the upper half has more green."""
    path = data_folder / "pedestrians" / "vtest.avi"
    path.parent.mkdir()
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 10, (64, 48))
    for number in range(11):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[...] = (10, 30, 20 * number + 20)  # blue, green, red
        frame[:24, :, 1] = 90
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({}, [0, 10]),
        ({"step": 4}, [0, 4, 8]),
        ({"step": 1, "start": 8}, [8, 9, 10]),
        ({"count": 2, "step": 3, "start": 1}, [1, 4]),
        ({"count": 1}, [0]),
        ({"count": 11, "step": 1}, list(range(11))),
    ],
)
def test_every_nth_frame_is_read(video, arguments, numbers):
    frames = pedestrians(**arguments)
    assert frames.dtype == torch.uint8 and frames.is_contiguous()
    assert frames.shape == (len(numbers), 3, 48, 64)
    red = frames[:, 0].float().mean((1, 2))
    assert ((red - torch.tensor(numbers) * 20 - 20).abs() < 6).all()
    assert (frames[:, 2].float().mean((1, 2)) < 25).all()
    assert (frames[:, 1, :20] > 70).all() and (frames[:, 1, 28:] < 50).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "has 11 frames .* too few"),
        ({"count": 12, "step": 1}, "has 11 frames .* too few"),
        ({"start": 11}, "has 11 frames .* too few"),
        ({"count": 0}, "must be at least 1"),
        ({"step": 0}, "must be at least 1"),
        ({"start": -1}, "must be at least 1"),
    ],
)
def test_frames_that_are_not_there_are_refused(video, arguments, message):
    with pytest.raises(ValueError, match=message):
        pedestrians(**arguments)


def test_a_video_that_is_broken_or_cut_short_is_named(video):
    whole = video.read_bytes()
    video.write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"vtest\.avi has 0 frames that OpenCV can"):
        pedestrians()
    video.write_bytes(whole[: whole.index(b"movi") + 500])
    with pytest.raises(ValueError, match=r"vtest\.avi ends at frame \d+ of 11"):
        pedestrians(step=1)
