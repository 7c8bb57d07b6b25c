"""An exponential moving average of a network's weights, which generalises better than the last step's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network whose weights follow the network's with every `update_parameters(network)`.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, in the exponential form.
    Statistics of batch norm are averaged like weights, because they belong to these; integers are copied.

    Args:
        network: to be followed.
        decay: of the average, above 0 and below 1. The n-th update takes (1 + n) / (10 + n) where that is less, so
            that a short training's average is not that of its beginning.

    >>> line = nn.Linear(1, 1, bias=False)
    >>> average = averaged(line, 0.9)
    >>> for weight in (1.0, 2.0):
    ...     _ = nn.init.constant_(line.weight, weight)
    ...     average.update_parameters(line)
    >>> round(average.module.weight.item(), 4)  # the second decay is 2 / 11
    1.8182
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], n_averaged: Tensor | int) -> None:
        # torch calls it once for each type of number.
        if averages[0].is_floating_point():
            n = int(n_averaged)
            lerp = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
            lerp(averages, currents, n)
        else:
            torch._foreach_copy_(list(averages), list(currents))

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True).eval()
