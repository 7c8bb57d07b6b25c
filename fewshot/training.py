"""Train one configured model on its sources, from records to a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from baselines.training import ImageBatches
from episodes.errors import SamplingError, UserError
from episodes.store import Collection
from episodes.transforms import Augmentation
from fewshot.checkpoints import load_checkpoint, network_tensors, save_checkpoint
from fewshot.config import EncoderConfig, ModelConfig, TrainConfig
from fewshot.data import open_collection
from fewshot.devices import choose_device, joined_processes
from fewshot.engine import fit
from fewshot.episodic import EpisodeBatches, episode_samplers
from fewshot.networks import build_network
from fewshot.precision import resolved_precision
from fewshot.progress import Reporter
from fewshot.tracking import Tracker
from fewshot.validation import HeldOut, hold_out

logger = logging.getLogger(__name__)


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
        UserError: if the folder holds the training of another configuration, the sources have too few patients, or
            a loss is not finite.
    """
    facts = training_facts(config)
    path, state = folder / "checkpoint.safetensors", folder / "state.safetensors"
    finished, interrupted = (_earlier_facts(file, facts) for file in (path, state))
    if finished:
        reporter.console.print(f"train: {config.name} is finished: {path}", highlight=False)
        return path
    network = seeded_network(config.encoder, config.model, config.seed)  # a wrong option is known before data are read
    sources = collection or open_collection(config, config.sources, reporter)
    batches, held_out = divided_batches(network, sources, config)
    device = choose_device(config.device)
    # An interrupted training ends in the precision that it began in, also on another machine.
    precision = interrupted.get("precision") or resolved_precision(config.train.precision, device)
    if config.train.precision == "auto":
        logger.info("train: %s: precision auto is %s on %s", config.name, precision, device)
    with (
        joined_processes(device) as processes,
        reporter.step(f"train: {config.name}") as update,
        Tracker(folder / "metrics.jsonl") as tracker,
    ):

        def on_step(done: int, losses: Mapping[str, float]) -> None:
            tracker.log(done, losses)
            shown = [f"{name} {losses[name]:.3f}" for name in ("loss", "validation") if name in losses]
            update(done, config.train.steps, ", ".join(shown))

        kept_step = fit(
            network,
            batches,
            config.train.model_copy(update={"precision": precision}),
            seed=config.seed,
            device=device,
            state=state,
            facts=facts | {"precision": precision},
            processes=processes,
            held_out=held_out,
            on_step=on_step,
        )
        if held_out is not None:
            logger.info("train: %s: the weights of step %d validated best, and are kept", config.name, kept_step)
        if processes.rank == 0:
            how = {"precision": precision, "kept_step": kept_step}
            save_checkpoint(path, network_tensors(network), facts | how)
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


def divided_batches(
    network: nn.Module, sources: Collection, config: TrainConfig
) -> tuple[Dataset[dict[str, Tensor]], HeldOut | None]:
    """The training batches, and what to validate on, where that is asked for: of other patients, not augmented.

    Raises:
        SamplingError: if the patients do not suffice for both.
    """
    validation = config.train.validation
    if validation is None:
        return training_batches(network, sources, config), None
    plain = config.train.model_copy(update={"augmentation": "none", "scanner": "recorded"})
    try:
        kept, held = hold_out(sources, validation.share, config.seed)
        batches = training_batches(network, kept, config)
        unseen = training_batches(network, held, config.model_copy(update={"train": plain}))
    except SamplingError as error:
        raise SamplingError(
            f"train.validation: with a share of {validation.share:g} held out, {error};"
            " change the share, or set validation to null"
        ) from error
    count = len(held.records) if network.trains_on == "images" else validation.episodes
    return batches, HeldOut(unseen, count, config.train.batch_size)


def training_facts(config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint says of its training: whatever changes the result, and nothing about the machine."""
    return config.model_dump(
        mode="json",
        include={"seed", "image_size", "sources", "datasets", "encoder", "model", "train"},
        exclude={"train": {"workers", "save_every"}},
    )


def _earlier_facts(path: Path, expected: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file says of its training, which must be the expected one; nothing where there is no file."""
    if not path.is_file():
        return {}
    found = load_checkpoint(path).facts
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        raise UserError(
            f"{path}: the training there differs in {', '.join(differing)}; give another name, or delete its folder"
        )
    return found
