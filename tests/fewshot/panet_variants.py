"""Every kind of PANet by its options, and episodes with lesions that are blobs, to hold them all to one contract."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes.sampling.episode import Support
from fewshot.config.training import ModelConfig
from fewshot.networks import seeded_network
from fewshot.panet.blocks import STRIDE, LearnedScalars
from fewshot.panet.network import PANet
from tests.fewshot.small_networks import ENCODER

DECODER = {"decoder_channels": [16, 8]}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "learned temperature": {"learned_temperature": True},
    "attention": {"attention": True},
    "prior": {"prior": True},
    "prior, support dropout": {"prior": True, "support_dropout": 0.5},
    "grid": {"grid": 4},
    "self-support": {"self_support": True},
    "two levels": {"matched_levels": 2},
    "ridge": {"matcher": "ridge"},
    "ridge, prior": {"matcher": "ridge", "prior": True},
    "decoder": DECODER,
    "decoder, cross-entropy-dice": {**DECODER, "loss": "cross-entropy-dice"},
    "decoder, focal-dice": {**DECODER, "loss": "focal-dice"},
    "ridge, prior, two levels, decoder": {"matcher": "ridge", "prior": True, "matched_levels": 2, **DECODER},
    "full": {
        "learned_temperature": True,
        "matched_levels": 2,
        "attention": True,
        "prior": True,
        "support_dropout": 0.5,
        "grid": 4,
        "self_support": True,
        "loss": "cross-entropy-dice",
        **DECODER,
    },
}
NOISE_SIZE = (40, 36)
WITH_PRIOR = [name for name, options in VARIANTS.items() if options.get("prior")]


def variant_config(name: str) -> ModelConfig:
    """All variants see the same three levels: a decoder needs them, and the others match the deepest."""
    return ModelConfig(network="panet", levels=(0, 1, 2), output_stride=8, options=VARIANTS[name])


def variant_network(name: str) -> PANet:
    """A new one in evaluation mode, as after some training: no weight is at a start where it would do nothing."""
    return deepcopy(_built(name))


@cache
def _built(name: str) -> PANet:
    network = seeded_network(ENCODER, variant_config(name), seed=0)
    assert isinstance(network, PANet)
    generator = torch.Generator().manual_seed(0)
    scalars = {id(module.scaled) for module in network.modules() if isinstance(module, LearnedScalars)}
    with torch.no_grad():
        for parameter in network.matching.parameters():
            spread = 0.2 / STRIDE if id(parameter) in scalars else 0.2
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts residual branches at zero, which stops gradients
                module.weight.fill_(1)
    return network.eval()


def blob_episodes(
    n_way: int, n_shot: int, size: tuple[int, int] = (32, 32), n_query: int = 2, n_episodes: int = 2, seed: int = 0
) -> dict[str, Tensor]:
    """Episodes as `PANet.loss` takes them: smooth pictures, and lesions that fill some cells of a grid."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(*shape: int) -> Tensor:
        coarse = torch.rand(*shape, 6, 6, generator=generator)
        maps = F.interpolate(coarse.reshape(-1, 1, 6, 6), size=size, mode="bicubic", align_corners=False)
        return maps.clamp(0, 1).view(*shape, *size)

    def coarse_lesions(*shape: int) -> Tensor:
        cells = (torch.rand(*shape, 4, 4, generator=generator) < 0.4).float()
        cells[..., :2, :2], cells[..., 2:, 2:] = 0, 1  # the corners' cells lie well inside a region
        return F.interpolate(cells.reshape(-1, 1, 4, 4), size=size).view(*shape, *size)

    classes = torch.randint(1, 1 + n_way, (n_episodes, n_query, 1, 1), generator=generator)
    return {
        "support_images": smooth(n_episodes, n_way, n_shot, 3),
        "support_masks": coarse_lesions(n_episodes, n_way, n_shot),
        "query_images": smooth(n_episodes, n_query, 3),
        "query_masks": coarse_lesions(n_episodes, n_query).long() * classes,
    }


def supports(batch: dict[str, Tensor]) -> list[Support]:
    """The support sets of a batch of episodes."""
    return [Support(*pair) for pair in zip(batch["support_images"], batch["support_masks"], strict=True)]


class RandomEncoder(nn.Module):
    """Features of stride 4 by one random convolution: no statistics tie the images of a batch together."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        weight = torch.randn(channels, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight)
        self.channels = (channels,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.conv2d(images - 0.5, self.weight, stride=4)]


def random_batch(n_way: int, n_shot: int, n_query: int = 2, n_episodes: int = 3) -> dict[str, Tensor]:
    """Episodes of noise as `PANet.loss` takes them, of images of `NOISE_SIZE`."""
    generator = torch.Generator().manual_seed(10 * n_way + n_shot)
    return {
        "support_images": torch.rand(n_episodes, n_way, n_shot, 3, *NOISE_SIZE, generator=generator),
        "support_masks": (torch.rand(n_episodes, n_way, n_shot, *NOISE_SIZE, generator=generator) < 0.3).float(),
        "query_images": torch.rand(n_episodes, n_query, 3, *NOISE_SIZE, generator=generator),
        "query_masks": torch.randint(0, 1 + n_way, (n_episodes, n_query, *NOISE_SIZE), generator=generator),
    }
