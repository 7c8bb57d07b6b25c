"""Train one configured model on its sources, from records to a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from baselines.training import ImageBatches
from episodes.errors import UserError
from episodes.store import Collection
from episodes.transforms import Augmentation
from fewshot.checkpoints import load_checkpoint, network_tensors, save_checkpoint
from fewshot.config import EncoderConfig, ModelConfig, TrainConfig
from fewshot.data import open_collection
from fewshot.devices import choose_device, joined_processes
from fewshot.engine import fit
from fewshot.episodic import EpisodeBatches, episode_samplers
from fewshot.networks import build_network
from fewshot.progress import Reporter
from fewshot.tracking import Tracker


def train(config: TrainConfig, folder: Path, reporter: Reporter, collection: Collection | None = None) -> Path:
    """Train the configured model and write `folder/checkpoint.safetensors`.

    A finished training of the same configuration is not repeated; an interrupted one is continued.

    Args:
        config: the resolved configuration.
        folder: the run's folder; also gets `metrics.jsonl`, the losses of every step.
        reporter: shows progress.
        collection: the sources' stores, where they are open already.

    Returns:
        The checkpoint's path.

    Raises:
        UserError: if the folder holds the training of another configuration.
    """
    facts = training_facts(config)
    path, state = folder / "checkpoint.safetensors", folder / "state.safetensors"
    for earlier in (path, state):
        if earlier.is_file():
            _require_same(load_checkpoint(earlier).facts, facts, earlier)
    if path.is_file():
        reporter.console.print(f"train: {config.name} is finished: {path}", highlight=False)
        return path
    sources = collection or open_collection(config, config.sources, reporter)
    network = seeded_network(config.encoder, config.model, config.seed)
    device = choose_device(config.device)
    with (
        joined_processes(device) as processes,
        reporter.step(f"train: {config.name}") as update,
        Tracker(folder / "metrics.jsonl") as tracker,
    ):

        def on_step(done: int, losses: Mapping[str, float]) -> None:
            tracker.log(done, losses)
            update(done, config.train.steps, f"loss {losses['loss']:.3f}")

        fit(
            network,
            training_batches(network, sources, config),
            config.train,
            seed=config.seed,
            device=device,
            state=state,
            facts=facts,
            processes=processes,
            on_step=on_step,
        )
        if processes.rank == 0:
            save_checkpoint(path, network_tensors(network), facts)
            state.unlink(missing_ok=True)
    return path


def seeded_network(encoder: EncoderConfig, model: ModelConfig, seed: int) -> nn.Module:
    """The configured network; its random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(encoder, model)


def training_batches(network: nn.Module, sources: Collection, config: TrainConfig) -> Dataset[dict[str, Tensor]]:
    """The batches that a network's `trains_on` asks for."""
    how = config.train
    changes = (Augmentation(how.augmentation), config.seed, how.scanner)
    if network.trains_on == "images":
        return ImageBatches(sources, sources.records, how.batch_size, *changes)
    return EpisodeBatches(sources, episode_samplers(sources, how.episodes, config.seed), how.batch_size, *changes)


def training_facts(config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint says of its training: whatever changes the result, and nothing about the machine."""
    return config.model_dump(
        mode="json",
        include={"seed", "image_size", "sources", "datasets", "encoder", "model", "train"},
        exclude={"train": {"workers", "save_every"}},
    )


def _require_same(found: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        raise UserError(
            f"{path}: the training there differs in {', '.join(differing)}; give another name, or delete its folder"
        )
