import pytest
import torch
from torchvision import tv_tensors
from torchvision.ops import box_iou

from utils import patches
from utils.patches import SHARED, _ground, _square, cut_patches, tree_patches


def forest(height=300, width=400, n=12, seed=0):
    """A grey photo in which each tree's box is white, and its boxes, 16 to 30 pixels large."""
    generator = torch.Generator().manual_seed(seed)
    corners = (torch.rand(n, 2, generator=generator) * torch.tensor([width - 30, height - 30])).floor()
    boxes = torch.cat([corners, corners + torch.randint(16, 31, (n, 2), generator=generator)], dim=1)
    image = torch.full((3, height, width), 100, dtype=torch.uint8)
    for x0, y0, x1, y1 in boxes.int().tolist():
        image[:, y0:y1, x0:x1] = 255
    return image, boxes


def test_squares_by_hand():
    boxes = torch.tensor([[50.0, 60, 70, 70], [0, 0, 10, 20], [90, 75, 100, 80], [0, 0, 100, 80]])
    expected = [[48, 53, 72, 77], [0, 0, 24, 24], [88, 68, 100, 80], [10, 0, 90, 80]]
    assert _square(boxes, height=80, width=100).tolist() == expected


def test_ground_touches_no_tree_and_no_patch_twice():
    image, boxes = forest(n=30)
    squares = _square(boxes, 300, 400)
    ground, kept = _ground(squares, boxes, 300, 400, torch.Generator().manual_seed(0))
    assert len(ground) == len(kept) > 20
    assert (box_iou(ground.float(), boxes) == 0).all()
    shared = box_iou(ground.float(), ground.float()) - torch.eye(len(ground))
    assert shared.max() <= SHARED + 1e-6
    assert torch.equal(ground[:, 2:] - ground[:, :2], (squares[:, 2:] - squares[:, :2])[kept])
    assert (ground >= 0).all() and (ground[:, 2] <= 400).all() and (ground[:, 3] <= 300).all()


def test_ground_reaches_the_edges():
    boxes = torch.tensor([[4.0, 4, 6, 6]])
    squares = torch.tensor([[0, 0, 9, 4]]).repeat(300, 1)[:, [0, 1, 3, 3]]  # 4x4 pixels
    corners = [
        tuple(_ground(squares[:1], boxes, 10, 12, torch.Generator().manual_seed(seed))[0][0, :2].tolist())
        for seed in range(300)
    ]
    assert {x for x, _ in corners} == set(range(9)) and {y for _, y in corners} == set(range(7))


def test_patches_show_what_they_say():
    image, boxes = forest()
    ground, tree = cut_patches(image, boxes, 16, torch.Generator().manual_seed(0))
    assert ground.shape == tree.shape == (12, 3, 16, 16) and ground.dtype == torch.uint8
    assert (ground == 100).all()
    assert (tree[:, :, 7:9, 7:9] > 200).all()
    assert len(cut_patches(image, boxes[:1], 8, torch.Generator())[0]) == 1
    assert cut_patches(image, boxes[:0], 8, torch.Generator())[0].shape == (0, 3, 8, 8)
    full = cut_patches(image, torch.tensor([[0.0, 0, 400, 300]]), 8, torch.Generator())  # no room for ground
    assert full[0].shape == full[1].shape == (0, 3, 8, 8)


def test_a_tree_without_room_for_ground_is_left_out():
    image = torch.full((3, 100, 100), 100, dtype=torch.uint8)
    image[:, :60, :60], image[:, 80:96, 80:96] = 200, 255
    boxes = torch.tensor([[0.0, 0, 60, 60], [80, 80, 96, 96]])  # 72 pixels fit nowhere beside the first
    ground, tree = cut_patches(image, boxes, 8, torch.Generator())
    assert len(ground) == len(tree) == 1
    assert ground.unique().tolist() == [100] and int(tree[0, 0, 4, 4]) == 255


def test_small_trees_are_left_out_but_are_no_ground():
    image, boxes = forest(80, 100, n=1)
    small = torch.tensor(
        [[float(x), float(y), x + 15.0, y + 15.0] for x in range(0, 100, 15) for y in range(0, 80, 15)]
    )
    ground, tree = cut_patches(image, torch.cat([boxes, small]), 8, torch.Generator())
    assert len(ground) == len(tree) == 0
    assert len(cut_patches(image, small[:1], 8, torch.Generator())[1]) == 0
    assert len(cut_patches(image, small[:1] + torch.tensor([0, 0, 1, 0]), 8, torch.Generator())[1]) == 1


def test_tree_patches(monkeypatch):
    def photos(*seeds):
        for seed in seeds:
            image, boxes = forest(seed=seed)
            size = tuple(image.shape[1:])
            yield image - seed, {"boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)}

    monkeypatch.setattr(patches, "trees", lambda: (list(photos(0)), list(photos(1, 2))))
    train, test = tree_patches(size=20)
    assert train.images.shape == (24, 3, 20, 20) and test.images.shape[1:] == (3, 20, 20)
    assert train.classes == ["ground", "tree"]
    for part, grounds in ((train, [100]), (test, [98, 99])):  # no photo is in both
        assert part.labels.bincount().tolist() == [len(part) // 2] * 2
        assert part.images[part.labels == 0].unique().tolist() == grounds
        assert (part.images[part.labels == 1][:, :, 10, 10] > 200).all()
    assert tree_patches()[0].images.shape[2:] == (64, 64)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        tree_patches(size=0)


def test_the_seed_places_the_ground(monkeypatch):
    image, boxes = forest()
    image[0] = torch.arange(400) % 256  # no two places look alike
    monkeypatch.setattr(patches, "trees", lambda: ([(image, {"boxes": boxes})], [(image, {"boxes": boxes})]))
    (first, second), again, other = tree_patches(), tree_patches(), tree_patches(seed=1)
    assert torch.equal(first.images, again[0].images) and torch.equal(second.images, again[1].images)
    for images in (second.images, other[0].images):  # within a call, and with another seed
        assert not torch.equal(first.images[:12], images[:12]) and torch.equal(first.images[12:], images[12:])
