"""Batch norms that stay as they are: the same numbers, without the feature maps that their backward pass would keep."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn


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
        return _normalised(self, maps) if _is_constant(self) else super().forward(maps)


class FrozenBatchNormAct(BatchNormAct2d):
    """The same for timm's batch norm with an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise and activate maps (n, channels, h, w)."""
        if not _is_constant(self):
            return super().forward(maps)  # type: ignore[no-untyped-call, no-any-return]
        activated: Tensor = self.act(self.drop(_normalised(self, maps)))
        return activated


LEAN: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: FrozenBatchNorm, BatchNormAct2d: FrozenBatchNormAct}


def make_lean(network: nn.Module) -> None:
    """Let a network's batch norms keep less for the backward pass while they are frozen.

    Batch norm keeps its input until the backward pass, also where its statistics and weights are constants and only
    scale the gradient. In a ResNet that is half of all that a training step keeps. Modules, hooks, tensors and their
    names stay; other classes of batch norm are left as they are.
    """
    for module in network.modules():
        # A class of the same layout takes the old one's place, as it does when torch's lazy modules know their shape.
        module.__class__ = LEAN.get(type(module), type(module))


def _normalised(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    normalised: Tensor = _Affine.apply(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
    return normalised


def _is_constant(norm: nn.BatchNorm2d) -> bool:
    constants = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return not norm.training and all(tensor is not None and not tensor.requires_grad for tensor in constants)
