"""A limit on the tensors that are made while a network is built, known before their memory is asked for."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from episodes.errors import UserError

BYTES = 4  # of a value: networks are built in float32

_aten = torch.ops.aten
# What makes tensors from sizes; the rest makes them from tensors, or from lists that are there already.
_SIZED = {_aten.empty, _aten.zeros, _aten.ones, _aten.full, _aten.rand, _aten.randn, _aten.randint, _aten.empty_strided}
_RANGES = {_aten.arange, _aten.linspace, _aten.logspace, _aten.randperm, _aten.eye}


class TooLargeError(UserError):
    """A network would need more memory than it may have."""


@contextmanager
def tensor_budget(n_bytes: int) -> Iterator[None]:
    """Refuse to make tensors of more than so many bytes in all.

    A description of a network that asks for a billion channels is then an error at once, instead of a machine that
    swaps: a tensor counts before its memory is allocated. Copies do not count, so allow for some.

    Raises:
        TooLargeError: at the tensor that goes beyond.

    >>> with tensor_budget(1000):
    ...     layer = torch.nn.Linear(10, 10)
    >>> with tensor_budget(1000):
    ...     layer = torch.nn.Linear(10**6, 10**6)
    Traceback (most recent call last):
    fewshot.tensor_budget.TooLargeError: needs more than 1,000 bytes of weights
    """
    with _Budget(n_bytes):
        yield


class _Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation before it runs."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = n_bytes
        self.used = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.used += _values(func.overloadpacket, args) * BYTES
        if self.used > self.n_bytes:
            raise TooLargeError(f"needs more than {self.n_bytes:,} bytes of weights")
        return func(*args, **(kwargs or {}))


def _values(operation: Callable[..., Any], args: Sequence[Any]) -> int:
    """How many values a new tensor will have; 0 where an operation does not make one from sizes."""
    if operation in _SIZED:
        sizes = next((arg for arg in args if isinstance(arg, list | tuple)), ())
        return math.prod(sizes)
    if operation in _RANGES:
        ends = [abs(arg) for arg in args if isinstance(arg, int | float)]
        return math.ceil(max(ends, default=0)) ** (2 if operation is _aten.eye else 1)
    return 0
