"""Devices, batches that fit their memory, and the processes that train together."""

import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed
from torch import nn

from episodes.errors import UserError
from fewshot.config.parsing import ConfigError

logger = logging.getLogger(__name__)


Result = TypeVar("Result")

# What torch says where it has no exception of its own: the allocators of CPUs and of Apple's GPUs, CUDA's libraries,
# and C++ itself, here in lower case.
_MESSAGES = (
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "backend out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "std::bad_alloc",
)


class NotEnoughMemoryError(UserError):
    """Memory, the system's or an accelerator's, did not suffice; the message says for what."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory did not suffice, be it the system's or an accelerator's.

    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


def within_memory(compute: Callable[[], Result], doing: str) -> Result:
    """Compute something if memory suffices for it; any other error is raised as it is.

    `compute` must leave nothing behind if it fails; `doing` is where and what, such as `cuda:0, adapting to 5 images`.

    Raises:
        NotEnoughMemoryError: if memory does not suffice. Nothing of the failed computation is held any more by then,
            and an accelerator's cache is empty, so that a smaller one has all the room there is.
    """
    try:
        return compute()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Only here, where the error is gone: its traceback holds the frames that hold the tensors.
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA has not been used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    raise NotEnoughMemoryError(f"out of memory: {doing}; set a smaller image_size, or choose another device")


Item = TypeVar("Item")


class Batching:
    """The `size` of batches, in images: halved for good, once memory has not sufficed; `default_batch_size` at first.

    What is computed of an image does not depend on its batch but for rounding (and dropout, where it is sampled), so
    the results are those of a run that had the smaller batches from the start.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.device = device
        self.size = size or default_batch_size(device)

    def over(
        self, items: Sequence[Item], compute: Callable[[list[Item]], Result]
    ) -> Iterator[tuple[list[Item], Result]]:
        """Compute something of all items, a batch at a time; yield every batch with what was computed of it, in order.

        `compute` must leave nothing behind if memory does not suffice for a batch.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single item.
        """
        done = 0
        while done < len(items):
            batch = list(items[done : done + self.size])
            try:
                result = within_memory(partial(compute, batch), f"{self.device}, one image at a time")
            except NotEnoughMemoryError:
                if len(batch) == 1:
                    raise
                self.size = len(batch) // 2
                tried = f"{self.device}: out of memory with {len(batch)} images at once"
                logger.warning("%s; going on with %d", tried, self.size)
                continue
            done += len(batch)
            yield batch, result


def default_batch_size(device: torch.device) -> int:
    """Return how many images to segment at once: few on a CPU, whose caches hold the activations of few."""
    return 4 if device.type == "cpu" else 32


def batched(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield consecutive pieces of at most `size` items.

    >>> list(batched(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    return (list(items[start : start + size]) for start in range(0, len(items), size))


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among those that train together; rank 0 writes the files."""

    rank: int = 0
    count: int = 1


ALONE = Processes()


def choose_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` stands for.

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


def device_name(device: torch.device, threads: int | None = None) -> str:
    """Return a device's name, with the number of threads of a CPU, which is this process's unless given."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = threads or torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device that it is to predict on, in the order in memory that is fastest there.

    On a CPU that is channels last: of the networks here, none took longer so by more than noise, and most 10 to 30 %
    less; what they compute differs by rounding (docs/speed.md).
    """
    network.to(device)
    if device.type == "cpu":
        order_channels_last(network)
    return network


def order_channels_last(network: nn.Module, last: bool = True) -> None:
    """Store the weights of 2D convolutions channel by channel; they then compute, and give, feature maps likewise.

    `network.to(memory_format=...)` does the same, but fails for networks that have 3D convolutions as well. Without
    `last` they are stored as a network has them that was just built.
    """
    order = torch.channels_last if last else torch.contiguous_format
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


def machine_memory() -> int:
    """Return the memory of the machine, or of the container where that is less, in bytes."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(path.read_text()))
    return min(limits)


def is_first_process() -> bool:
    """Tell whether this process is alone, or the first that `torchrun` started: the one that writes files."""
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
