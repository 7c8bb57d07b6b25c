"""The factor that scales a similarity before the softmax."""

import math

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """A positive factor, fixed or learned.

    Args:
        value: at first.
        learned: train it, by its logarithm, so that it stays positive.

    Raises:
        ValueError: if the value is not positive.

    >>> float(Temperature(20.0).factor)
    20.0
    """

    def __init__(self, value: float, *, learned: bool = False) -> None:
        super().__init__()
        if value <= 0:
            raise ValueError(f"temperature is {value}; expected a positive number")
        self.value = value
        self.logarithm = nn.Parameter(torch.tensor(math.log(value))) if learned else None

    @property
    def factor(self) -> Tensor:
        """The factor, a scalar."""
        return torch.tensor(self.value) if self.logarithm is None else self.logarithm.exp()
