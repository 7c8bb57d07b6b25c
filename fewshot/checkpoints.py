"""Checkpoints: one safetensors file with the resolved configuration in its header. No pickle is ever read."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import TypedDict

from episodes.errors import UserError, in_short
from episodes.io.files import written_whole
from episodes.io.yaml_json import parse_json
from fewshot import __version__
from fewshot.config.parsing import Count, Side, Whole, parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.networks import build_network

_LENIENT = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class _Source(TypedDict):
    """A dataset of the training, by its configuration."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    reader: str


class _Best(TypedDict):
    """The validation with the lowest loss so far."""

    step: Whole
    loss: float
    waited: Whole


class _Parts(TypedDict):
    """In how many parts batches are divided, where memory does not suffice."""

    training: Count
    validation: Count


class _Finetuned(TypedDict):
    """The annotated images of a fine-tuning."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    hashes: list[str]


class _Facts(TypedDict, total=False):
    """The facts that this toolkit reads back, of their types; others may stand beside them."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    encoder: dict[str, Any]
    model: dict[str, Any]
    image_size: Side
    sources: list[str]
    datasets: dict[str, _Source]
    precision: str | None
    channels_last: bool | None
    kept_step: Whole | None
    seen_images: list[str]
    test_images: list[str]
    steps_done: Annotated[int, Field(ge=0)]
    scaler: dict[str, Any]
    best: _Best
    parts: _Parts
    finetuned: _Finetuned


_FACTS = TypeAdapter(_Facts)


def require_sound(facts: object) -> dict[str, Any]:
    """Return the facts as they are, if those that are known are of the right kind.

    Raises:
        ValueError: names the first fact that is not.

    >>> require_sound({"image_size": 256, "mine": "kept"})
    {'image_size': 256, 'mine': 'kept'}
    >>> require_sound({"image_size": 10**9})
    Traceback (most recent call last):
    ValueError: image_size: Input should be less than or equal to 4096
    """
    if not isinstance(facts, dict):
        raise ValueError(f"facts are no mapping but {type(facts).__name__}")
    try:
        _FACTS.validate_python(facts)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"][:3]))
        raise ValueError(f"{where}: {problem['msg']}") from error
    if unknown := set(facts.get("sources", ())) - set(facts.get("datasets", ())):
        raise ValueError(f"sources: {min(unknown)!r} is not among the datasets")
    return facts


FORMAT = "fewshot-checkpoint"
SCHEMA = 1
PREFIX = "network."

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors passes on what the system said

# What building a network may take beside its weights in the file: copies of them, and the levels of an encoder that it
# does not use, which are built and dropped.
_COPIES = 4
_SPARE = 2**30


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of another kind."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a checkpoint file: tensors by name, those of the network under `network.`, and JSON facts.

    Among the facts are `encoder` and `model`, from which the network is built again.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinity, which no lesion would ever be found by."""
    for name, tensor in tensors.items():
        # Types of one byte cannot be compared in themselves.
        if not (tensor if tensor.element_size() > 1 else tensor.float()).isfinite().all():
            return name
    return None


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint whole: an interrupted write leaves the old file, or none.

    Raises:
        CheckpointError: if a tensor is not finite.
        StorageError: if the disk is full, or the file may not be written.
    """
    if name := first_not_finite(tensors):
        raise CheckpointError(
            f"{path}: not written, {name} is not finite: the training diverged; lower learning_rate, or set clip_norm"
        )
    # One entry: safetensors writes several in random order, and equal checkpoints should be equal files.
    header = {FORMAT: json.dumps({"schema": SCHEMA, "version": __version__, "facts": facts}, sort_keys=True)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as partial:
        try:
            save_file(contiguous, partial, metadata=header)
        except SafetensorError as error:
            if code := _SYSTEM_ERROR.search(str(error)):
                raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
            raise


def load_checkpoint(path: Path, prefix: str = "") -> Checkpoint:
    """Read a checkpoint, or those of its tensors alone whose names begin with a prefix.

    The file's header has to account for every byte of it before the first tensor is read, so that none can ask for more
    memory than the file has bytes.

    Raises:
        CheckpointError: if the file is missing, damaged, no checkpoint of ours, of a newer schema, or not finite.
    """
    with _opened(path) as file:
        facts = _facts(file, path)
        return _read(file, path, prefix, facts)


def read_facts(path: Path) -> Mapping[str, Any]:
    """Read the facts of a checkpoint alone, and leave its tensors on the disk; errors as `load_checkpoint`."""
    with _opened(path) as file:
        return _facts(file, path)


def _read(file: Any, path: Path, prefix: str, facts: Mapping[str, Any]) -> Checkpoint:
    names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a mapping
    tensors = {name: file.get_tensor(name) for name in names}
    if name := first_not_finite(tensors):
        raise CheckpointError(
            f"{path}: {name} is not finite: damaged, or the training diverged; train again with a lower learning_rate"
        )
    return Checkpoint(tensors, facts)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file whose header fits its size; whatever is wrong with it is a CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; `fewshot train` writes one") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({in_short(error)}); train it again, or restore the file") from error


def _facts(file: Any, path: Path) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if FORMAT not in metadata:
        raise CheckpointError(f"{path}: not a checkpoint of this toolkit; give a file that `fewshot train` wrote")
    header = parse_json(metadata[FORMAT], nan=True)
    schema = header.get("schema") if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(schema, int):
        raise ValueError("its header has no schema")
    if schema > SCHEMA:
        raise CheckpointError(f"{path}: written by fewshot-bus {header.get('version')!s:.20}; update to read it")
    return require_sound(header.get("facts"))


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors under the names that a checkpoint gives them."""
    return {f"{PREFIX}{name}": tensor for name, tensor in network.state_dict().items()}


def fill_network(network: nn.Module, checkpoint: Checkpoint, origin: str) -> None:
    """Load a checkpoint's tensors into a network of the same shape.

    Raises:
        CheckpointError: if a tensor is missing, left over, of another shape or of another type.
    """
    state = {k.removeprefix(PREFIX): v for k, v in checkpoint.tensors.items() if k.startswith(PREFIX)}
    expected = network.state_dict()
    _require_fitting(_shapes(expected), _shapes(state), origin)
    if odd := [name for name, tensor in state.items() if tensor.dtype != expected[name].dtype]:
        raise CheckpointError(
            f"{origin}: does not fit its network: {min(odd)} is {state[min(odd)].dtype}, not {expected[min(odd)].dtype}"
        )
    network.load_state_dict(state)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _require_fitting(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], origin: str
) -> None:
    """Refuse shapes that are not a network's, with one example of each kind: a wrong encoder's are hundreds."""
    kinds = {
        "missing": expected.keys() - found.keys(),
        "left over": found.keys() - expected.keys(),
        "of another shape": {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
    }
    misfits = [f"{len(names)} tensors are {kind}, such as {min(names)}" for kind, names in kinds.items() if names]
    if misfits:
        raise CheckpointError(f"{origin}: does not fit its network: {'; '.join(misfits)}")


def load_network(path: Path, trust: Sequence[str] = ()) -> tuple[nn.Module, Checkpoint]:
    """Build the network that a checkpoint describes and fill it; it is in evaluation mode.

    The network has to agree with the shapes in the file's header before a tensor is read, and cannot grow out of
    proportion to the file while it is built. A network `module:Class` may be of the modules in `trust`; another file
    could name any that would then run.

    Raises:
        CheckpointError: if the file is missing or damaged, describes no network that can be built, or does not fit it,
            or wants a module that is not trusted.
        ConfigError: if it describes a network that is not known here.
    """
    with _opened(path) as file:
        facts = _facts(file, path)
        if "image_size" not in facts:
            raise CheckpointError(f"{path}: does not say which image_size its network is for; train it again")
        network = _described_network(facts, path, trust)
        names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118 - not a mapping
        shapes = {name.removeprefix(PREFIX): tuple(file.get_slice(name).get_shape()) for name in names}
        _require_fitting(_shapes(network.state_dict()), shapes, str(path))
        checkpoint = _read(file, path, PREFIX, facts)
    fill_network(network, checkpoint, str(path))
    return network.eval(), checkpoint


def _described_network(facts: dict[str, Any], path: Path, trust: Sequence[str]) -> nn.Module:
    """Build a header's network, random yet; the header's `encoder` and `model` have all their keys afterwards."""
    encoder = parse_config(facts.get("encoder", {}), EncoderConfig, f"{path}: encoder")
    model = parse_config(facts.get("model", {}), ModelConfig, f"{path}: model")
    for module in set(model.own_modules).difference(trust):
        raise CheckpointError(
            f"{path}: has a network {model.network!r:.100}, whose module would be imported and run; if you trust it,"
            f" give --trust {module!r:.60} (in Python, trust=[...]; in a benchmark, name it as the model's network)"
        )
    facts |= {"encoder": encoder.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    try:
        return build_network(encoder, model, weights="none", budget=_SPARE + _COPIES * path.stat().st_size)
    except UserError:
        raise
    except Exception as error:  # a header can ask a constructor for anything
        raise CheckpointError(f"{path}: its network cannot be built ({in_short(error)}); train it again") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as named tensors, `optimizer.<parameter index>.<entry>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put back what `optimizer_tensors` saved.

    Raises:
        ValueError: if a tensor belongs to no parameter, or is not of its shape, which the optimiser might never notice.
    """
    shapes = dict(enumerate(parameter.shape for group in optimizer.param_groups for parameter in group["params"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoint.tensors.items():
        if key.startswith("optimizer."):
            index, _, name = key.removeprefix("optimizer.").partition(".")
            if not index.isdecimal() or value.shape not in ((), shapes.get(int(index))):
                raise ValueError(f"{key} is of no parameter, or not of its shape")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
