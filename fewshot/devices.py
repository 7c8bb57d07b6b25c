"""Devices and processes: where tensors go, and which share of the work is this process's."""

import os
from dataclasses import dataclass

import torch
import torch.distributed

from fewshot.config import ConfigError


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


def join_processes(device: torch.device) -> Processes:
    """Join the process group that `torchrun` announces, if it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
