"""Masked average pooling on the feature grid, against upsampling the features to the mask, in one run."""

from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.panet import masked_average_pooling

CHANNELS, GRID, SIZE = 2048, 32, 256


def measure() -> list[str]:
    """Lines that say how long both ways take, and how far their results are apart."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, CHANNELS, GRID, GRID, generator=generator).relu()
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    mask = (((rows - 100) / 40) ** 2 + ((columns - 140) / 60) ** 2 < 1).float().unsqueeze(0)
    masks = mask.unsqueeze(1)  # one of an image
    ours, plain = masked_average_pooling(features, masks).squeeze(1), upsampled_pooling(features, mask)
    apart = float((ours - plain).norm() / plain.norm())
    fast = seconds_of(lambda: masked_average_pooling(features, masks), repeats=20)
    slow = seconds_of(lambda: upsampled_pooling(features, mask), repeats=3)
    return [
        f"{CHANNELS} channels, {GRID}x{GRID} to {SIZE}x{SIZE}, {torch.get_num_threads()} thread(s)",
        f"upsampling the features: {1e3 * slow:.1f} ms",
        f"pulling back the mask: {1e3 * fast:.3f} ms, {slow / fast:.0f}x as fast (at least 100x wanted)",
        f"relative difference from upsampling: {apart:.1e} (at most 1e-6 wanted)",
    ]


def upsampled_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """As PANet's code does it: features as large as the image, weighed with the mask."""
    upsampled = F.interpolate(features, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    return (upsampled * masks.unsqueeze(1)).sum((-2, -1)) / masks.sum((-2, -1)).unsqueeze(1)


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """The quickest of several runs: the one that other work on the machine disturbed least."""
    times = []
    for _ in range(repeats + 1):  # the first fills caches
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return min(times[1:])
