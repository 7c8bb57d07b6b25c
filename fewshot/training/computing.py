"""What a training computes in: precision and order in memory; `auto` is what proves fastest on this machine."""

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import count
from math import inf, isfinite
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import torch
from torch import nn

from episodes.errors import StorageError
from episodes.io.files import write_text
from episodes.io.yaml_json import JSONTextError, read_json
from fewshot.config.training import TrainConfig, TrainingConfig
from fewshot.devices import (
    ALONE,
    NotEnoughMemoryError,
    Processes,
    device_name,
    order_channels_last,
    within_memory,
)
from fewshot.stores import default_cache
from fewshot.training.batches import Batch, batch_size
from fewshot.training.learner import autocast

logger = logging.getLogger(__name__)

NOISE = 0.03
"""By what share a choice must be slower than the fastest to be left for it, where it comes first."""

BUDGET = 2.0
"""Seconds that are measured for at least; three times as long where a choice was not measured often enough by then."""

ROUNDS = 3
"""How often is enough. Every choice is measured once, however long a network's steps take."""

STEP = 0.15
"""Seconds of a step whose items are few enough, where a batch has many."""


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

    Several processes compute in what the first one has measured. The log says what was measured, and so does a file in
    the cache, for the next training; where that cannot be written, it is measured again.
    """
    options = choices(config.train, device)
    if len(options) == 1:
        return options[0]
    place = torch.zeros((), dtype=torch.long, device=device)
    if processes.rank == 0:
        seconds = _remembered_seconds(config, network, first_batch(), options, device)
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
    config: TrainConfig, network: nn.Module, batch: Batch, options: Sequence[Computing], device: torch.device
) -> dict[Computing, float]:
    """Return what a part of a step takes each way, from the cache if it was measured there before."""
    what: dict[str, Any] = {
        "device": f"{_processor() if device.type == 'cpu' else device.type}: {device_name(device)}",
        "torch": torch.__version__,
        "network": config.model_dump(mode="json", include={"encoder", "model"}, exclude={"encoder": {"weights"}}),
        "batch": {name: list(tensor.shape) for name, tensor in batch.items()},
        "options": [str(option) for option in options],
    }
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    try:
        path = (config.cache or default_cache()) / "computing" / f"{key}.json"
    except RuntimeError:  # there is no home
        return measured_seconds(network, batch, options, device)
    if (known := _read_seconds(path, options)) is not None:
        return known
    seconds = measured_seconds(network, batch, options, device)
    if all(map(isfinite, seconds.values())):
        told = {str(option): taken for option, taken in seconds.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(what | {"seconds": told}, indent=1) + "\n")
        except (OSError, StorageError) as error:
            logger.info("train: %s: what was measured is not remembered: %s", config.name, error)
    return seconds


def _read_seconds(path: Path, options: Sequence[Computing]) -> dict[Computing, float] | None:
    """Read what was measured; None where there is no such file, or a damaged one."""
    try:
        found = read_json(path)
    except (OSError, JSONTextError):
        return None
    told = found.get("seconds") if isinstance(found, dict) else None
    known = {option: told.get(str(option)) for option in options} if isinstance(told, dict) else {}
    seconds = {option: taken for option, taken in known.items() if isinstance(taken, float) and 0 < taken < inf}
    return seconds if len(seconds) == len(options) else None


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
    began, items = clock(), min(2, batch_size(batch))

    def seconds(option: Computing) -> float:
        order_channels_last(copied, option.channels_last)
        part = {name: tensor[:items].to(device) for name, tensor in batch.items()}
        started = clock()
        try:
            within_memory(partial(_step, copied, part, option, device), f"{device}, measuring {option}")
        except NotEnoughMemoryError:
            return inf
        return clock() - started

    first = min(seconds(options[0]) for _ in range(2))  # the first time, kernels are prepared
    items = max(items, min(batch_size(batch), int(items * STEP / max(first, 1e-9))))
    least = dict.fromkeys(options, inf)
    for done in count(1):
        least = {option: min(known, seconds(option)) for option, known in least.items()}
        spent = clock() - began
        if spent >= BUDGET and (done >= ROUNDS or spent >= 3 * BUDGET):
            break
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


def _processor() -> str:
    """Name the processor's model, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
