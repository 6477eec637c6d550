"""Heat maps: where in an image a network finds evidence for a class."""

import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F


def grad_cam(
    model: nn.Module, layer: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Map the evidence for a class in each image, on the grid of a layer (Grad-CAM).

    Each channel of the layer is weighted by the mean, over all positions, of the
    gradient of the class's logit with respect to it; what is negative in the weighted
    sum is evidence against the class, and is cut off. No `.grad` is touched, and frozen
    parameters may stay frozen.

    Args:
        model: From `images` to logits [B, C]. It is set to evaluation mode, and left in
            it.
        layer: One of its modules, with an output [B, K, h, w]; the last one before the
            positions are lost (pooled or flattened) gives the map with the most
            meaning.
        images: [B, 3, H, W], transformed as `model` wants them, on its device.
        targets: [B] int64, the class in question for each image.

    Returns:
        [B, h, w], zero or positive, in units of the logit; neither scaled to 1 nor
        resized.

    Raises:
        RuntimeError: Under `torch.inference_mode()`, which rules gradients out.
        TypeError: If `layer` is no module.
        ValueError: If a shape or dtype is another, a target is no class, a forward pass
            does not run `layer` exactly once, or the logits do not depend on it.

    Source: Selvaraju et al., *Grad-CAM: visual explanations from deep networks via
    gradient-based localization*, 2017, equations 1 and 2; equals
    `captum.attr.LayerGradCam` with `relu_attributions=True`.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(
            f"the layer must be a module of the model, such as model.features[-1], got "
            f"{layer!r}"
        )
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "grad_cam needs gradients: call it outside torch.inference_mode()"
        )
    targets = torch.as_tensor(targets)
    if (
        images.ndim != 4
        or targets.shape != images.shape[:1]
        or targets.dtype != torch.int64
    ):
        found = f"{list(images.shape)} and {targets.dtype} {list(targets.shape)}"
        raise ValueError(
            f"expected images [B, 3, H, W] and int64 targets [B], one each, got {found}"
        )
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        """Keep the output, and cut the graph: nothing before it is differentiated."""
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            shape = (
                list(output.shape)
                if isinstance(output, torch.Tensor)
                else type(output).__name__
            )
            raise ValueError(
                f"the layer's output must be [B, K, h, w], got {shape}: choose an "
                f"earlier layer"
            )
        kept.append(output.detach().requires_grad_())
        # a ReLU behind it that works in place would overwrite what is kept
        return kept[-1].clone()

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model.eval()(images)
    finally:
        hook.remove()
    if len(kept) != 1:
        raise ValueError(
            f"a forward pass must run the layer once, this one ran it {len(kept)} times"
        )
    if logits.ndim != 2:
        raise ValueError(
            f"the model must return logits [B, C], got {list(logits.shape)}"
        )
    if (
        len(targets)
        and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]
    ):
        raise ValueError(
            f"targets must lie in 0..{logits.shape[1] - 1}, got {targets.tolist()}"
        )
    # Images do not see each other in evaluation mode: the sum's gradient is that of
    # each one's own logit.
    with torch.enable_grad():
        total = logits.gather(1, targets[:, None]).sum()
    gradients = None
    if total.requires_grad:
        (gradients,) = torch.autograd.grad(total, kept, allow_unused=True)
    if gradients is None:
        raise ValueError(
            "no gradient leads from the logits to the layer: choose one that they are "
            "computed from, with no `.detach()` or `no_grad` in between"
        )
    weights = gradients.mean((2, 3), keepdim=True)  # [B, K, 1, 1]
    return (weights * kept[0].detach()).sum(1).relu()


def overlay_heatmap(
    image: torch.Tensor,
    heat: torch.Tensor,
    *,
    peak: float | None = None,
    alpha: float = 0.7,
    mode: str = "bilinear",
    cmap: str = "inferno",
) -> torch.Tensor:
    """Lay a heat map over its image, which stays as it is where the map is zero.

    Args:
        image: [3, H, W] uint8, RGB; just what the network saw, crop included, or the
            map lies elsewhere.
        heat: [h, w] float, zero or positive, of any size: it is stretched over the
            whole image.
        peak: The heat that gets the hottest colour; the map's own maximum by default.
            One value for several maps makes them comparable.
        alpha: How opaque the hottest colour is, 0 to 1; less heat is less opaque, in
            proportion.
        mode: "bilinear", which looks smooth, or "nearest", which shows the cells that
            there are.
        cmap: A colour map of matplotlib.

    Returns:
        [3, H, W] uint8; `image` is not changed.

    Raises:
        ValueError: If a shape or dtype is another, heat is negative or not finite,
            `peak` is not positive and finite, `alpha` is not in 0..1, or `mode` is
            neither.
    """
    if image.ndim != 3 or len(image) != 3 or image.dtype != torch.uint8:
        raise ValueError(
            f"expected an image, uint8 [3, H, W], got {image.dtype} {list(image.shape)}"
        )
    if heat.ndim != 2 or heat.numel() == 0 or not heat.is_floating_point():
        raise ValueError(
            f"expected a heat map, float [h, w], got {heat.dtype} {list(heat.shape)}"
        )
    heat = heat.detach().to(image.device, torch.float32)
    if not heat.isfinite().all() or heat.min() < 0:
        span = f"{heat.min():.3g} to {heat.max():.3g}"
        raise ValueError(
            f"heat must be finite and not negative, got {span}: a signed map needs "
            f"`.relu()` first"
        )
    if (peak is not None and not 0 < peak < math.inf) or not 0 <= alpha <= 1:
        raise ValueError(
            f"expected peak > 0, finite, and alpha in 0..1, got {peak} and {alpha}"
        )
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f'mode must be "bilinear" or "nearest", got {mode!r}')
    corners = {"align_corners": False} if mode == "bilinear" else {}
    # [H, W]
    heat = F.interpolate(heat[None, None], size=image.shape[1:], mode=mode, **corners)[
        0, 0
    ]
    # a map of zeros has no maximum to divide by
    peak = peak or float(heat.max()) or 1.0
    share = (heat / peak).clamp(max=1)
    table = (
        torch.from_numpy(plt.colormaps[cmap](range(256))[:, :3]).to(
            image.device, torch.float32
        )
        * 255
    )
    colours = table[(share * 255).round().long()].permute(2, 0, 1)  # [3, H, W]
    opacity = alpha * share
    return ((1 - opacity) * image + opacity * colours).round().to(torch.uint8)
