"""Random transforms that act on a whole batch and draw for each of its images."""

from collections.abc import Callable

import torch
from torchvision import tv_tensors

Pairs = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def flip_each(
    images: torch.Tensor, *, p: float = 0.5, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Mirror each image of a batch, left to right, with probability `p`.

    torchvision's `RandomHorizontalFlip` draws once for a whole batch; this draws for
    each image.

    Args:
        images: [B, C, H, W], any dtype.
        p: Probability, in [0, 1].
        generator: Where to draw from; torch's own by default.

    Returns:
        The same shape and dtype; `images` is not changed.

    Raises:
        ValueError: If `images` is not a batch with channels first, or `p` is no
            probability.
    """
    _check_batch(images)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, 0 to 1, got {p}")
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator) < p
    return torch.where(flipped.to(images.device), images.flip(-1), images)


def crop_each(
    images: torch.Tensor, padding: int, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Move each image of a batch by up to `padding` pixels, mirroring at the borders.

    That is: pad by reflection, then crop to the old size at a place drawn for each
    image. torchvision's `RandomCrop` draws once for a whole batch.

    Args:
        images: [B, C, H, W], any dtype.
        padding: Largest move in both directions, in pixels; 0 to the shorter side minus
            1.
        generator: Where to draw from; torch's own by default.

    Returns:
        The same shape and dtype; `images` is not changed.

    Raises:
        ValueError: If `images` is not a batch with channels first, or `padding` is
            negative or too large to be mirrored.
    """
    _check_batch(images)
    batch, _, height, width = images.shape
    if not isinstance(padding, int) or not 0 <= padding < min(height, width):
        raise ValueError(
            f"padding must be 0 to {min(height, width) - 1} pixels, a whole number, "
            f"got {padding}"
        )
    offsets = (
        torch.randint(2 * padding + 1, (2, batch, 1), generator=generator) - padding
    )
    # the row and column of the source that each pixel comes from, [B, H] and [B, W]
    places = [
        _mirrored(torch.arange(size) + offset, size).to(images.device)
        for size, offset in zip((height, width), offsets, strict=True)
    ]
    which = torch.arange(batch, device=images.device)[:, None, None]
    # [B, H, W, C]
    moved = images.permute(0, 2, 3, 1)[
        which, places[0][:, :, None], places[1][:, None, :]
    ]
    return moved.permute(0, 3, 1, 2)


def each_with_mask(transform: Callable) -> Pairs:
    """Make a transform of torchvision draw anew for each image, and move its mask too.

    torchvision's v2 transforms move a `tv_tensors.Mask` with its image, by the nearest
    pixel, and leave its colours alone; given a batch they draw once for all of it.

    Args:
        transform: From `(tv_tensors.Image [C, H, W], tv_tensors.Mask [H, W])` to the
            two of them: a v2 transform, or `v2.Compose` of some.

    Returns:
        A function from `(images [B, C, H, W], masks [B, H, W])` to both, transformed,
        as `make_loader` takes for `pair_transform`.
    """

    def transform_batch(
        images: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _check_batch(images)
        if masks.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"expected masks [B, H, W] for images {list(images.shape)}, got "
                f"{list(masks.shape)}"
            )
        pairs = [
            transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
            for image, mask in zip(images, masks, strict=True)
        ]
        moved = (torch.stack(part) for part in zip(*pairs, strict=True))
        return tuple(part.as_subclass(torch.Tensor) for part in moved)

    return transform_batch


def _check_batch(images: torch.Tensor) -> None:
    """Refuse what is no batch of images with channels first."""
    if images.ndim != 4:
        raise ValueError(f"expected a batch [B, C, H, W], got {list(images.shape)}")
    if images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"expected a batch [B, C, H, W], got {list(images.shape)}, it seems with "
            f"the channels last: move them with images.permute(0, 3, 1, 2)"
        )


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
    """Return `index` with what lies outside of 0..`size` - 1 mirrored back into it."""
    index = index.abs()
    return torch.where(index < size, index, 2 * (size - 1) - index)
