"""One small configuration of every network, quick enough to train in a test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from episodes.store import Collection
from fewshot.config import EncoderConfig, ModelConfig, TrainConfig, TrainingConfig
from fewshot.engine import fit
from fewshot.training import seeded_network, training_batches

CPU = torch.device("cpu")
ENCODER = EncoderConfig(name="resnet10t")
MODELS = {
    "panet": ModelConfig(network="panet", levels=(2,), output_stride=8),
    "unet": ModelConfig(network="unet", levels=(0, 1, 2), output_stride=8, options={"decoder_channels": [32, 16]}),
    "maml": ModelConfig(
        network="maml",
        levels=(0, 1, 2),
        output_stride=8,
        options={"decoder_channels": [32, 16], "inner_steps": 1, "inner_rate": 0.05},
    ),
}


def small_network(name: str, seed: int = 0) -> nn.Module:
    return seeded_network(ENCODER, MODELS[name], seed)


def train_config(name: str, **changes: Any) -> TrainConfig:
    """A training of a small network; keywords change `train`."""
    return TrainConfig(
        name=name,
        datasets={"linear": {"phantom": {"scanner": "linear"}}},
        sources=("linear",),
        device="cpu",
        image_size=64,
        encoder=ENCODER,
        model=MODELS[name],
        train=TrainingConfig(**{"steps": 6, "batch_size": 2, "save_every": 2, **changes}),
    )


@dataclass(frozen=True)
class Training:
    """All that `fit` needs, with a fresh network."""

    network: nn.Module
    batches: Dataset[dict[str, Tensor]]
    config: TrainingConfig

    def run(self, state: Path, **options: Any) -> nn.Module:
        """Train to the end; `options` are `fit`'s."""
        given = {"seed": 0, "device": CPU, "facts": {}, **options}
        fit(self.network, self.batches, self.config, state=state, **given)
        return self.network


def training(name: str, sources: Collection, **changes: Any) -> Training:
    config = train_config(name, **changes)
    network = small_network(name)
    return Training(network, training_batches(network, sources, config), config.train)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy that later training does not change."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    differing = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    assert not differing
