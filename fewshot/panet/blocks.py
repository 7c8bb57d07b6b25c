"""Blocks of PANet and its options: pooling on the feature grid, unit vectors, learned numbers."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Areas and lengths are divided by; smaller ones count as this.
EPSILON = 1e-8
# Adam moves every weight by about the learning rate a step, whatever the weight means. A strength that is to travel
# from 2 to 20 within a thousand steps of 1e-4 needs longer strides: it is kept divided by this.
STRIDE = 30.0


def pool(features: Tensor, weights: Tensor) -> Tensor:
    """Sum features (..., channels, h, w) under weights (..., n_masks, h, w) to vectors (..., n_masks, channels)."""
    return torch.einsum("...chw,...rhw->...rc", features, weights)  # all masks in one pass over the features


def scalar_products(features: Tensor, vectors: Tensor) -> Tensor:
    """Multiply features (..., n, channels, h, w) at every pixel with vectors (..., k, channels): (..., n, k, h, w)."""
    if torch.is_inference_mode_enabled():  # a training goes on with the sums, in their order, that it began with
        # Image by image: to join their pixels all of them are copied, which takes ten times as long.
        return torch.unflatten(vectors.unsqueeze(-3) @ features.flatten(-2), -1, features.shape[-2:])
    return torch.einsum("...nchw,...kc->...nkhw", features, vectors)


def cosines(features: Tensor, vectors: Tensor) -> Tensor:
    """Compare features (channels, h, w), at every pixel, with unit vectors (n, channels): (n, h, w).

    Lengths and products are summed over a few channels at a time, which are read from memory once, and nothing of the
    features' size is written.
    """
    squares, products = (
        features.new_zeros(1, features[0].numel()),
        features.new_zeros(len(vectors), features[0].numel()),
    )
    for part, of_vectors in zip(torch.split(features.flatten(1), 128), torch.split(vectors, 128, dim=1), strict=True):
        squares += part.square().sum(0)
        products.addmm_(of_vectors, part)
    return (products * squares.clamp_min(EPSILON**2).rsqrt()).view(-1, *features.shape[1:])


def pooling_weights(masks: Tensor, grid: tuple[int, int], *, empty_is_zero: bool = False) -> Tensor:
    """Compute the weights (..., h, w) that masks (..., H, W) in [0, 1] give the feature grid; each image's sum to 1.

    With `empty_is_zero` an empty mask has weights of 0, where a prior stands in for its prototype.

    Raises:
        ValueError: if a mask is empty, unless it may be.
    """
    area = masks.sum((-2, -1), keepdim=True)
    if not empty_is_zero and not bool((area > 0).all()):
        raise ValueError("a mask is empty: an empty region has no prototype")
    return pull_back(masks, grid) / area.clamp_min(EPSILON)


def both_regions(masks: Tensor) -> Tensor:
    """Return the masks (..., 2, H, W) of background and foreground: what lies outside and inside masks (..., H, W)."""
    return torch.stack([1 - masks, masks], dim=-3)


def join_backgrounds(ways: Tensor) -> Tensor:
    """Average the ways' backgrounds: vectors (..., n_way, 2, channels) to prototypes (..., 1 + n_way, channels)."""
    return torch.cat([ways[..., 0, :].mean(-2, keepdim=True), ways[..., 1, :]], dim=-2)


def pull_back(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Apply the adjoint of bilinear upsampling: masks (..., H, W) to weights on the feature grid (..., h, w).

    The weights of a mask sum to its area, since every row of the interpolation sums to 1.
    """
    rows = upsampling_matrix(grid[0], masks.shape[-2], masks.device).to(masks.dtype)
    columns = upsampling_matrix(grid[1], masks.shape[-1], masks.device).to(masks.dtype)
    return rows.T @ masks @ columns


@lru_cache(maxsize=64)
def upsampling_matrix(source: int, target: int, device: torch.device) -> Tensor:
    """Compute the matrix (target, source) of one-dimensional bilinear interpolation, as `F.interpolate` does it."""
    # Not under inference mode: a cached matrix is used in training as well.
    with torch.inference_mode(False), torch.no_grad():
        basis = torch.eye(source, dtype=torch.float64).view(1, source, source, 1)
        matrix = F.interpolate(basis, size=(target, 1), mode="bilinear", align_corners=False)
        return matrix.view(source, target).T.contiguous().to(device=device, dtype=torch.float32)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample logits (..., classes, h, w) bilinearly to (..., classes, H, W)."""
    resized = F.interpolate(logits.flatten(0, -4), size=size, mode="bilinear", align_corners=False)
    return resized.reshape(*logits.shape[:-2], *size)


def unit(vectors: Tensor, axis: int) -> Tensor:
    """Scale the vectors along an axis to length 1; the zero vector stays zero."""
    # Not `norm`, which is seven times slower along an axis that is not the last one.
    squares = vectors.square().sum(axis, keepdim=True)
    return vectors * squares.clamp_min(EPSILON**2).rsqrt()


class LearnedScalars(nn.Module):
    """A few numbers that learn at a pace of their own."""

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.scaled = nn.Parameter(torch.tensor(start) / STRIDE)

    @property
    def values(self) -> Tensor:
        """Return the numbers, (n,)."""
        return self.scaled * STRIDE


class Temperature(nn.Module):
    """A positive factor that scales a similarity before the softmax, fixed or learned, by its logarithm.

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
