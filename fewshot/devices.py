"""Devices and processes: where tensors go, and which share of the work is this process's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed

from fewshot.parsing import ConfigError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among those that train together.

    Attributes:
        rank: 0 for the one that writes files.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1


ALONE = Processes()


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` stands for.

    Raises:
        ConfigError: if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda":
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {name!r} is not available ({reason}); use auto or cpu") from error
    return device


def device_name(device: torch.device) -> str:
    """What a device is called, with the number of threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that `torchrun` started: the one that writes files."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Belong to the process group that `torchrun` announces, if it does, for as long as the block runs.

    All processes leave the block together, so what process 0 wrote in it is there for every one of them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
