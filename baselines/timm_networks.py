"""Feature networks that timm builds. Nothing but `baselines.encoders` imports this: timm takes two seconds."""

from typing import Any

import timm
from timm.layers.format import Format
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from baselines.blocks import LEAN, is_constant, normalised
from baselines.encoders import IMAGENET_MEAN, IMAGENET_STD, FeatureNetwork


class FrozenBatchNormAct(BatchNormAct2d):
    """A `FrozenBatchNorm` of timm's batch norm with an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise and activate maps (n, channels, h, w)."""
        if not is_constant(self):
            return super().forward(maps)  # type: ignore[no-untyped-call, no-any-return]
        activated: Tensor = self.act(self.drop(normalised(self, maps)))
        return activated


LEAN[BatchNormAct2d] = FrozenBatchNormAct


def build_network(name: str, pretrained: bool, levels: tuple[int, ...], output_stride: int) -> FeatureNetwork:
    """Build a network by timm's name, with ImageNet weights where it is pretrained.

    Raises:
        IndexError: if it has fewer levels.
        ValueError: if its strides are fixed to others.
        RuntimeError, TypeError, AssertionError: for what else it cannot be, such as an unknown name.
        OSError: if its weights cannot be downloaded.
    """
    # A network whose stride is fixed (DenseNet's is 32) refuses the argument even with its own value.
    stride: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    fixed_strides = "its strides are fixed; set output_stride to 32"
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=levels, **stride
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(fixed_strides if stride else str(error)) from error
    info: Any = network.feature_info
    if stride and max(info.reduction()) > output_stride:
        raise ValueError(fixed_strides)
    trained_as: Any = network.pretrained_cfg
    return FeatureNetwork(
        network,
        tuple(info.channels()),
        tuple(info.reduction()),
        tuple(level["module"] for level in info.info),
        trained_as.get("mean", IMAGENET_MEAN),
        trained_as.get("std", IMAGENET_STD),
        channels_last=getattr(network, "output_fmt", Format.NCHW) == Format.NHWC,
    )
