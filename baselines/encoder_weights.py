"""Encoder weights from a safetensors file: what of it a timm network has, under the names that it has there."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from episodes.errors import UserError, in_short

logger = logging.getLogger(__name__)


class EncoderError(UserError):
    """An encoder or its weights are not what was asked for."""


def load_encoder_weights(network: nn.Module, path: Path) -> list[str]:
    """Fill a timm feature network from a safetensors file, and log which layers it filled.

    Half-precision tensors are widened. Layers that the file does not hold keep their values; a tensor that the
    network should have but cannot take is an error.

    Returns:
        The names of the network's tensors that the file does not hold.

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
    """Those tensors of a safetensors file that a network has, by the network's names.

    Shapes are compared by the file's header, before a tensor is read.
    """
    names = {spelled(key): key for key in own}
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


def spelled(name: str) -> str:
    """A name of a network's part, each `.` as `_`."""
    return name.replace(".", "_")


def spellings(name: str) -> tuple[str, ...]:
    """Names that a part of a timm network may have in its feature network, each `.` as `_`.

    Some feature networks say features_conv0 for features.conv0, and others hold the whole network as `model` or `body`.
    """
    own = spelled(name)
    return own, f"model_{own}", f"body_{own}"


def layers(keys: Iterable[str]) -> list[str]:
    """The outermost parts of a network that tensors belong to, in their order.

    >>> layers(["conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.bias"])
    ['conv1', 'layer1']
    """
    return list(dict.fromkeys(key.split(".")[0] for key in keys))
