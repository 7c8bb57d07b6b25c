"""The published PANet against plain loops, its steps against their literal definitions and by hand."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewshot.panet.blocks import pull_back, resize_logits, upsampling_matrix
from fewshot.panet.network import PANet
from fewshot.panet.panet import (
    PublishedPANet,
    alignment_loss,
    class_prototypes,
    cosine_similarity,
    masked_average_pooling,
)
from tests.fewshot import plain_panet
from tests.fewshot.panet_variants import NOISE_SIZE, RandomEncoder, random_batch, supports

SETTINGS = [(1, 1), (1, 5), (2, 3)]
TEMPERATURE = plain_panet.TEMPERATURE
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


def features(batch: dict[str, Tensor], network: PublishedPANet) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments of the reference's losses."""
    encoded = {name: network.encode(batch[name]).deepest for name in ("support_images", "query_images")}
    return encoded["support_images"], batch["support_masks"], encoded["query_images"], batch["query_masks"]


@pytest.fixture(params=[PublishedPANet, PANet])
def network(request: pytest.FixtureRequest) -> PublishedPANet:
    published: PublishedPANet = request.param(RandomEncoder())
    return published


# Against the reference: the page by itself, and as the network runs it


@pytest.mark.parametrize(("n_way", "n_shot"), SETTINGS)
def test_logits_equal_the_plain_reference(network: PublishedPANet, n_way: int, n_shot: int) -> None:
    batch = random_batch(n_way, n_shot)
    support_maps, masks, query_maps, _ = features(batch, network)
    for episode, support in enumerate(supports(batch)):
        logits = network.segment(batch["query_images"][episode], network.adapt(support))
        expected = plain_panet.segment(support_maps[episode], masks[episode], query_maps[episode])
        assert logits.shape == (2, 1 + n_way, *NOISE_SIZE)
        torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n_way", "n_shot"), SETTINGS)
def test_losses_and_gradients_equal_the_plain_reference(network: PublishedPANet, n_way: int, n_shot: int) -> None:
    batch = random_batch(n_way, n_shot)
    losses = network.loss(**batch)
    segmentation, alignment = plain_panet.losses(*features(batch, network))
    torch.testing.assert_close(losses["segmentation"].double(), segmentation, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["alignment"].double(), alignment, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["segmentation"] + losses["alignment"])
    (found,) = torch.autograd.grad(losses["loss"], network.encoder.weight)
    (expected,) = torch.autograd.grad(segmentation + alignment, network.encoder.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_options_is_the_page_to_the_last_bit() -> None:
    batch = random_batch(2, 3)
    found = []
    for kind in (PublishedPANet, PANet):
        network = kind(RandomEncoder())  # type: ignore[arg-type]
        losses = network.loss(**batch)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        logits = network.segment(batch["query_images"][0], network.adapt(supports(batch)[0]))
        found.append((list(losses), *losses.values(), logits, network.encoder.weight.grad))
        assert list(network.state_dict()) == ["encoder.weight"]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1:], found[1][1:], strict=True))


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


def pooled(features: Tensor, masks: Tensor) -> Tensor:
    """Vectors (..., channels) of features under one mask each, (..., H, W)."""
    return masked_average_pooling(features, masks.unsqueeze(-3)).squeeze(-2)


@pytest.mark.parametrize(("grid", "size"), GRIDS_AND_SIZES)
def test_pooling_equals_averaging_upsampled_features(grid: tuple[int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 16, *grid, generator=generator)
    masks = random_masks(generator, 3, *size)
    assert_equal_to_1e6(pooled(features, masks), upsampled_average(features.double(), masks.double()))


@pytest.mark.parametrize("pixel", [(0, 0), (0, 63), (37, 20), (63, 63)])
def test_a_mask_of_one_pixel_takes_the_upsampled_feature_there(pixel: tuple[int, int]) -> None:
    features = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 64, 64)
    mask[0, *pixel] = 1
    upsampled = F.interpolate(features.double(), size=(64, 64), mode="bilinear", align_corners=False)
    assert_equal_to_1e6(pooled(features, mask), upsampled[:, :, *pixel])


def test_soft_masks_weigh_pixels() -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(4, 16, 6, 5, generator=generator)
    masks = torch.rand(4, 41, 33, generator=generator)
    assert_equal_to_1e6(pooled(features, masks), upsampled_average(features.double(), masks.double()))
    assert_equal_to_1e6(pooled(features, masks), pooled(features, masks / 4).double())


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_leading_axes_are_kept(leading: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(*leading, 16, 4, 6, generator=generator)
    masks = random_masks(generator, *leading, 20, 30)
    averages = pooled(features, masks)
    assert averages.shape == (*leading, 16)
    assert_equal_to_1e6(averages, upsampled_average(features.double(), masks.double()))


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
    assert_equal_to_1e6(pooled(features, masks), upsampled_average(features.double(), masks.double()))


def test_gradients_equal_those_through_upsampling() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 8, 5, 7, generator=generator)
    masks = torch.rand(2, 33, 49, generator=generator)
    upstream = torch.randn(2, 8, generator=generator)
    ours = [tensor.clone().requires_grad_() for tensor in (features, masks)]
    theirs = [tensor.double().requires_grad_() for tensor in (features, masks)]
    pooled(*ours).backward(upstream)
    upsampled_average(*theirs).backward(upstream.double())
    for found, expected in zip(ours, theirs, strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert_equal_to_1e6(found.grad, expected.grad)


def test_an_empty_mask_has_no_prototype() -> None:
    masks = torch.ones(2, 16, 16)
    masks[1] = 0
    with pytest.raises(ValueError, match="a mask is empty"):
        pooled(torch.ones(2, 4, 4, 4), masks)


def test_differing_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features \(2, 4, 8, 8\) and masks \(3, 1, 16, 16\) differ"):
        pooled(torch.ones(2, 4, 8, 8), torch.ones(3, 16, 16))


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
        pooled(features, masks)
    for tensor in (features, masks):
        tensor.requires_grad_()
    pooled(features, masks).sum().backward()
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


# Alignment


def alignment_case(
    n_way: int, n_shot: int, n_query: int = 2, n_episodes: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support features and masks, query features and logits; every class is predicted somewhere."""
    generator = torch.Generator().manual_seed(n_way * 10 + n_shot)
    support = torch.randn(n_episodes, n_way, n_shot, 8, 6, 5, generator=generator)
    masks = (torch.rand(n_episodes, n_way, n_shot, 24, 20, generator=generator) < 0.4).float()
    query = torch.randn(n_episodes, n_query, 8, 6, 5, generator=generator)
    logits = torch.randn(n_episodes, n_query, 1 + n_way, 6, 5, generator=generator)
    return support, masks, query, logits


def plain(support: Tensor, masks: Tensor, query: Tensor, logits: Tensor) -> Tensor:
    episodes = zip(support.double(), masks.double(), query.double(), logits.double(), strict=True)
    return torch.stack([plain_panet.alignment(*episode) for episode in episodes]).mean()


@pytest.mark.parametrize(("n_way", "n_shot"), [(1, 1), (1, 5), (2, 3), (3, 2)])
def test_loss_and_gradients_equal_plain_loops(n_way: int, n_shot: int) -> None:
    case = alignment_case(n_way, n_shot)
    support, query = case[0].requires_grad_(), case[2].requires_grad_()
    loss, unaligned = alignment_loss(*case, TEMPERATURE)
    expected = plain(*case)
    assert unaligned.item() == 0
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(loss, (support, query))
    for ours, theirs in zip(found, torch.autograd.grad(expected, (support, query)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_way_predicted_nowhere_is_left_out_and_counted() -> None:
    support, masks, query, logits = alignment_case(n_way=2, n_shot=3)
    logits[0, :, 2] = -100  # the first episode's second way
    loss, unaligned = alignment_loss(support, masks, query, logits, TEMPERATURE)
    assert unaligned.item() == 1
    torch.testing.assert_close(loss.double(), plain(support, masks, query, logits), rtol=1e-5, atol=1e-5)


def test_without_any_predicted_way_the_loss_is_zero_and_its_gradient_finite() -> None:
    support, masks, query, logits = alignment_case(n_way=2, n_shot=1)
    logits[:, :, 1:] = -100
    loss, unaligned = alignment_loss(support, masks, query.requires_grad_(), logits, TEMPERATURE)
    assert loss.item() == 0
    assert unaligned.item() == 4
    loss.backward()
    assert query.grad is not None
    assert not query.grad.any()


def test_without_predicted_background_the_loss_is_finite() -> None:
    support, masks, query, logits = alignment_case(n_way=1, n_shot=2)
    logits[:, :, 0] = -100
    loss, unaligned = alignment_loss(support, masks, query.requires_grad_(), logits, TEMPERATURE)
    assert unaligned.item() == 0
    torch.testing.assert_close(loss.double(), plain(support, masks, query, logits), rtol=1e-5, atol=1e-5)
    loss.backward()
    assert query.grad is not None
    assert bool(query.grad.isfinite().all())


def test_the_loss_is_small_where_query_and_support_agree() -> None:
    """Two orthogonal features, one inside and one outside the lesion, in support and query alike."""
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    maps = torch.stack([mask, 1 - mask])
    support, query = maps.view(1, 1, 1, 2, 8, 8), maps.view(1, 1, 2, 8, 8)
    logits = F.one_hot(mask.long(), 2).permute(2, 0, 1).float().view(1, 1, 2, 8, 8)
    loss, _ = alignment_loss(support, mask.view(1, 1, 1, 8, 8), query, logits, TEMPERATURE)
    # Every pixel has 20 for its own class and 0 for the other.
    assert loss.item() == pytest.approx(0, abs=1e-7)
    swapped, _ = alignment_loss(support, 1 - mask.view(1, 1, 1, 8, 8), query, logits, TEMPERATURE)
    assert swapped.item() == pytest.approx(20, abs=1e-4)
