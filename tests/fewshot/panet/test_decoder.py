"""The spatial decoder: what it looks at, what must not matter, and how its sizes go together."""

import pytest
import torch
from torch import Tensor

from fewshot.panet.network import SpatialDecoder

CHANNELS, SIZE = (4, 6, 8), (67, 45)
GRIDS = ((34, 23), (17, 12), (9, 6))


def random_case(n_way: int = 2, n_maps: int = 2) -> tuple[list[Tensor], Tensor]:
    """Three levels of two images, and similarity maps on the second level's grid."""
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, c, *grid, generator=generator) for c, grid in zip(CHANNELS, GRIDS, strict=True)]
    return levels, torch.randn(2, n_way, n_maps, *GRIDS[1], generator=generator)


@pytest.fixture
def decoder() -> SpatialDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpatialDecoder(CHANNELS, (16, 8), n_maps=2)


@pytest.mark.parametrize("n_way", [1, 2, 3])
def test_every_way_is_decoded_by_itself_to_the_images_size(decoder: SpatialDecoder, n_way: int) -> None:
    levels, maps = random_case(n_way)
    logits = decoder(levels, maps, SIZE)
    assert logits.shape == (2, n_way, *SIZE)
    for way in range(n_way):
        alone = decoder(levels, maps[:, way : way + 1], SIZE)
        torch.testing.assert_close(alone[:, 0], logits[:, way], rtol=1e-4, atol=1e-5)


def test_permuted_ways_permute_their_logits(decoder: SpatialDecoder) -> None:
    levels, maps = random_case(n_way=3)
    order = [2, 0, 1]
    found = decoder(levels, maps[:, order], SIZE)
    torch.testing.assert_close(found, decoder(levels, maps, SIZE)[:, order], rtol=1e-4, atol=1e-5)


def test_images_do_not_mix(decoder: SpatialDecoder) -> None:
    levels, maps = random_case()
    alone = decoder([level[1:] for level in levels], maps[1:], SIZE)
    torch.testing.assert_close(decoder(levels, maps, SIZE)[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_it_sees_every_level_and_every_similarity_map(decoder: SpatialDecoder, place: int) -> None:
    levels, maps = random_case()
    inputs = [*(level.requires_grad_() for level in levels), maps.requires_grad_()]
    (gradient,) = torch.autograd.grad(decoder(inputs[:3], inputs[3], SIZE).square().sum(), inputs[place])
    axes = (0, 1, 3, 4) if place == 3 else (0, 2, 3)
    assert bool((gradient.abs().sum(axes) > 0).all())


def test_gradients_reach_every_weight(decoder: SpatialDecoder) -> None:
    levels, maps = random_case()
    decoder(levels, maps, SIZE).square().sum().backward()
    assert all(bool(parameter.grad is not None and parameter.grad.any()) for parameter in decoder.parameters())


def test_logits_are_in_full_precision_under_autocast(decoder: SpatialDecoder) -> None:
    levels, maps = random_case()
    exact = decoder(levels, maps, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(levels, maps, SIZE)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("channels", "stages", "message"),
    [
        ((4, 6, 8), (16,), "decoder_channels: 1 stages for 3 encoder levels; expected 2"),
        ((4, 6, 8), (16, 8, 8), "decoder_channels: 3 stages for 3 encoder levels; expected 2"),
        ((8,), (16,), "decoder_channels: 1 stages for 1 encoder levels; expected 0"),
        ((4, 8), (9,), "num_channels (9) must be divisible by num_groups (8)"),
    ],
)
def test_stages_that_do_not_fit_the_levels_are_explained(
    channels: tuple[int, ...], stages: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is compared below
        SpatialDecoder(channels, stages, n_maps=1)
    assert str(caught.value) == message
