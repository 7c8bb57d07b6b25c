"""Feature pyramids of timm networks, with weights from nowhere, from ImageNet or from a file."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from baselines.blocks import make_lean
from baselines.resnet import PARTS, RESNETS, ResNet
from episodes.errors import UserError, in_short

logger = logging.getLogger(__name__)


class EncoderError(UserError):
    """An encoder or its weights are not what was asked for."""


def load_encoder_weights(network: nn.Module, path: Path) -> list[str]:
    """Fill a timm feature network from a safetensors file, and log which layers it filled.

    Half-precision tensors are widened. Layers that the file does not hold keep their values, and their tensors' names
    are returned; a tensor that the network should have but cannot take is an error.

    Raises:
        EncoderError: if the file is missing or damaged, fits no layer, or has a tensor of another shape or kind.
    """
    own = network.state_dict()
    filled = _fitting_tensors(path, own)
    network.load_state_dict(filled, strict=False)
    missing = [key for key in own if key not in filled and not key.endswith("num_batches_tracked")]
    logger.info("%s: filled %s", path.name, ", ".join(layers(filled)))
    if missing:
        logger.warning("%s: left at random: %s", path.name, ", ".join(layers(missing)))
    return missing


def _fitting_tensors(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read those tensors of a safetensors file that a network has, by the network's names.

    Shapes are compared by the file's header, before a tensor is read.
    """
    names = {key.replace(".", "_"): key for key in own}
    filled: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                name = next((names[spelling] for spelling in spellings(key) if spelling in names), None)
                if name is None:
                    continue
                shape = tuple(file.get_slice(key).get_shape())
                if shape != own[name].shape:
                    raise EncoderError(
                        f"{path}: {name} is {shape}, the encoder's is {tuple(own[name].shape)};"
                        " is it another architecture's file?"
                    )
                filled[name] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        reason = in_short(error)
        raise EncoderError(f"{path}: cannot be read as safetensors ({reason}); check encoder.weights") from error
    if not filled:
        raise EncoderError(f"{path}: holds no tensor of this encoder; is it another architecture's file?")
    for name, tensor in filled.items():
        if tensor.is_floating_point() != own[name].is_floating_point() or tensor.is_complex():
            raise EncoderError(
                f"{path}: {name} is {tensor.dtype}, the encoder's is {own[name].dtype}; give another file"
            )
    return filled


def spellings(name: str) -> tuple[str, ...]:
    """Return the names that a part of a timm network may have in its feature network, each `.` as `_`.

    Some feature networks say features_conv0 for features.conv0, and others hold the whole network as `model` or `body`.
    """
    own = name.replace(".", "_")
    return own, f"model_{own}", f"body_{own}"


def layers(keys: Iterable[str]) -> list[str]:
    """List the outermost parts of a network that tensors belong to, in their order.

    >>> layers(["conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.bias"])
    ['conv1', 'layer1']
    """
    return list(dict.fromkeys(key.split(".")[0] for key in keys))


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class FeatureNetwork:
    """A network that gives feature maps, and what there is to know of it."""

    module: nn.Module
    channels: tuple[int, ...]  # of the levels that it gives
    strides: tuple[int, ...]  # of these
    parts: tuple[str, ...]  # the modules that its levels come out of, also those that it does not give
    mean: tuple[float, ...] = IMAGENET_MEAN  # by which images in [0, 1] are normalised
    std: tuple[float, ...] = IMAGENET_STD
    channels_last: bool = False  # whether its maps are (n, h, w, channels)


class Encoder(nn.Module):
    """A timm network that gives its feature maps at several strides.

    Takes images in [0, 1] and normalises them as the network's ImageNet weights expect, so that no caller has to.
    Networks of one image size, as some transformers are, take that size alone.

    Args:
        name: a timm model name that supports `features_only`, such as `resnet18`.
        weights: `none` (random), `imagenet` (timm's own download) or the path of a safetensors file with timm's keys. A
            file may end before the network does; what it left unfilled is logged.
        levels: which feature maps, rising, counted from the shallowest: a ResNet's 0 is its stem (stride 2) and 1 to 4
            its layers; a ConvNeXt's 0 is its first stage (stride 4).
        output_stride: input pixels per feature pixel of the deepest level, at most; 8 and 16 trade strides for
            dilation, where the network can.
        freeze_norm: keep the statistics and weights of norms that average over images (batch norm and its kin) as
            loaded, also in training: with an episode's few images their batch statistics would be noise. Pointless with
            random weights.
        frozen: how many of the shallowest levels, counted as `levels` are, keep their weights and statistics as loaded,
            also in training: 1 is the stem, 2 a ResNet's stem and layer1. Dropout in them is off.

    Raises:
        EncoderError: unknown name, a stride or a level the network does not have, more frozen levels than there are, or
            weights that do not fit.
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
        frozen: int = 0,
    ) -> None:
        super().__init__()
        found = _feature_network(name, weights == "imagenet", tuple(levels), output_stride)
        self.network, self.channels, self.strides = found.module, found.channels, found.strides
        self.freeze_norm = freeze_norm
        self._channels_last = found.channels_last
        self._frozen_parts = _shallow_parts(found, frozen, levels, name)
        if weights not in {"none", "imagenet"}:
            unfilled = load_encoder_weights(self.network, Path(weights))
            if random := layers([key for key in unfilled if self._is_frozen(key)]):
                raise EncoderError(
                    f"{weights}: does not hold {', '.join(random)}, which would stay random;"
                    " lower encoder.frozen, or give a file that goes further"
                )
        if freeze_norm:
            make_lean(self.network)
            if not any(map(_averages_over_images, self.network.modules())):
                logger.info("encoder %s: has no batch norms, freeze_norm changes nothing", name)
        for statistic in ("mean", "std"):
            values = torch.tensor(getattr(found, statistic)).view(3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "Encoder":
        """Switch to training, leaving what is frozen as it is."""
        super().train(mode)
        for name, module in self.network.named_modules():
            if self._is_frozen(name) or (self.freeze_norm and _averages_over_images(module)):
                module.eval()
                module.requires_grad_(False)
        for name, parameter in self.network.named_parameters():
            if self._is_frozen(name):
                parameter.requires_grad_(False)
        return self

    def _is_frozen(self, name: str) -> bool:
        return any(name == part or name.startswith(f"{part}.") for part in self._frozen_parts)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, channels, h, w)."""
        features: list[Tensor] = self.network((images - self.mean) / self.std)
        if self._channels_last:
            return [level.permute(0, 3, 1, 2).contiguous() for level in features]
        return features


def _feature_network(name: str, pretrained: bool, levels: tuple[int, ...], output_stride: int) -> FeatureNetwork:
    asked = f"encoder {name!r} with levels {levels} and output stride {output_stride}"
    # timm gives the maps shallow to deep in any case, but their channels in the order that was asked for.
    if not levels or list(levels) != sorted(set(levels)) or levels[0] < 0:
        raise EncoderError(f"{asked}: the levels do not rise from 0 or more, such as (1, 3)")
    # timm would look for other names on the network, or read a configuration from a folder.
    if not _PLAIN_NAME.fullmatch(name):
        raise EncoderError(f"{asked}: give the name of a network in timm, such as resnet18")
    try:
        if name in RESNETS and not pretrained:
            network = ResNet(name, levels, output_stride)
            return FeatureNetwork(network, network.channels, network.strides, PARTS)
        from baselines.timm_networks import build_network  # two seconds, which the networks above need not wait for

        return build_network(name, pretrained, levels, output_stride)
    except IndexError as error:
        raise EncoderError(f"{asked}: it has fewer levels") from error
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise EncoderError(f"{asked}: {error}") from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(
            f"encoder {name!r}: its ImageNet weights cannot be downloaded ({reason});"
            " set encoder.weights to a safetensors file, or to none"
        ) from error


def _shallow_parts(found: FeatureNetwork, count: int, levels: Sequence[int], name: str) -> tuple[str, ...]:
    """List the modules, and parameters outside of any, that compute a network's `count` shallowest levels.

    Feature networks hold their modules in the order in which they are run: the one that a level comes out of, and all
    before it, are the level's.
    """
    if not 0 <= count <= levels[-1] + 1:
        raise EncoderError(
            f"encoder {name!r}: {count} levels cannot be frozen, down to the deepest of levels {tuple(levels)} there"
            f" are {levels[-1] + 1}; set encoder.frozen to 0 to {levels[-1] + 1}"
        )
    if not count:
        return ()
    network = found.module
    paths = [_module_path(network, part) for part in found.parts[:count]]
    if (path := paths[-1]) is None or None in paths:
        raise EncoderError(
            f"encoder {name!r}: its levels are not computed one after the other; set encoder.frozen to 0"
        )
    parts: list[str] = []
    container, prefix = network, ""
    for step in path.split("."):
        parts += [f"{prefix}{parameter}" for parameter, _ in container.named_parameters(recurse=False)]
        children = [child for child, _ in container.named_children()]
        parts += [f"{prefix}{child}" for child in children[: children.index(step)]]
        container, prefix = container.get_submodule(step), f"{prefix}{step}."
    return (*parts, path)


def _module_path(network: nn.Module, name: str) -> str | None:
    return next((path for path, _ in network.named_modules() if path.replace(".", "_") in spellings(name)), None)


def _averages_over_images(module: nn.Module) -> bool:
    return any(name == "running_var" for name, _ in module.named_buffers(recurse=False))
