"""Memory that suffices for a few items at a time, and the errors by which torch and NumPy say that it does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HUGE = 2**50  # bytes; more than any machine has, and refused at once


def cuda_error() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def torch_error() -> None:
    torch.empty(HUGE, dtype=torch.uint8)


def numpy_error() -> None:
    np.empty(HUGE, np.uint8)


ERRORS: dict[str, Callable[[], None]] = {"cuda": cuda_error, "torch": torch_error, "numpy": numpy_error}


class Scarce:
    """Room for so many items at once; remembers how many were tried."""

    def __init__(self, room: int, error: Callable[[], None] = torch_error) -> None:
        self.room = room
        self.error = error
        self.tried: list[int] = []

    def ask(self, n_items: int) -> None:
        self.tried.append(n_items)
        if n_items > self.room:
            self.error()


def limited(network: nn.Module, scarce: Scarce) -> nn.Module:
    """The network, whose loss asks for room when it has been computed, as the backward pass would."""
    whole: Callable[..., dict[str, Tensor]] = network.loss  # type: ignore[assignment]

    def loss(**batch: Tensor) -> dict[str, Tensor]:
        losses = whole(**batch)
        scarce.ask(len(next(iter(batch.values()))))
        return losses

    network.loss = loss  # type: ignore[assignment]
    return network


@contextmanager
def room_for_images(module: nn.Module, scarce: Scarce) -> Iterator[None]:
    """A module that asks for room before every forward pass, by the length of its first argument."""

    def ask(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        scarce.ask(len(inputs[0]))

    handle = module.register_forward_pre_hook(ask)
    try:
        yield
    finally:
        handle.remove()
