"""Random transforms that act on a whole batch and draw for each of its images."""

import torch


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
