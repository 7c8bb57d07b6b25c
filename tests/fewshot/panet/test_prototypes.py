"""Pooling, matching and prototypes against their literal definitions on upsampled features, and by hand."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewshot.panet.prototypes import (
    class_prototypes,
    cosine_similarity,
    masked_average_pooling,
    pull_back,
    resize_logits,
    upsampling_matrix,
)

GRIDS_AND_SIZES = [
    ((4, 4), (32, 32)),
    ((32, 32), (256, 256)),
    ((5, 7), (33, 49)),
    ((7, 5), (50, 31)),
    ((6, 6), (47, 47)),
    ((8, 8), (8, 8)),
    ((1, 1), (9, 5)),
    ((1, 12), (16, 96)),
]


def upsampled_average(features: Tensor, masks: Tensor) -> Tensor:
    """Equation 1 of the paper, as it stands: upsample the features, weigh every pixel, divide by the weights."""
    maps = features.flatten(0, -4) if features.dim() > 3 else features.unsqueeze(0)
    size = (masks.shape[-2], masks.shape[-1])
    upsampled = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    weights = masks.reshape(-1, 1, *size)
    averages = (upsampled * weights).sum((2, 3)) / weights.sum((2, 3))
    return averages.view(features.shape[:-2])


def assert_equal_to_1e6(found: Tensor, expected: Tensor) -> None:
    """Within one millionth of the largest value."""
    assert found.dtype == torch.float32
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-6 * scale)


def random_masks(generator: torch.Generator, *shape: int) -> Tensor:
    masks = (torch.rand(shape, generator=generator) < 0.3).float()
    masks[..., 0, 0] = 1  # never empty
    return masks


# Masked average pooling


@pytest.mark.parametrize(("grid", "size"), GRIDS_AND_SIZES)
def test_pooling_equals_averaging_upsampled_features(grid: tuple[int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 16, *grid, generator=generator)
    masks = random_masks(generator, 3, *size)
    assert_equal_to_1e6(masked_average_pooling(features, masks), upsampled_average(features.double(), masks.double()))


@pytest.mark.parametrize("pixel", [(0, 0), (0, 63), (37, 20), (63, 63)])
def test_a_mask_of_one_pixel_takes_the_upsampled_feature_there(pixel: tuple[int, int]) -> None:
    features = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 64, 64)
    mask[0, *pixel] = 1
    upsampled = F.interpolate(features.double(), size=(64, 64), mode="bilinear", align_corners=False)
    assert_equal_to_1e6(masked_average_pooling(features, mask), upsampled[:, :, *pixel])


def test_soft_masks_weigh_pixels() -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(4, 16, 6, 5, generator=generator)
    masks = torch.rand(4, 41, 33, generator=generator)
    assert_equal_to_1e6(masked_average_pooling(features, masks), upsampled_average(features.double(), masks.double()))
    assert_equal_to_1e6(masked_average_pooling(features, masks), masked_average_pooling(features, masks / 4).double())


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_leading_axes_are_kept(leading: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(*leading, 16, 4, 6, generator=generator)
    masks = random_masks(generator, *leading, 20, 30)
    pooled = masked_average_pooling(features, masks)
    assert pooled.shape == (*leading, 16)
    assert_equal_to_1e6(pooled, upsampled_average(features.double(), masks.double()))


@settings(max_examples=50, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
)
def test_pooling_equals_the_definition_for_any_shapes(grid: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 8, *grid, generator=generator)
    masks = random_masks(generator, 2, *size)
    assert_equal_to_1e6(masked_average_pooling(features, masks), upsampled_average(features.double(), masks.double()))


def test_gradients_equal_those_through_upsampling() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 8, 5, 7, generator=generator)
    masks = torch.rand(2, 33, 49, generator=generator)
    upstream = torch.randn(2, 8, generator=generator)
    ours = [tensor.clone().requires_grad_() for tensor in (features, masks)]
    theirs = [tensor.double().requires_grad_() for tensor in (features, masks)]
    masked_average_pooling(*ours).backward(upstream)
    upsampled_average(*theirs).backward(upstream.double())
    for found, expected in zip(ours, theirs, strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert_equal_to_1e6(found.grad, expected.grad)


def test_an_empty_mask_has_no_prototype() -> None:
    masks = torch.ones(2, 16, 16)
    masks[1] = 0
    with pytest.raises(ValueError, match="a mask is empty"):
        masked_average_pooling(torch.ones(2, 4, 4, 4), masks)


def test_differing_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features \(2, 4, 8, 8\) and masks \(3, 16, 16\) differ"):
        masked_average_pooling(torch.ones(2, 4, 8, 8), torch.ones(3, 16, 16))


def test_a_pulled_back_mask_weighs_as_much_as_the_mask() -> None:
    masks = random_masks(torch.Generator().manual_seed(5), 3, 37, 52)
    pulled = pull_back(masks, (5, 7))
    assert pulled.shape == (3, 5, 7)
    assert bool((pulled >= 0).all())
    torch.testing.assert_close(pulled.sum((1, 2)), masks.sum((1, 2)))


def test_upsampling_by_two_by_hand() -> None:
    matrix = upsampling_matrix(2, 4, torch.device("cpu"))
    torch.testing.assert_close(matrix, torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]))


def test_a_matrix_made_under_inference_mode_serves_in_training() -> None:
    upsampling_matrix.cache_clear()
    features, masks = torch.ones(1, 2, 3, 3), torch.ones(1, 11, 11)
    with torch.inference_mode():
        masked_average_pooling(features, masks)
    for tensor in (features, masks):
        tensor.requires_grad_()
    masked_average_pooling(features, masks).sum().backward()
    assert features.grad is not None
    assert masks.grad is not None


# Cosine matching


def test_similarity_equals_torch_s() -> None:
    generator = torch.Generator().manual_seed(6)
    features = torch.randn(3, 16, 4, 5, generator=generator)
    prototypes = torch.randn(2, 16, generator=generator)
    expected = [F.cosine_similarity(features, prototype[None, :, None, None], dim=1) for prototype in prototypes]
    torch.testing.assert_close(cosine_similarity(features, prototypes), torch.stack(expected, dim=1))


def test_similarity_of_several_episodes_pairs_each_with_its_own_prototypes() -> None:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(2, 3, 16, 4, 5, generator=generator)
    prototypes = torch.randn(2, 4, 16, generator=generator)
    expected = [cosine_similarity(features[i], prototypes[i]) for i in range(2)]
    torch.testing.assert_close(cosine_similarity(features, prototypes), torch.stack(expected))


def test_a_zero_vector_resembles_nothing_and_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 3, 1, 1, requires_grad=True)
    similarity = cosine_similarity(features, torch.ones(1, 3))
    assert similarity.item() == 0
    similarity.sum().backward()
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())


# Prototypes of a support set


def test_prototypes_by_hand() -> None:
    """On a grid as large as the mask, pooling is a plain average; shots differ in area but count the same."""
    features = torch.tensor([[1.0, 3, 5, 7], [20, 40, 60, 80]]).view(1, 2, 1, 2, 2)  # 1 way, 2 shots, 1 channel
    masks = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1]]).view(1, 2, 2, 2)
    # Foreground: 2 and 80; background: 6 and 40.
    torch.testing.assert_close(class_prototypes(features, masks), torch.tensor([[23.0], [41.0]]))
    torch.testing.assert_close(class_prototypes(features[:, :1], masks[:, :1]), torch.tensor([[6.0], [2.0]]))


def test_a_way_s_background_is_all_that_its_own_mask_leaves() -> None:
    generator = torch.Generator().manual_seed(8)
    features = torch.randn(2, 3, 8, 4, 4, generator=generator)
    masks = random_masks(generator, 2, 3, 16, 16)
    prototypes = class_prototypes(features, masks)
    background = [upsampled_average(features[way], 1 - masks[way]).mean(0) for way in range(2)]
    torch.testing.assert_close(prototypes[0], (background[0] + background[1]) / 2)
    for way in range(2):
        torch.testing.assert_close(prototypes[way + 1], upsampled_average(features[way], masks[way]).mean(0))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_foreground_or_background_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="a mask is empty"):
        class_prototypes(torch.ones(1, 1, 4, 2, 2), torch.full((1, 1, 8, 8), value))


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
def test_logits_are_resized_as_torch_does(leading: tuple[int, ...]) -> None:
    logits = torch.randn(*leading, 2, 4, 5, generator=torch.Generator().manual_seed(9))
    resized = resize_logits(logits, (31, 40))
    expected = F.interpolate(logits.reshape(-1, 2, 4, 5), size=(31, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected.view(*leading, 2, 31, 40))
