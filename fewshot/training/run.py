"""The training of one configured model on its sources, from records to a checkpoint."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from torch import nn

from episodes.errors import UserError
from episodes.io.files import write_text
from episodes.io.locks import exclusive_lock
from episodes.io.yaml_json import read_json
from episodes.storage.store import Collection
from fewshot.checkpoints import network_tensors, read_facts, save_checkpoint
from fewshot.config.parsing import ConfigError
from fewshot.config.training import TrainConfig, TrainingConfig
from fewshot.devices import choose_device, is_first_process, joined_processes
from fewshot.inference.out_of_distribution import training_feature_tensors
from fewshot.inference.support import record_hashes
from fewshot.networks import seeded_network
from fewshot.results.history import METRICS, Tracker, read_history, write_history_csv
from fewshot.stores import open_collection, write_data_record
from fewshot.terminal import Reporter, Update
from fewshot.training.batches import divided_batches
from fewshot.training.engine import OnStep, fit
from fewshot.training.learner import discard_learner
from fewshot.training.partition import Partition, divide, require_labels, split_hash
from fewshot.training.precision import Computing, choose_computing

logger = logging.getLogger(__name__)

SECONDS = "seconds.json"
"""The file in a training's folder that says how long it took."""

PLACES = "places.json"
"""The file in a training's folder that says which paths it read."""


class StepListener(Protocol):
    """A listener to the steps of one training."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step, which the local log has already."""

    def keep(self, step: int) -> None:
        """Take the step whose weights are kept."""


class TrainingListener(Protocol):
    """A listener to trainings beside their local log, as in `fewshot.tracking`; `group` is what a training is for."""

    def follow(
        self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any]
    ) -> AbstractContextManager[StepListener]:
        """Follow a training for as long as the block runs."""

    def catch_up(
        self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any], kept_step: int | None
    ) -> None:
        """Take a training that was finished before."""


def train(
    config: TrainConfig,
    folder: Path,
    reporter: Reporter,
    collection: Collection | None = None,
    group: str | None = None,
    listener: TrainingListener | None = None,
) -> Path:
    """Train the configured model, write `folder/checkpoint.safetensors` and return its path.

    A finished training of the same configuration is not repeated; an interrupted one is continued. The folder also gets
    `data.json`, what the data are, `metrics.jsonl`, the losses of every step, them as `history.csv` and `history.png`,
    and `seconds.json`. The checkpoint is written last: where it is, the others are.

    `collection` are the sources' stores, where they are open already; `group` is what the training is for, such as a
    benchmark, or its own name; `listener` follows it beside its local log.

    Raises:
        UserError: if the folder holds the training of another configuration, another process is training there, the
            sources have too few patients, or a loss is not finite.
    """
    # Of the processes that torchrun starts, the first one writes.
    with exclusive_lock(folder) if is_first_process() else nullcontext():
        return _train(config, folder, reporter, collection, group or config.name, listener)


def _train(
    config: TrainConfig,
    folder: Path,
    reporter: Reporter,
    collection: Collection | None,
    group: str,
    listener: TrainingListener | None,
) -> Path:
    facts = training_facts(config)
    _require_same_places(folder, config)
    path, state = folder / "checkpoint.safetensors", folder / "state.safetensors"
    finished, interrupted = (_earlier_facts(file, facts) for file in (path, state))
    if finished:
        discard_learner(state)
        reporter.console.print(f"train: {config.name} is finished: {path}", highlight=False)
        if listener is not None:
            listener.catch_up(folder, config, group, facts, finished.get("kept_step"))
        return path
    network = seeded_network(config.encoder, config.model, config.seed)  # a wrong option is known before data are read
    _require_fitting(network, config)
    sources = collection or open_collection(config, config.sources, reporter)
    partition = divide(sources, config)
    if network.trains_on == "images":
        require_labels(network, partition)
    batches, held_out = divided_batches(network, partition, config)
    images = _image_hashes(partition)
    _require_same_test(state, interrupted, images["test_images"])
    if is_first_process():
        write_data_record(folder, sources.stores, going_on=bool(interrupted))
        write_text(folder / PLACES, json.dumps(_places(config), indent=1) + "\n")
    device = choose_device(config.device)
    with (
        joined_processes(device) as processes,
        reporter.step(f"train: {config.name}") as update,
        Tracker(folder / METRICS) as tracker,
        nullcontext() if listener is None else listener.follow(folder, config, group, facts) as listening,
    ):
        if interrupted.get("precision"):  # it ends in what it began in, also on another machine
            computing = Computing(interrupted["precision"], bool(interrupted.get("channels_last")))
        else:
            computing = choose_computing(config, network, lambda: batches[0], device, processes)
        settings = config.train.in_steps(len(partition.train.records), processes.count)
        began = perf_counter()
        kept_step = fit(
            network,
            batches,
            settings.model_copy(update=computing._asdict()),
            seed=config.seed,
            device=device,
            state=state,
            facts=facts | computing._asdict() | images,
            processes=processes,
            held_out=held_out,
            on_step=_step_log(settings, tracker, listening, update),
        )
        if held_out is not None:
            logger.info("train: %s: the weights of step %d validated best, and are kept", config.name, kept_step)
        if processes.rank == 0:
            tracker.keep()
            _write_seconds(folder, perf_counter() - began, interrupted.get("steps_done", 0))
            _write_history(folder, kept_step)
            tensors = network_tensors(network) | training_feature_tensors(network, partition.train, device)
            outcome = {**computing._asdict(), "kept_step": kept_step, **images}
            save_checkpoint(path, tensors, facts | outcome)
            discard_learner(state)
            if listening is not None:
                listening.keep(kept_step)
    return path


def _image_hashes(partition: Partition) -> dict[str, list[str]]:
    """Hash the images that are trained or validated on, and those kept for the test."""
    hashes = record_hashes(partition.train.stores)
    parts = {"seen_images": (partition.train, partition.validation), "test_images": (partition.test,)}
    return {
        name: sorted({hashes[record.id] for part in of_name if part is not None for record in part.records})
        for name, of_name in parts.items()
    }


def _require_same_test(state: Path, interrupted: Mapping[str, Any], test_images: Sequence[str]) -> None:
    if interrupted.get("test_images", test_images) != test_images:
        raise UserError(
            f"{state}: the interrupted training kept other images for its test, so the sources have changed since; give"
            " another name, or delete its folder"
        )


def _step_log(config: TrainingConfig, tracker: Tracker, listening: StepListener | None, update: Update) -> OnStep:
    """Return what is called after each step: it logs the losses, on disk whenever a state is saved, and shows them."""

    def on_step(done: int, losses: Mapping[str, float]) -> None:
        tracker.log(done, losses)
        if done % config.save_every == 0:
            tracker.keep()
        if listening is not None:
            listening.log(done, losses)
        shown = [f"{name} {losses[name]:.3f}" for name in ("loss", "validation") if name in losses]
        update(done, config.n_steps, ", ".join(shown))

    return on_step


def _write_seconds(folder: Path, seconds: float, steps_before: int) -> None:
    """Write how long a training takes on the whole, of which this process may have done the last steps only."""
    steps = len(read_history(folder / METRICS).steps)
    whole = seconds * steps / max(1, steps - steps_before)
    write_text(folder / SECONDS, json.dumps({"seconds": whole, "steps": steps}) + "\n")


def _write_history(folder: Path, kept_step: int) -> None:
    """Write the losses and scores of every step as a table and a picture."""
    from fewshot.plots.training import history_figure  # takes a second that only a training need wait for

    history = read_history(folder / METRICS)
    write_history_csv(history, folder / "history.csv")
    history_figure(folder / "history.png", history, kept_step=kept_step)


def _require_fitting(network: nn.Module, config: TrainConfig) -> None:
    """Refuse options that a network which trains on episodes has no use for."""
    if network.trains_on == "images":
        return
    unused = [key for key, value in _OF_IMAGES.items() if getattr(config.train, key) != value]
    if unused:
        raise ConfigError(
            f"train.{unused[0]}: is for networks that train on images, and {config.model.network} trains on episodes;"
            " leave it out"
        )


# What an option of `TrainingConfig` is where nobody asks for it.
_OF_IMAGES = {
    key: TrainingConfig.model_fields[key].get_default(call_default_factory=True)
    for key in ("epochs", "balance", "label_augmentation")
}


def training_facts(config: TrainConfig) -> dict[str, Any]:
    """Describe a training for its checkpoint: whatever changes the result, and nothing about the machine.

    A checkpoint is passed on, and paths may name a person or a hospital: those are kept in `places.json` beside it.
    """
    facts = config.model_dump(
        mode="json",
        include={
            *("seed", "test_share", "test_fold", "split_seed", "image_size"),
            *("sources", "datasets", "encoder", "model", "train"),
        },
        exclude={"train": {"workers", "save_every"}},
    )
    facts["split"] = None if config.split is None else split_hash(config.split)
    for dataset in facts["datasets"].values():
        del dataset["root"], dataset["curation"]["curated"], dataset["curation"]["corrections"]
    if _places(config)["encoder.weights"] is not None:
        facts["encoder"]["weights"] = "file"
    return {key: value for key, value in facts.items() if key not in _OPTIONAL_KEYS or value is not None}


def _places(config: TrainConfig) -> dict[str, str | None]:
    """Return the paths that a training reads, by key; None where a key names none."""
    weights = config.encoder.weights
    places: dict[str, Any] = {"encoder.weights": None if weights in ("none", "imagenet") else weights}
    for name, dataset in config.datasets.items():
        places |= {
            f"datasets.{name}.root": dataset.root,
            f"datasets.{name}.curation.curated": dataset.curation.curated,
            f"datasets.{name}.curation.corrections": dataset.curation.corrections,
        }
    return {key: None if place is None else str(place) for key, place in places.items()}


def _require_same_places(folder: Path, config: TrainConfig) -> None:
    """Refuse a folder whose training read other files."""
    path = folder / PLACES
    if path.is_file():
        found, asked = read_json(path), _places(config)
        _require_same(path, found if isinstance(found, dict) else dict.fromkeys(asked, "damaged"), asked)


# Left out where they are not asked for.
_OPTIONAL_KEYS = ("test_fold", "split")


def _earlier_facts(path: Path, expected: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what a file says of its training, which must be the expected one; nothing where there is no file."""
    if not path.is_file():
        return {}
    found = read_facts(path)
    _require_same(path, found, {**expected, **{key: expected.get(key) for key in _OPTIONAL_KEYS}})
    return found


def _require_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if differing := [key for key, value in expected.items() if found.get(key) != value]:
        raise UserError(
            f"{path}: the training there differs in {', '.join(differing)}; give another name, or delete its folder"
        )
