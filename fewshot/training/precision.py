"""Precision and order in memory of a training; `auto` is the fastest on this machine, measured once and remembered."""

import hashlib
import json
import logging
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import torch
from torch import nn

from episodes.errors import StorageError
from episodes.io.files import write_text
from episodes.io.locks import waiting_lock
from episodes.io.yaml_json import read_json
from fewshot.config.training import TrainConfig, TrainingConfig
from fewshot.devices import ALONE, NotEnoughMemoryError, Processes, device_name, order_channels_last, within_memory
from fewshot.stores import in_cache
from fewshot.training.batches import Batch

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

NOISE = 0.03
"""By what share a choice must be slower than the fastest to be left for it, where it comes first."""

ITEMS, ROUNDS, SECONDS = 4, 3, 2.0
"""So many items of a batch are measured, so often at least each way, and for so long."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network computes in a precision; float32 leaves it as it is."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32")


class Computing(NamedTuple):
    """A precision, and whether convolutions have their channels last in memory."""

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}{' channels-last' if self.channels_last else ''}"


def choices(config: TrainingConfig, device: torch.device) -> list[Computing]:
    """List what a configuration leaves open, the plainest first: what is as fast as another is left for none after it.

    `precision: auto` is float32 or bfloat16, but float32 alone where the device would emulate bfloat16.
    """
    precisions: Sequence[str] = (config.precision,)
    if config.precision == "auto":
        precisions = ("float32", "bfloat16") if computes_in_bfloat16(device) else ("float32",)
    orders: Sequence[bool] = (False, True) if config.channels_last == "auto" else (config.channels_last,)
    return [Computing(precision, last) for precision in precisions for last in orders]


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private, but the only questions of torch 2.6 to 2.14 that ask for instructions and not for an emulation.
    asked = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
    return device.type == "cpu" and any(supported() for supported in asked)


def choose_computing(
    config: TrainConfig,
    network: nn.Module,
    first_batch: Callable[[], Batch],
    device: torch.device,
    processes: Processes = ALONE,
) -> Computing:
    """Decide what a training computes in; of what is left open, the fastest is measured, once per machine and network.

    Whoever comes first measures, and others wait for it: processes of one training, and any others that share a cache.
    """
    options = choices(config.train, device)
    if len(options) == 1:
        return options[0]
    place = torch.zeros((), dtype=torch.long, device=device)
    if processes.rank == 0:
        measure = partial(measured_seconds, network, batch := first_batch(), options, device)
        try:
            seconds = in_cache(config, partial(_remembered_seconds, config, batch, options, device, measure))
        except StorageError as error:
            logger.info("train: %s: what is measured is not remembered: %s", config.name, error)
            seconds = measure()
        best = fastest(seconds)
        place += options.index(best)
        found = ", ".join(f"{option} {1000 * taken:.0f} ms" for option, taken in seconds.items())
        logger.info("train: %s: computes in %s on %s (%s)", config.name, best, device_name(device), found)
    if processes.count > 1:
        torch.distributed.broadcast(place, 0)
    return options[int(place)]


def fastest(seconds: Mapping[Computing, float]) -> Computing:
    """Return the first of those that are as fast as the fastest, but for noise.

    >>> plain, last = Computing("float32", False), Computing("float32", True)
    >>> str(fastest({plain: 1.02, last: 1.0})), str(fastest({plain: 1.1, last: 1.0}))
    ('float32', 'float32 channels-last')
    """
    return next(option for option, taken in seconds.items() if taken <= (1 + NOISE) * min(seconds.values()))


def _remembered_seconds(
    config: TrainConfig,
    batch: Batch,
    options: Sequence[Computing],
    device: torch.device,
    measure: Callable[[], dict[Computing, float]],
    cache: Path,
) -> dict[Computing, float]:
    """Return what was measured before on such a machine, network and batch, or else is now, also for a damaged file."""
    key: dict[str, Any] = {
        "device": f"{_processor() if device.type == 'cpu' else device.type}: {device_name(device)}",
        "torch": torch.__version__,
        "network": config.model_dump(mode="json", include={"encoder", "model"}, exclude={"encoder": {"weights"}}),
        "batch": {name: list(tensor.shape) for name, tensor in batch.items()},
    }
    path = cache / "precision" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
    with waiting_lock(path):
        try:
            told: Any = read_json(path)
            return {option: float(told["seconds"][str(option)]) for option in options}
        except (OSError, LookupError, TypeError, ValueError):
            seconds = measure()
        if inf not in seconds.values():
            key["seconds"] = {str(option): taken for option, taken in seconds.items()}
            write_text(path, json.dumps(key, indent=1) + "\n")
    return seconds


def _processor() -> str:
    """Name the processor's model, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(errors="replace") if file.is_file() else ""
    found = re.search(r"^model name\s*: *(.*)", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def measured_seconds(
    network: nn.Module,
    batch: Batch,
    options: Sequence[Computing],
    device: torch.device,
    clock: Callable[[], float] | None = None,
) -> dict[Computing, float]:
    """Return the least that losses and gradients of some items of a batch took each way, in seconds, by turns.

    The network stays as it is. What memory does not suffice for takes for ever. Where one thread computes, the clock
    is its own, which stands while another process has the processor.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = clock or (thread_time if alone else perf_counter)
    copied = deepcopy(network).to(device).train()
    part = {name: tensor[:ITEMS].to(device) for name, tensor in batch.items()}
    least, began = dict.fromkeys(options, inf), clock()
    for done in count():
        if done >= ROUNDS and clock() - began >= SECONDS:
            break
        for option in options:
            order_channels_last(copied, option.channels_last)
            started = clock()
            try:
                within_memory(partial(_step, copied, part, option, device), f"{device}, measuring {option}")
            except NotEnoughMemoryError:
                continue
            least[option] = min(least[option], clock() - started)
    return least


def _step(network: nn.Module, batch: Batch, option: Computing, device: torch.device) -> None:
    network.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with autocast(option.precision, device):
            loss = network.loss(**batch)["loss"]  # type: ignore[operator]
        loss.backward()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
