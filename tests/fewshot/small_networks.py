"""Small configurations of every network, quick enough to train in a test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from episodes.storage.store import Collection
from fewshot.config.training import EncoderConfig, ModelConfig, TrainConfig, TrainingConfig
from fewshot.networks import seeded_network
from fewshot.training.batches import training_batches
from fewshot.training.engine import fit

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
    "multitask-unet": ModelConfig(
        network="multitask-unet",
        levels=(0, 1, 2),
        output_stride=8,
        options={
            "decoder_channels": [32, 16],
            "labels": ["benign", "malignant"],
            "hidden": [32],
            "label_dropout": [0.1],
        },
    ),
    "deep-resnet": ModelConfig(
        network="deep-resnet",
        levels=(0, 1, 2),
        output_stride=8,
        options={
            "decoder_channels": [32, 32],
            "context_channels": 32,
            "atrous_rates": [1, 2],
            "auxiliary_weights": [0.3, 0.4],
        },
    ),
    "pyramid-panet": ModelConfig(
        network="pyramid-panet", levels=(0, 1, 2), output_stride=8, options={"channels": 32, "refine_channels": 16}
    ),
}


def plain_encoder(norm: str) -> EncoderConfig:
    return EncoderConfig(name="plain", options={"width": 8, "norm": norm})


# Networks by their own names on the common encoder, and others where the encoder is not the common one.
SMALL = {name: (ENCODER, model) for name, model in MODELS.items()} | {
    "published-unet": (
        plain_encoder("none"),
        ModelConfig(
            network="unet",
            levels=(0, 1, 2),
            options={"decoder_channels": [16, 8], "upsampling": "transposed", "norm": "none"},
        ),
    ),
    "plain-multitask-unet": (
        plain_encoder("batch"),
        ModelConfig(
            network="multitask-unet",
            levels=(0, 1, 2),
            options={"decoder_channels": [32, 16], "hidden": [], "label_dropout": []},
        ),
    ),
    "plain-maml": (plain_encoder("group"), MODELS["maml"].model_copy(update={"output_stride": 32})),
    "pyramid-of-panet": (ENCODER, ModelConfig(network="panet", levels=(1, 2), output_stride=8, pyramid=16)),
    "pyramid-unet": (ENCODER, MODELS["unet"].model_copy(update={"pyramid": 16})),
}


def small_network(name: str, seed: int = 0) -> nn.Module:
    return seeded_network(*SMALL[name], seed)


def train_config(name: str, **changes: Any) -> TrainConfig:
    """A training of a small network; keywords change `train`."""
    encoder, model = SMALL[name]
    return TrainConfig(
        name=name,
        datasets={"linear": {"phantom": {"scanner": "linear"}}},
        sources=("linear",),
        device="cpu",
        image_size=64,
        encoder=encoder,
        model=model,
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
