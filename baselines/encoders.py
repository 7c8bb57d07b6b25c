"""Feature pyramids of timm networks, with weights from nowhere, from ImageNet or from a file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from episodes.errors import UserError

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class EncoderError(UserError):
    """An encoder or its weights are not what was asked for."""


class Encoder(nn.Module):
    """A timm network that gives its feature maps at several strides.

    Takes images in [0, 1] and normalises them as ImageNet networks expect, so that no caller has to.

    Args:
        name: a timm model name that supports `features_only`, such as `resnet18`.
        weights: `none` (random), `imagenet` (timm's own download) or the path of a safetensors file with timm's
            keys. A file may end before the network does; what it left unfilled is logged.
        levels: which feature maps, counted from the stem: 0 the stem (stride 2), 1 to 4 a ResNet's layers.
        output_stride: input pixels per feature pixel of the deepest level, at most; 8 and 16 trade strides for
            dilation.
        freeze_norm: keep batch-norm statistics and weights as loaded, also in training: with an episode's few
            images their batch statistics would be noise. Pointless with random weights.

    Attributes:
        channels: of each level.
        strides: of each level, input pixels per feature pixel.

    Raises:
        EncoderError: unknown name, a stride or a level the network does not have, or weights that do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18",
        *,
        weights: str = "none",
        levels: Sequence[int] = (3,),
        output_stride: int = 32,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        # A network whose stride is fixed (DenseNet's is 32) refuses the argument even with its own value.
        stride: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
        try:
            network = timm.create_model(
                name,
                pretrained=weights == "imagenet",
                features_only=True,
                out_indices=tuple(levels),
                **stride,
            )
        except (
            RuntimeError,
            TypeError,
            ValueError,
            AssertionError,
            IndexError,
            NotImplementedError,
        ) as error:
            reason = "it has fewer levels" if isinstance(error, IndexError) else str(error)
            raise EncoderError(
                f"encoder {name!r} with levels {tuple(levels)} and output stride {output_stride}: {reason}"
            ) from error
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise EncoderError(
                f"encoder {name!r}: its ImageNet weights cannot be downloaded ({reason});"
                " set encoder.weights to a safetensors file, or to none"
            ) from error
        if weights not in {"none", "imagenet"}:
            load_encoder_weights(network, Path(weights))
        self.network = network
        info: Any = network.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.strides: tuple[int, ...] = tuple(info.reduction())
        self.freeze_norm = freeze_norm
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "Encoder":
        """Switch to training, leaving frozen batch norms as they are."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
                    module.requires_grad_(False)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, channels, h, w)."""
        features: list[Tensor] = self.network((images - self.mean) / self.std)
        return features


def load_encoder_weights(network: nn.Module, path: Path) -> None:
    """Fill a timm feature network from a safetensors file, and log which layers it filled.

    Half-precision tensors are widened. Layers that the file does not hold keep their values; a tensor that the
    network should have but cannot take is an error.

    Raises:
        EncoderError: if the file is missing or damaged, fits no layer, or has a tensor of another shape.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path}: cannot be read as safetensors ({error}); check encoder.weights") from error
    own = network.state_dict()
    # timm spells nested names of some feature networks with underscores: features.conv0 is features_conv0.
    renamed = {_match(key, own): value for key, value in tensors.items()}
    filled = {key: value for key, value in renamed.items() if key in own}
    if not filled:
        raise EncoderError(f"{path}: holds no tensor of this encoder; is it another architecture's file?")
    for key, value in filled.items():
        if own[key].shape != value.shape:
            raise EncoderError(
                f"{path}: {key} is {tuple(value.shape)}, the encoder's is {tuple(own[key].shape)};"
                " is it another architecture's file?"
            )
    network.load_state_dict(filled, strict=False)
    missing = [key for key in own if key not in filled and not key.endswith("num_batches_tracked")]
    logger.info("%s: filled %s", path.name, ", ".join(_layers(filled)))
    if missing:
        logger.warning("%s: left at random: %s", path.name, ", ".join(_layers(missing)))


def _match(key: str, own: dict[str, Tensor]) -> str:
    head, _, rest = key.partition(".")
    underscored = f"{head}_{rest}"
    return underscored if key not in own and underscored in own else key


def _layers(keys: Sequence[str] | dict[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in keys))
