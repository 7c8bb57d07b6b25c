"""Masked average pooling on the feature grid, against upsampling the features to the mask, in one run."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.panet import masked_average_pooling
from tests.benchmarks.measurements import Measurement, at_least, at_most, interleaved, measured, ratios

CHANNELS, GRID, SIZE = 2048, 32, 256
AT_ONCE = 20  # of the quick way, whose time alone is too short for a clock


def measure() -> list[Measurement]:
    """How long both ways take, and how far their results are apart."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, CHANNELS, GRID, GRID, generator=generator).relu()
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    mask = (((rows - 100) / 40) ** 2 + ((columns - 140) / 60) ** 2 < 1).float().unsqueeze(0)
    masks = mask.unsqueeze(1)  # one of an image
    ours, plain = masked_average_pooling(features, masks).squeeze(1), upsampled_pooling(features, mask)
    slow, fast = interleaved(
        lambda: upsampled_pooling(features, mask),
        lambda: [masked_average_pooling(features, masks) for _ in range(AT_ONCE)],
        repeats=5,
    )
    times = [AT_ONCE * ratio for ratio in ratios(slow, fast)]
    sizes = f"{CHANNELS} channels, {GRID}x{GRID} to {SIZE}x{SIZE}"
    return [
        measured(
            "pooling.upsampling",
            f"masked average pooling, times as fast as upsampling the features ({sizes})",
            times,
            "x",
            wanted=at_least(100),
        ),
        measured(
            "pooling.difference",
            "... the relative difference of the results",
            [float((ours - plain).norm() / plain.norm())],
            "",
            wanted=at_most(1e-6),
        ),
        measured("pooling.seconds", "... a mask pulled back", [1e3 * second / AT_ONCE for second in fast], "ms"),
    ]


def upsampled_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """As PANet's code does it: features as large as the image, weighed with the mask."""
    upsampled = F.interpolate(features, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    return (upsampled * masks.unsqueeze(1)).sum((-2, -1)) / masks.sum((-2, -1)).unsqueeze(1)
