"""Single learned numbers: temperatures, strengths, shares."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Adam moves every weight by about the learning rate a step, whatever the weight means. A strength that is to travel
# from 2 to 20 within a thousand steps of 1e-4 needs longer strides: it is kept divided by this.
STRIDE = 30.0


class LearnedScalars(nn.Module):
    """A few numbers that learn at a pace of their own.

    Args:
        start: their values at first.
    """

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.scaled = nn.Parameter(torch.tensor(start) / STRIDE)

    @property
    def values(self) -> Tensor:
        """Return the numbers, (n,)."""
        return self.scaled * STRIDE


class Temperature(nn.Module):
    """A positive factor that scales a similarity before the softmax, fixed or learned.

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
        self.logarithm = LearnedScalars([math.log(value)]) if learned else None

    @property
    def factor(self) -> Tensor:
        """Return the factor, a scalar."""
        return torch.tensor(self.value) if self.logarithm is None else self.logarithm.values[0].exp()
