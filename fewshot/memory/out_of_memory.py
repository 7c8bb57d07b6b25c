"""Running out of memory: how it is known, and how to come back from it."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from episodes.errors import UserError

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
    """Whether an error says that memory did not suffice, be it the system's or an accelerator's.

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
    """What is computed, if memory suffices for it; any other error is raised as it is.

    Args:
        compute: must leave nothing behind if it fails.
        doing: where and what, for the message, such as `cuda:0, adapting to 5 images`.

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
    _empty_caches()
    raise NotEnoughMemoryError(f"out of memory: {doing}; set a smaller image_size, or choose another device")


def _empty_caches() -> None:
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA has not been used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
