"""A training step in what `precision: auto` and `channels_last: auto` choose, against the best of their choices.

U-Net on ResNet-18, batches of 8 images of 160x160. Every choice takes its whole step, in turn.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from fewshot.config.parsing import parse_config
from fewshot.config.training import TrainConfig
from fewshot.devices import order_channels_last
from fewshot.networks import build_network
from fewshot.training.precision import Computing, autocast, choices, choose_computing
from tests.benchmarks.measurements import Measurement, at_most, figure, interleaved, measured, ratios

SIZE, BATCH, REPEATS = 160, 8, 3
CPU = torch.device("cpu")
TREE = {
    "name": "precision",
    "image_size": SIZE,
    "encoder": {"name": "resnet18"},
    "model": {"network": "unet", "levels": [0, 1, 2, 3]},
    "sources": ["phantom"],
    "datasets": {"phantom": {"phantom": {"scanner": "linear", "n_images": 8}}},
    "train": {"steps": 1, "batch_size": BATCH, "precision": "auto", "channels_last": "auto"},
}


def measure() -> list[Measurement]:
    """How many times as long a step takes as in the best choice, and what the choice itself takes."""
    labels = torch.zeros(BATCH, dtype=torch.long)
    masks = labels.new_zeros(BATCH, SIZE, SIZE)
    masks[:, 40:90, 50:120] = 1
    batch = {"images": torch.rand(BATCH, 3, SIZE, SIZE), "label_maps": masks, "labels": labels}
    with TemporaryDirectory() as folder:
        config = parse_config({**TREE, "cache": folder, "runs": folder}, TrainConfig, "precision")
        network = build_network(config.encoder, config.model).train()
        chosen: list[Computing] = []
        (choosing,) = interleaved(
            lambda: chosen.append(choose_computing(config, network, lambda: batch, CPU)), repeats=1, warm=False
        )
        if len(list(Path(folder).rglob("*.json"))) != (len(choices(config.train, CPU)) > 1):
            raise AssertionError("the choice was not remembered, or made where there is none")
    options = choices(config.train, CPU)
    times = interleaved(*(partial(step, network, batch, option) for option in options), repeats=REPEATS)
    seconds = dict(zip(options, times, strict=True))
    best = min(options, key=lambda option: sorted(seconds[option])[REPEATS // 2])
    note = ", ".join(f"{option} {figure(1e3 * sorted(seconds[option])[REPEATS // 2])} ms" for option in options)
    return [
        measured(
            "precision.auto",
            f"a training step in what auto chooses, times the best choice's (U-Net on ResNet-18, {BATCH} x {SIZE} px)",
            ratios(seconds[chosen[0]], seconds[best]),
            "x",
            wanted=at_most(1.05),
            note=f"chose {chosen[0]}; {note}",
        ),
        measured("precision.choosing", "... choosing, once for a machine, network and size", choosing, "s"),
    ]


def step(network: torch.nn.Module, batch: dict[str, Tensor], option: Computing) -> None:
    order_channels_last(network, option.channels_last)
    network.zero_grad(set_to_none=True)
    with autocast(option.precision, CPU):
        loss = network.loss(**batch)["loss"]  # type: ignore[operator]
    loss.backward()
