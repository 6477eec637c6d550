"""The kinds of data set: images with labels, with masks or keypoints, with boxes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset
from torchvision import tv_tensors

from utils.data.readers import FETCH_AGAIN, Labelled, read_image, read_images

Target = torch.Tensor | dict[str, torch.Tensor]
Indices = int | slice | Sequence[int] | torch.Tensor


def _pick(targets: Target | list[Any], index: Indices) -> Any:
    """Index targets; where they are a dict of tensors, each of these."""
    if isinstance(targets, dict):
        return {name: part[index] for name, part in targets.items()}
    return targets[index]


class Batch(Sequence):
    """A batch that was indexed at once: what `__getitems__` of a set in memory returns.

    PyTorch's `DataLoader` calls `dataset.__getitems__(indices)`, where a set has it, in
    place of `dataset[index]` for each example, and takes the answer for a list of
    examples. This is one, so that any `collate_fn` works; that of `make_loader` takes
    `whole`, which saves taking the batch apart and stacking it again.

    Args:
        images: [B, C, H, W].
        targets: [B, ...], a dict of such tensors, or a list of B targets.
    """

    def __init__(self, images: torch.Tensor, targets: Target | list[Any]) -> None:
        """See the class."""
        self.whole = images, targets

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.whole[0])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        """Return one example."""
        images, targets = self.whole
        return images[index], _pick(targets, index)


def _kind(value: Any) -> str:
    """Say of what kind `value` is: dtype and shape of a tensor, else the type."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"


def _check_images(images: torch.Tensor) -> None:
    """Raise ValueError if `images` is not a uint8 tensor [N, C, H, W]."""
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        raise ValueError(
            f"images must be a uint8 tensor [N, C, H, W], got {_kind(images)}"
        )
    if images.dtype != torch.uint8:
        raise ValueError(
            f"images must be uint8, 0 to 255, got {images.dtype}: from floats in "
            "[0, 1], make them by (images * 255).round().to(torch.uint8)"
        )
    if images.shape[1] > 4 >= images.shape[3]:
        raise ValueError(
            f"images must be [N, C, H, W], got {list(images.shape)}, which looks like "
            "[N, H, W, C]: pass images.permute(0, 3, 1, 2)"
        )


class ImageSet(Dataset):
    """Images and labels that fit in memory.

    Indexing with a number gives one example, with a list or a tensor of numbers a whole
    batch: `dataset[3]` is `(image [C, H, W], label [])`, `dataset[[3, 1, 4]]` is
    `(images [3, C, H, W], labels [3])`.

    Args:
        images: [N, C, H, W], uint8, 0 to 255.
        labels: [N], int64, indices into `classes`.
        classes: The names of the classes.

    Raises:
        ValueError: If shapes or dtypes are others, or a label names no class.
    """

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]
    ) -> None:
        """See the class."""
        _check_images(images)
        if _kind(labels) != f"torch.int64 [{len(images)}]":
            raise ValueError(
                f"labels must be an int64 tensor [{len(images)}], one label for each "
                f"image, got {_kind(labels)}"
            )
        if isinstance(classes, str) or not hasattr(classes, "__len__"):
            raise ValueError(f"classes must be a list of names, got {classes!r}")
        if len(labels):
            low, high = labels.aminmax()
            if low < 0 or high >= len(classes):
                raise ValueError(
                    f"labels must lie in 0..{len(classes) - 1}, one number for each "
                    f"class, got {low}..{high}"
                )
        self.images, self.labels, self.classes = images, labels, list(classes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one example, or a batch of them."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a batch, for `DataLoader`."""
        return Batch(*self[indices])


class PairedSet(Dataset):
    """Images that fit in memory, each with a mask, a depth map or keypoints.

    Indexing with a number gives one example, with a slice, a list or a tensor of
    numbers a whole batch: `dataset[3]` is `(image [C, H, W], target [...])`,
    `dataset[[3, 1]]` is `(images [2, C, H, W], ...)`.

    Args:
        images: [N, C, H, W], uint8, 0 to 255.
        targets: [N, ...], or a dict of such tensors; an example then has a dict. Masks
            and depth maps are [N, H, W], as large as the images; keypoints [N, K, 2].
        names: What each image is called: the name of its file, without the suffix.
            Default: none.
        classes: Names of the classes, where the targets hold any.

    Raises:
        ValueError: If images have another shape or dtype, there are not N of each, or
            masks are of another size than their images.
    """

    def __init__(
        self,
        images: torch.Tensor,
        targets: Target,
        names: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        """See the class."""
        _check_images(images)
        parts = targets if isinstance(targets, dict) else {"targets": targets}
        for name, part in parts.items():
            if not isinstance(part, torch.Tensor) or part.shape[:1] != images.shape[:1]:
                raise ValueError(
                    f"{name} must be a tensor of {len(images)}, one for each image, "
                    f"got {_kind(part)}"
                )
            # the last axis of keypoints and boxes is 2 to 4 long, and so is that of
            # maps with the channels last
            as_map = part.ndim > 2 and part.shape[-1] > 4
            channels_last = part.ndim == 4 and part.shape[1:3] == images.shape[2:]
            if (as_map or channels_last) and part.shape[-2:] != images.shape[-2:]:
                raise ValueError(
                    f"{name} must be [N, H, W], as large as the images, or keypoints "
                    f"[N, K, 2], got {list(part.shape)} for {list(images.shape)}"
                )
        if names is not None and len(names) != len(images):
            raise ValueError(
                f"names must be {len(images)}, one for each image, got {len(names)}"
            )
        # not `.targets`: these are no classes to draw from
        self.images, self.annotations = images, targets
        self.names, self.classes = None if names is None else list(names), list(classes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: Indices) -> tuple[torch.Tensor, Target]:
        """Return one example, or a batch of them."""
        return self.images[index], _pick(self.annotations, index)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a batch, for `DataLoader`."""
        return Batch(*self[indices])


def _draw_polygons(
    polygons: list[list[list[float]]], height: int, width: int
) -> tv_tensors.Mask:
    """Fill the polygons of n objects, as COCO does: [n, height, width] bool."""
    masks = torch.zeros(len(polygons), height, width, dtype=torch.bool)
    for mask, parts in zip(masks, polygons, strict=True):
        run_lengths = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        with warnings.catch_warnings():
            # pycocotools 2.0.11 with NumPy 2
            warnings.simplefilter("ignore", DeprecationWarning)
            mask.copy_(torch.from_numpy(coco_mask.decode(run_lengths)).bool())
    return tv_tensors.Mask(masks)


def _check_target(file: Path, target: dict[str, Any], n_classes: int) -> None:
    """Raise ValueError if boxes or labels of a target cannot be trained on."""
    boxes, labels = target.get("boxes"), target.get("labels")
    if getattr(boxes, "format", None) != tv_tensors.BoundingBoxFormat.XYXY:
        raise ValueError(
            f"{file}: its boxes must be tv_tensors.BoundingBoxes in the format XYXY, "
            f"got {_kind(boxes)}"
        )
    if _kind(labels) != f"torch.int64 [{len(boxes)}]":
        raise ValueError(
            f"{file}: its labels must be int64 [{len(boxes)}], one for each box, got "
            f"{_kind(labels)}"
        )
    if not ((labels > 0) & (labels < n_classes)).all():
        raise ValueError(
            f"{file}: its labels must lie in 1..{n_classes - 1}, for 0 is the "
            f"background, got {labels.tolist()}"
        )
    height, width = boxes.canvas_size
    corners = boxes.as_subclass(torch.Tensor)
    inside = (corners >= 0) & (corners <= torch.tensor([width, height, width, height]))
    good = inside.all(1) & (corners[:, :2] < corners[:, 2:]).all(1)
    if not good.all():
        box = [round(number, 2) for number in corners[~good][0].tolist()]
        raise ValueError(
            f"{file}: the box {box} (x0, y0, x1, y1) is empty or not within {width} x "
            f"{height} pixels: correct the annotation, or {FETCH_AGAIN}"
        )


class DetectionSet(Dataset):
    """Images that are read from their files when asked for, with boxes of objects.

    `dataset[3]` is `(image [3, H, W] uint8, target)`. A target is a dict, as
    torchvision's detection models and transforms take it: `boxes` [n, 4] float32
    `BoundingBoxes`, xyxy in pixels, `labels` [n] int64 from 1 on, 0 being the
    background, `image_id` int, `area` [n] float32, `iscrowd` [n] int64, and where there
    are polygons, `masks` [n, H, W] bool.

    Args:
        files: The N images.
        targets: One dict for each, as above; what else is in it is handed on.
        classes: Names; a label is an index into them. `len(classes)` is the
            `num_classes` of torchvision's detectors.
        polygons: For each image, for each object the polygons of its mask, [x0, y0,
            x1, y1, ...] in pixels. Default: no masks.

    Raises:
        ValueError: If there are not as many targets, or lists of polygons, as files, a
            box is empty or not within its image, or a label names no class.
    """

    def __init__(
        self,
        files: Sequence[Path],
        targets: Sequence[dict[str, Any]],
        classes: Sequence[str],
        polygons: Sequence[list[list[list[float]]]] | None = None,
    ) -> None:
        """See the class."""
        for name, given in (("targets", targets), ("polygons", polygons)):
            if given is not None and len(given) != len(files):
                raise ValueError(
                    f"{name} must be {len(files)}, one for each file, got {len(given)}"
                )
        for file, target in zip(files, targets, strict=True):
            _check_target(file, target, len(classes))
        self.files, self.targets = list(files), list(targets)
        self.classes, self.polygons = list(classes), polygons

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return an image and a copy of its target, which may be changed.

        Raises:
            ValueError: If the file is not an image, or has another size than its
                annotation says.
        """
        file, target = self.files[index], self.targets[index]
        image = read_image(file)
        found, said = tuple(image.shape[1:]), tuple(target["boxes"].canvas_size)
        if found != said:
            raise ValueError(
                f"{file} is {found} pixels (height, width), its annotation says "
                f"{said}: correct one of them, or {FETCH_AGAIN}"
            )
        target = {
            name: value.clone() if isinstance(value, torch.Tensor) else value
            for name, value in target.items()
        }
        if self.polygons is not None:
            target["masks"] = _draw_polygons(self.polygons[index], *found)
        return image, target


class SceneSet(Dataset):
    """Scenes that fit in memory, with targets as torchvision's detection models want.

    `dataset[3]` is `(image [3, S, S] uint8, target)`, `dataset[[3, 1, 4]]` a batch:
    `(images [3, 3, S, S], list of 3 targets)`. A target is a dict; its n objects stand
    in order from front to back: `boxes` [n, 4] float32 xyxy in px (x2 and y2 are edges:
    the last column and row, plus 1), `labels` [n] int64 from 1 on: `classes[label]` is
    the name, 0 the background, `masks` [n, S, S] bool (what is to be seen of an
    object), `area` [n] float32 (of the mask, in px), `visible` [n] float32 (its share
    of the whole article), `iscrowd` [n] int64 (all 0), `image_id` int.

    Args:
        images: [N, 3, S, S], uint8.
        numbers: [N, S, S], uint8: which object of its scene a pixel shows, from 1 on; 0
            is the ground.
        counts: [N], int64: objects in each scene; the arrays below hold them scene
            after scene.
        objects: `boxes` [M, 4], `labels` [M], `area` [M], `visible` [M] as above, and
            `articles` [M] int64: which image of the source each one was drawn from.
        classes: Names of the classes, the background first.

    Raises:
        ValueError: If the lengths do not belong together.
    """

    def __init__(
        self,
        images: torch.Tensor,
        numbers: torch.Tensor,
        counts: torch.Tensor,
        objects: dict[str, torch.Tensor],
        classes: Sequence[str],
    ) -> None:
        """See the class."""
        if not len(images) == len(numbers) == len(counts):
            raise ValueError(
                f"{len(images)} images, {len(numbers)} maps of objects, {len(counts)} "
                "counts"
            )
        lengths = {name: len(values) for name, values in objects.items()}
        if set(lengths.values()) != {int(counts.sum())}:
            raise ValueError(
                f"the counts promise {int(counts.sum())} objects, the arrays hold "
                f"{lengths}"
            )
        self.images, self.numbers, self.counts = images, numbers, counts
        self.objects, self.classes = objects, list(classes)
        # [N], a scene's first object in the arrays
        self.starts = counts.cumsum(0) - counts

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.images)

    def _target(self, index: int) -> dict[str, torch.Tensor | int]:
        """Return the target of one scene."""
        start, n = int(self.starts[index]), int(self.counts[index])
        names = ("boxes", "labels", "area", "visible")
        numbers = torch.arange(1, n + 1, dtype=torch.uint8)
        return {name: self.objects[name][start : start + n] for name in names} | {
            "masks": self.numbers[index] == numbers[:, None, None],
            "iscrowd": torch.zeros(n, dtype=torch.int64),
            "image_id": index,
        }

    def __getitem__(self, index: Indices) -> tuple[torch.Tensor, dict | list[dict]]:
        """Return one scene, or a batch of them."""
        picked = torch.arange(len(self))[index].tolist()
        if isinstance(picked, int):
            return self.images[picked], self._target(picked)
        return self.images[picked], [self._target(one) for one in picked]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a batch, for `DataLoader`."""
        return Batch(*self[indices])

    def semantic(self, index: Indices) -> torch.Tensor:
        """Return the class of each pixel.

        Args:
            index: One scene, or several.

        Returns:
            [S, S] for one scene, [B, S, S] for several, int64; 0 is the ground.
        """
        most = int(self.counts.max()) if len(self) else 0
        # [scene, number in it]
        label_of = torch.zeros(len(self), most + 1, dtype=torch.int64)
        numbers = torch.arange(1, most + 1)
        label_of[:, 1:][numbers <= self.counts[:, None]] = self.objects["labels"]
        numbers = self.numbers[index].long()
        return label_of[index].gather(-1, numbers.flatten(-2)).view(numbers.shape)


def read_parts(
    parts: Sequence[Labelled],
    classes: Sequence[str],
    mode: str = "RGB",
    *,
    size: int | None = None,
) -> list[ImageSet]:
    """Read the parts of a set, training and test, say.

    Args:
        parts: Files and labels of each part.
        classes: The names of the classes.
        mode: As for `read_images`.
        size: As for `read_images`.

    Returns:
        An `ImageSet` for each part.

    Raises:
        ValueError: As `read_images`, with the bad files of all parts in one message.
    """
    images = read_images(
        [file for files, _ in parts for file in files], mode, size=size
    )
    lengths = [len(files) for files, _ in parts]
    return [
        ImageSet(part, labels, classes)
        for part, (_, labels) in zip(images.split(lengths), parts, strict=True)
    ]
