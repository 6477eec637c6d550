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
