"""Checkpoints: one safetensors file with the resolved configuration in its header. No pickle is ever read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from episodes.errors import UserError
from episodes.files import written_whole
from fewshot import __version__
from fewshot.config import EncoderConfig, ModelConfig
from fewshot.networks import build_network
from fewshot.parsing import parse_config

FORMAT = "fewshot-checkpoint"
SCHEMA = 1


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of another kind."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: by name; the network's begin with `network.`.
        facts: JSON values, among them `encoder` and `model`, from which the network is built again.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint whole: an interrupted write leaves the old file, or none."""
    # One entry: safetensors writes several in random order, and equal checkpoints should be equal files.
    header = {FORMAT: json.dumps({"schema": SCHEMA, "version": __version__, "facts": facts}, sort_keys=True)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as partial:
        save_file(contiguous, partial, metadata=header)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: if the file is missing, damaged, no checkpoint of ours, or of a newer schema.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise CheckpointError(
                    f"{path}: not a checkpoint of this toolkit; give a file that `fewshot train` wrote"
                )
            header = json.loads(metadata[FORMAT])
            if header["schema"] > SCHEMA:
                raise CheckpointError(f"{path}: written by fewshot-bus {header['version']}; update to read it")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Checkpoint(tensors, header["facts"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; `fewshot train` writes one") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); train it again, or restore the file") from error


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors under the names that a checkpoint gives them."""
    return {f"network.{name}": tensor for name, tensor in network.state_dict().items()}


def fill_network(network: nn.Module, checkpoint: Checkpoint, origin: str) -> None:
    """Load a checkpoint's tensors into a network of the same shape.

    Raises:
        CheckpointError: if a tensor is missing, left over or of another shape.
    """
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
    if misfits := _misfits(network.state_dict(), state):
        raise CheckpointError(f"{origin}: does not fit its network: {'; '.join(misfits)}")
    network.load_state_dict(state)


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with tensors, one example of each kind: a wrong encoder's are hundreds."""
    kinds = {
        "missing": expected.keys() - found.keys(),
        "left over": found.keys() - expected.keys(),
        "of another shape": {
            name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape
        },
    }
    return [f"{len(names)} tensors are {kind}, such as {min(names)}" for kind, names in kinds.items() if names]


def load_network(path: Path) -> tuple[nn.Module, Checkpoint]:
    """Build the network that a checkpoint describes and fill it; it is in evaluation mode."""
    checkpoint = load_checkpoint(path)
    encoder = parse_config(checkpoint.facts.get("encoder", {}), EncoderConfig, f"{path}: encoder")
    model = parse_config(checkpoint.facts.get("model", {}), ModelConfig, f"{path}: model")
    network = build_network(encoder, model, weights="none")
    fill_network(network, checkpoint, str(path))
    return network.eval(), checkpoint


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, `optimizer.<parameter index>.<entry>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put back what `optimizer_tensors` saved."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoint.tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
