"""Blocks that the networks are built of."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["group", "batch", "none"]


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with normalisation and ReLU.

    The norm `group` does not look at other images, as fine-tuning needs it: one to five images have no batch statistics
    worth the name; `batch` is usual in training from scratch; `none` is the published U-Net.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = "group") -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=norm == "none")]
            if norm != "none":
                layers += [nn.GroupNorm(8, out_channels) if norm == "group" else nn.BatchNorm2d(out_channels)]
            layers += [nn.ReLU(inplace=True)]
        super().__init__(*layers)


def initialise(network: nn.Module) -> None:
    """Draw convolutions as He et al. (ICCV 2015) and linear layers as Glorot and Bengio (AISTATS 2010); biases are 0.

    Changes the network in place. Norms stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


Upsampling = Literal["bilinear", "transposed"]


def expanding_stages(
    channels: Sequence[int],
    stages: Sequence[int],
    n_hints: int = 0,
    *,
    upsampling: Upsampling = "bilinear",
    norm: Norm = "group",
) -> nn.ModuleList:
    """Build the stages of an expanding path, deep to shallow, for `expand`.

    The encoder's `channels` go from shallow to deep, those of the `stages` from deep to shallow, one fewer. Hints are
    channels that every stage is shown beside its skip connection. What comes from below is enlarged by `transposed`
    convolutions, as published, or bilinearly.

    Raises:
        ValueError: if the numbers of stages and levels do not go together.
    """
    skips = tuple(channels)[-2::-1]
    if len(stages) != len(skips):
        raise ValueError(
            f"decoder_channels: {len(stages)} stages for {len(channels)} encoder levels; expected {len(skips)}"
        )
    inputs = (channels[-1], *stages[:-1])
    return nn.ModuleList(
        ExpandingStage(deep, skip + n_hints, out, upsampling, norm)
        for deep, skip, out in zip(inputs, skips, stages, strict=True)
    )


def expand(stages: nn.ModuleList, levels: Sequence[Tensor], hints: Tensor | None = None) -> list[Tensor]:
    """Compute the features of every stage, deep to shallow: each sees the level it reaches, and has that level's size.

    Levels are an encoder's, shallow to deep, each (n, channels, h, w); hints (n, n_hints, h, w) are resized to each.
    """
    *skips, features = levels
    reached = []
    for stage, skip in zip(stages, reversed(skips), strict=True):
        seen = [skip] if hints is None else [skip, resized(hints, skip.shape[-2:])]
        features = stage(features, seen)
        reached.append(features)
    return reached


class ExpandingStage(nn.Module):
    """A stage that enlarges what comes from below (`deep` channels) and convolves it with what its level sees (`seen`).

    `transposed` upsampling is a 2x2 convolution of stride 2 that also changes the channels.
    """

    def __init__(self, deep: int, seen: int, out: int, upsampling: Upsampling, norm: Norm) -> None:
        super().__init__()
        transposed = upsampling == "transposed"
        self.enlarge = nn.ConvTranspose2d(deep, out, kernel_size=2, stride=2) if transposed else nn.Identity()
        self.convolutions = DoubleConvolution((out if transposed else deep) + seen, out, norm)

    def forward(self, features: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """Combine features from below with maps (n, channels, h, w) of this level's size: (n, out, h, w)."""
        enlarged = resized(self.enlarge(features), seen[0].shape[-2:])
        convolved: Tensor = self.convolutions(torch.cat([enlarged, *seen], dim=1))
        return convolved


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Stretch maps (n, channels, h, w) to (H, W), bilinearly."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class _Affine(torch.autograd.Function):
    """Batch norm by its running statistics; its gradient needs their scale alone, not the maps that came in."""

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.batch_norm(maps, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, _, variance, weight, _, eps = inputs
        ctx.save_for_backward((weight * (variance + eps).rsqrt()).view(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return (gradients[0] * scale).to(gradients[0].dtype), None, None, None, None, None


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch norm that is lean where it is frozen, and torch's own where it is in training or its weights are."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps (n, channels, h, w)."""
        return normalised(self, maps) if is_constant(self) else super().forward(maps)


LEAN: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: FrozenBatchNorm}
"""The lean class of each that has one; timm's are added where timm is imported."""


def make_lean(network: nn.Module) -> None:
    """Let a network's batch norms keep less for the backward pass while they are frozen.

    Batch norm keeps its input until the backward pass, also where its statistics and weights are constants and only
    scale the gradient. In a ResNet that is half of all that a training step keeps. Modules, hooks, tensors and their
    names stay; other classes of batch norm are left as they are.
    """
    for module in network.modules():
        # A class of the same layout takes the old one's place, as it does when torch's lazy modules know their shape.
        module.__class__ = LEAN.get(type(module), type(module))


def normalised(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Normalise maps (n, channels, h, w) by a batch norm that is constant."""
    normalised: Tensor = _Affine.apply(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
    return normalised


def is_constant(norm: nn.BatchNorm2d) -> bool:
    """Tell whether a batch norm's statistics and weights are fixed, so that no gradient of them is asked for."""
    constants = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return not norm.training and all(tensor is not None and not tensor.requires_grad for tensor in constants)
