"""The benchmark: every method on every target by the support-draws protocol, resumable cell by cell."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import torch
from torch import nn

from episodes.draws import SupportDraw, support_draws
from episodes.episode import load_support
from episodes.errors import UserError
from episodes.manifest import write_draws
from episodes.store import Collection, Store
from fewshot.cells import list_cells
from fewshot.checkpoints import load_network
from fewshot.config import BenchmarkConfig, TrainConfig
from fewshot.controls import control_masks, controlled_row, require_emptied_taken
from fewshot.data import open_store
from fewshot.devices import choose_device
from fewshot.evaluation import EncodedTarget, evaluate
from fewshot.methods import EncodingMethod, Ingredients, Method, Sources, build_method, find_method
from fewshot.networks import build_network
from fewshot.parsing import ConfigError
from fewshot.progress import Reporter
from fewshot.results import Cell, read_table, write_rows, write_table
from fewshot.runs import open_run
from fewshot.training import seeded_network, train

# Where methods are tried before anything is trained.
CPU = torch.device("cpu")


def run_benchmark(config: BenchmarkConfig, reporter: Reporter, *, overwrite: bool = False) -> Path:
    """Train what has to be trained, evaluate every cell and write `results.parquet`.

    A run that was interrupted goes on where it stopped: finished trainings and cells are not repeated.

    Args:
        config: the resolved configuration.
        reporter: shows progress.
        overwrite: delete what another configuration left in the run's folder.

    Returns:
        The run's folder.

    Raises:
        UserError: for whatever in the configuration or the data is wrong, before anything is trained where it can
            be known by then; or if the folder holds another configuration's run.
    """
    device = choose_device(config.device)
    _find_methods(config)
    networks = {name: _unseeded_network(config, name) for name in config.models}
    stores = {name: open_store(config, name, reporter) for name in (*config.sources, *config.targets)}
    collection = Collection(stores[name] for name in config.sources)
    sources = Sources(collection, collection.records)
    cells = list_cells(config, _unseeded_methods(config, networks, sources))
    draws = {
        name: support_draws(stores[name].records, n_draws=config.draws, depth=config.draw_depth, seed=config.seed)
        for name in config.targets
    }

    folder = open_run(config, _inputs(config, stores), overwrite=overwrite)
    for name, drawn in draws.items():
        parameters = {"seed": config.seed, "depth": config.draw_depth}
        write_draws(folder / f"draws-{name}.jsonl", drawn, stores[name].records, overwrite=True, **parameters)
    for name, model in config.models.items():
        for seed in config.training_seeds:
            if model.train is not None:
                train(_train_config(config, name, seed), _model_folder(folder, name, seed), reporter, collection)
    targets = {name: EncodedTarget(stores[name], device) for name in config.targets}
    _evaluate_missing(_Run(config, folder, device, sources, targets, draws), cells, reporter)
    tables = [read_table(_rows_path(folder, cell)) for cell in sorted(cells)]
    write_table(folder / "results.parquet", pa.concat_tables(tables))
    return folder


def _find_methods(config: BenchmarkConfig) -> None:
    """What is wrong with the names of methods is known before any image is read."""
    for row, method in config.methods.items():
        with _named(f"methods.{row}"):
            if not find_method(method.method).uses_support and method.control != "none":
                raise ConfigError(f"control: {method.method} uses no support set, so there is nothing to control")


def _unseeded_network(config: BenchmarkConfig, name: str) -> nn.Module:
    """A model as it is before training, so that a wrong option, file or kind is known before anything is trained."""
    model = config.models[name]
    with _named(f"models.{name}"):
        if model.checkpoint is not None:
            return load_network(model.checkpoint)[0]
        return build_network(config.encoder, model).eval()


def _unseeded_methods(
    config: BenchmarkConfig, networks: Mapping[str, nn.Module], sources: Sources
) -> dict[str, Method]:
    """The methods of all rows, to know before anything is trained what is wrong with them and what they need."""
    methods = {}
    any_image = load_support(sources.collection, [[sources.records[0].id]])
    for row, method in config.methods.items():
        with _named(f"methods.{row}"):
            methods[row] = build_method(method, Ingredients(networks.get(method.model or ""), sources, CPU))
            if method.control == "emptied":
                require_emptied_taken(methods[row], any_image)
    return methods


@contextmanager
def _named(key: str) -> Iterator[None]:
    """An error in the block names the configuration's key that it comes from."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{key}: {error}") from error


def _inputs(config: BenchmarkConfig, stores: Mapping[str, Store]) -> dict[str, str]:
    """What the results depend on beside the configuration: the content of datasets, weights and checkpoints."""
    files = {f"models.{name}.checkpoint": model.checkpoint for name, model in config.models.items()}
    if config.encoder.weights not in {"none", "imagenet"} and None in files.values():
        files["encoder.weights"] = Path(config.encoder.weights)
    digests = {key: sha256(path.read_bytes()).hexdigest()[:16] for key, path in files.items() if path is not None}
    return {f"datasets.{name}": store.folder.name for name, store in stores.items()} | digests


def _train_config(config: BenchmarkConfig, name: str, seed: int) -> TrainConfig:
    """The training of one of the benchmark's models, as `fewshot train` would be given it."""
    model = config.models[name]
    assert model.train is not None  # noqa: S101 - asked for by the caller
    return TrainConfig(
        name=f"{name}-seed{seed}" if len(config.training_seeds) > 1 else name,
        data_root=config.data_root,
        datasets=config.datasets,
        image_size=config.image_size,
        cache=config.cache,
        sources=config.sources,
        seed=seed,
        device=config.device,
        encoder=config.encoder,
        model=model.network_only(),
        train=model.train,
    )


def _model_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / "models" / f"{name}-seed{seed}"


def _rows_path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / cell.file_name


@dataclass(frozen=True, slots=True)
class _Run:
    """What cells are evaluated with."""

    config: BenchmarkConfig
    folder: Path
    device: torch.device
    sources: Sources
    targets: Mapping[str, EncodedTarget]
    draws: Mapping[str, Sequence[SupportDraw]]

    def network(self, name: str, seed: int) -> nn.Module:
        """A model of the benchmark, trained, in evaluation mode."""
        model = self.config.models[name]
        if model.checkpoint is not None:
            network = load_network(model.checkpoint)[0]
        elif model.train is not None:
            network = load_network(_model_folder(self.folder, name, seed) / "checkpoint.safetensors")[0]
        else:
            network = seeded_network(self.config.encoder, model, seed).eval()
        return network.to(self.device)

    def evaluate(self, method: Method, cell: Cell) -> None:
        """Evaluate one cell and write its rows."""
        target = self.targets[cell.target]
        control = self.config.methods[cell.method].control
        controls = {
            "control": None if control == "none" else control,
            "control_of": controlled_row(self.config.methods, cell.method),
        }
        support: tuple[str, ...] = ()
        queries, masks = tuple(target.rows), None
        if cell.draw >= 0:
            draw = self.draws[cell.target][cell.draw]
            support, queries = draw.support[: cell.shot], draw.queries
            masks = control_masks(target.collection, draw.support, cell.shot, control)
        rows = []
        for query, scores in zip(queries, evaluate(method, target, support, queries, masks=masks), strict=True):
            record = target.store.records[target.rows[query]]
            facts = {"query": query, "patient": record.patient_id, "label": record.label}
            lesion = bool(target.store.label_maps[target.rows[query]].any())
            rows.append({**asdict(cell), **facts, "lesion": lesion, **controls, **asdict(scores)})
        write_rows(_rows_path(self.folder, cell), rows)


def _evaluate_missing(run: _Run, cells: Sequence[Cell], reporter: Reporter) -> None:
    """Evaluate the cells whose rows are not there yet."""
    network = lru_cache(maxsize=1)(run.network)  # rows of one model follow each other, and share its features
    missing = [cell for cell in cells if not _rows_path(run.folder, cell).is_file()]
    for (name, row, seed), group in groupby(missing, key=lambda cell: (cell.target, cell.method, cell.seed)):
        with reporter.step(f"evaluate: {name}, {row}") as update:
            config = run.config.methods[row]
            model = None if config.model is None else network(config.model, seed)
            method = build_method(config, Ingredients(model, run.sources, run.device, seed))
            if isinstance(method, EncodingMethod):
                run.targets[name].features(method.encode, update)
            of_row = list(group)
            for done, cell in enumerate(of_row, start=1):
                run.evaluate(method, cell)
                update(done, len(of_row))
