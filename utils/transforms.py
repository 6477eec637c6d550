"""Random transforms that act on a whole batch and draw for each of its pictures."""

import torch


def flip_each(
    images: torch.Tensor, *, p: float = 0.5, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Mirror each picture of a batch, left to right, with probability `p`.

    torchvision's `RandomHorizontalFlip` draws once for a whole batch; this draws for each picture.

    Args:
        images: [B, C, H, W], any dtype.
        p: Probability, in [0, 1].
        generator: Where to draw from; torch's own by default.

    Returns:
        The same shape and dtype; `images` is not changed.

    Raises:
        ValueError: If `images` is not a batch.
    """
    if images.ndim != 4:
        raise ValueError(f"expected a batch [B, C, H, W], got {list(images.shape)}")
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator) < p
    return torch.where(flipped.to(images.device), images.flip(-1), images)


def crop_each(
    images: torch.Tensor, padding: int, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Move each picture of a batch by up to `padding` pixels in both directions, mirroring at the borders.

    That is: pad by reflection, then crop to the old size at a place drawn for each picture. torchvision's
    `RandomCrop` draws once for a whole batch.

    Args:
        images: [B, C, H, W], any dtype.
        padding: Largest move, in pixels; 0 to the shorter side minus 1.
        generator: Where to draw from; torch's own by default.

    Returns:
        The same shape and dtype; `images` is not changed.

    Raises:
        ValueError: If `images` is not a batch, or `padding` is negative or too large to be mirrored.
    """
    if images.ndim != 4:
        raise ValueError(f"expected a batch [B, C, H, W], got {list(images.shape)}")
    batch, _, height, width = images.shape
    if not 0 <= padding < min(height, width):
        raise ValueError(f"padding must be 0 to {min(height, width) - 1} pixels, got {padding}")
    offsets = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator) - padding
    places = [  # the row and column of the source that each pixel comes from, [B, H] and [B, W]
        _mirrored(torch.arange(size) + offset, size).to(images.device)
        for size, offset in zip((height, width), offsets, strict=True)
    ]
    which = torch.arange(batch, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[which, places[0][:, :, None], places[1][:, None, :]]  # [B, H, W, C]
    return moved.permute(0, 3, 1, 2)


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
    """Return `index` with what lies outside of 0 to `size` - 1 mirrored at the nearer end."""
    index = index.abs()
    return torch.where(index < size, index, 2 * (size - 1) - index)
