"""Patches of aerial photos, with a tree or without: a set of two classes that needs no internet."""

import torch
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional

from utils.annotated import trees
from utils.loading import ImageSet

__all__ = ["tree_patches"]

MARGIN = 1.2  # side of a patch, in longer sides of the tree's box
SMALLEST = 16  # pixels on the longer side of a box: smaller trees are blurs and are left out
TRIES = 200  # places that are drawn for a patch of ground
SHARED = 0.2  # highest IoU of two patches of ground


def _square(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the square around each box [n, 4] xyxy, moved inside the picture: [n, 4] int64."""
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * MARGIN
    sides = sides.round().clamp(max=min(height, width))  # [n, 1]
    corner = ((boxes[:, :2] + boxes[:, 2:] - sides) / 2).round()
    corner = torch.minimum(corner.clamp(min=0), torch.tensor([width, height]) - sides)
    return torch.cat([corner, corner + sides], dim=1).long()


def _ground(
    squares: torch.Tensor, boxes: torch.Tensor, height: int, width: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find for each square [n, 4] an equally large one that touches no box; also return which found one."""
    found, kept = torch.empty(0, 4), []
    for number, square in enumerate(squares):
        side = int(square[2] - square[0])
        room = torch.tensor([width - side + 1, height - side + 1])
        corners = (torch.rand(TRIES, 2, generator=generator) * room).floor()
        places = torch.cat([corners, corners + side], dim=1)  # [TRIES, 4]
        free = (box_iou(places, boxes) == 0).all(1) & (box_iou(places, found) <= SHARED).all(1)
        if free.any():
            found = torch.cat([found, places[free][:1]])
            kept.append(number)
    return found.long(), torch.tensor(kept, dtype=torch.int64)


def _cut(image: torch.Tensor, squares: torch.Tensor, size: int) -> torch.Tensor:
    """Cut squares [n, 4] out of a picture [3, H, W] and resize them: [n, 3, size, size]."""
    patches = [image[:, y0:y1, x0:x1] for x0, y0, x1, y1 in squares.tolist()]
    resized = [functional.resize(patch, [size, size], antialias=True) for patch in patches]
    return torch.stack(resized) if resized else image.new_empty(0, 3, size, size)


def cut_patches(
    image: torch.Tensor, boxes: torch.Tensor, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut out a patch for each tree, and one of ground of the same size for each of them.

    Args:
        image: [3, H, W], uint8.
        boxes: [n, 4], xyxy in pixels: all trees of the picture.
        size: The side of the patches, in pixels.
        generator: Draws the places of the ground.

    Returns:
        Ground and trees, [m, 3, size, size] uint8 each. A tree for which no place on the ground was found is
        left out, so that there are as many of both.
    """
    height, width = image.shape[-2:]
    boxes = boxes.as_subclass(torch.Tensor)
    large = (boxes[:, 2:] - boxes[:, :2]).amax(1) >= SMALLEST
    squares = _square(boxes[large], height, width)
    ground, kept = _ground(squares, boxes, height, width, generator)
    return _cut(image, ground, size), _cut(image, squares[kept], size)


def tree_patches(size: int = 64, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Cut patches out of the aerial photos of `trees`; classes "ground" and "tree", equally often.

    A patch with a tree is the square around its box, 1.2 times as large, moved inside the photo at the edges;
    boxes under 16 pixels are left out. For each, a patch of ground of the same size is cut out of the same
    photo, where no box is, so that neither scale nor photo tells the class. Ground means grass, shadow, dead
    wood, road; here and there a tree that has no box. The split is by photo, as that of `trees`.

    Args:
        size: In pixels, to which patches are resized.
        seed: Of the places of the ground.

    Returns:
        `(train, test)`, [N, 3, size, size]: 1,122 patches of one photo and 508 of three, at the default seed.
        Some places in dense forest have no room for ground, so that not every tree is in it. MIT.

    Raises:
        DatasetUnavailable: If `trees` is neither here nor to be had.
        ValueError: If `size` is not positive, or a file of `trees` is not what it should be.

    Source: Weinstein, Marconi, Bohlman, Zare, White, *Individual tree-crown detection in RGB imagery using
    semi-supervised deep learning neural networks*, 2019; the files come with the package DeepForest.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    generator, sets = torch.Generator().manual_seed(seed), []
    for photos in trees():
        pairs = [cut_patches(image, target["boxes"], size, generator) for image, target in photos]
        ground, tree = (torch.cat(patches) for patches in zip(*pairs, strict=True))
        labels = torch.tensor([0, 1]).repeat_interleave(len(ground))
        sets.append(ImageSet(torch.cat([ground, tree]), labels, ["ground", "tree"]))
    return sets[0], sets[1]
