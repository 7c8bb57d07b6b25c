"""The benchmark: every method on every target by one protocol, resumable cell by cell."""

import json
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml
from rich.console import Console
from torch import nn

from episodes.errors import UserError
from episodes.io.files import file_hash, remove_folder, write_text
from episodes.io.locks import exclusive_lock
from episodes.io.yaml_json import read_json, read_yaml
from episodes.parallel import n_processors
from episodes.sampling.episode import load_support
from episodes.scoring.mask_scores import MIN_AREA, TOLERANCE
from episodes.storage.store import Collection, Store
from fewshot.benchmark.evaluation import CellEvaluation, gather_costs, rows_path
from fewshot.benchmark.gallery import draw_gallery
from fewshot.benchmark.plan import Training, group_cells, list_cells, list_trainings
from fewshot.benchmark.tasks import protocol_of, require_emptied_taken, require_encoder
from fewshot.benchmark.workers import Executor, open_executor
from fewshot.checkpoints import load_network
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import ConfigError
from fewshot.devices import choose_device, device_name, machine_memory
from fewshot.features import GIB
from fewshot.methods.contract import Ingredients, Method, Sources, build_method, find_method
from fewshot.networks import build_network
from fewshot.results.rows import TOLERANCE_MM, Cell, read_table, write_table
from fewshot.results.run_files import CONFIG, ENVIRONMENT, RESULTS
from fewshot.stores import open_store, write_data_record
from fewshot.terminal import Reporter
from fewshot.training.run import TrainingListener, train

logger = logging.getLogger(__name__)

INPUTS = "inputs.json"
PACKAGES = ("fewshot-bus", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "albumentations")

# What may differ between two calls of the same run: where things lie, compute and report to, never what is computed.
PLACES = {"data_root", "cache", "device", "processes", "feature_memory_gib", "runs", "tracking"}


def open_run(config: BenchmarkConfig, inputs: Mapping[str, str], *, overwrite: bool) -> Path:
    """Make the run's folder, or find the same run there and continue it.

    `inputs` is what else the results depend on, as a hash by key: `datasets.busi` and the like. `overwrite` deletes
    what another configuration or other data left there.

    Raises:
        UserError: if the folder holds the run of another configuration or of other data, or files that are no run's.
    """
    folder = config.runs / config.name
    resolved = config.model_dump(mode="json", exclude_unset=False)
    path = folder / CONFIG
    if folder.is_dir() and any(folder.iterdir()):
        if not path.is_file():
            raise UserError(f"{folder}: holds files that are no run's; choose another name or runs folder")
        differing = _differences(folder, resolved, inputs)
        if differing and not overwrite:
            raise UserError(
                f"{folder}: the run there differs in {', '.join(differing)}; choose another name, or add --overwrite"
            )
        if differing:
            remove_folder(folder)
    write_text(path, yaml.safe_dump(resolved, sort_keys=False))
    write_text(folder / INPUTS, json.dumps(inputs, indent=1) + "\n")
    write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=1) + "\n")
    return folder


def environment() -> dict[str, Any]:
    """Describe what a result may depend on beside its configuration: versions, processor and commit."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _differences(folder: Path, resolved: Mapping[str, Any], inputs: Mapping[str, str]) -> list[str]:
    """Name what a run's folder was made of otherwise; a damaged file is like no other."""
    config, hashes = _read(folder / CONFIG, read_yaml), _read(folder / INPUTS, read_json)
    if config is None:
        return ["everything"]
    differing = [key for key in resolved if key not in PLACES and config.get(key) != resolved[key]]
    if hashes is None:
        return [*differing, "its inputs"]
    return differing + [f"the content of {key}" for key in inputs if hashes.get(key, inputs[key]) != inputs[key]]


def _read(path: Path, parse: Callable[[Path], object]) -> dict[str, Any] | None:
    """Read a file of keys and values; empty where there is none, None where it is damaged."""
    try:
        found = parse(path) if path.is_file() else {}
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the code that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


PROCESS_MEMORY = 3 * GIB // 2
"""What one process of a benchmark needs beside features: libraries, a network in training, a batch."""

# Where methods are tried before anything is trained.
CPU = torch.device("cpu")


def run_benchmark(
    config: BenchmarkConfig, reporter: Reporter, *, overwrite: bool = False, listener: TrainingListener | None = None
) -> Path:
    """Train what has to be trained, evaluate every cell and write `results.parquet`, `costs.json` and `gallery/`.

    A run that was interrupted goes on where it stopped: finished trainings and cells are not repeated. `overwrite`
    deletes what another configuration left in the run's folder, which is returned; `listener` follows the trainings.

    Raises:
        UserError: for whatever in the configuration or the data is wrong, before anything is trained where it can be
            known by then; or if the folder holds another configuration's run, or another process is at work there.
    """
    device = choose_device(config.device)
    _check_methods(config)
    networks = {name: _unseeded_network(config, name) for name in config.models}
    with exclusive_lock(config.runs / config.name):  # known before data are prepared, which may take long
        supports = () if config.support_from is None else (config.support_from,)
        names = dict.fromkeys((*config.sources, *config.targets, *supports))
        stores = {name: open_store(config, name, reporter) for name in names}
        from_other = stores[config.support_from].records if config.support_from else ()
        protocols = {name: protocol_of(config, name, stores[name].records, from_other) for name in config.targets}
        methods = _unseeded_methods(config, networks, stores)
        cells = list_cells(config, methods, protocols)
        folder = open_run(config, _inputs(config, stores), overwrite=overwrite)
        write_data_record(folder, stores.values())
        for protocol in protocols.values():
            protocol.write(folder)
        make = partial(CellEvaluation, config, folder, device, stores, protocols)
        trainings, groups = list_trainings(config), group_cells(config, methods, cells)
        processes = min(count_processes(config, device), max(len(trainings), len(groups)))
        with open_executor(make, processes, reporter, folder) as executor:
            _train_all(executor, trainings, listener)
            _evaluate_all(executor, groups)
            table = _gather(config, folder, cells)
            gather_costs(folder, config, cells, device_name(device, executor.threads(len(groups))))
            draw_gallery(executor, table)
    return folder


def count_processes(config: BenchmarkConfig, device: torch.device) -> int:
    """Return how many processes may compute trainings and cells: one on a GPU, and where torchrun started several."""
    if device.type != "cpu" or "WORLD_SIZE" in os.environ:
        if config.processes not in ("auto", 1):
            logger.info("processes: on %s and under torchrun there is one, not %s", device.type, config.processes)
        return 1
    if config.processes != "auto":
        return config.processes
    memory = PROCESS_MEMORY + int(config.feature_memory_gib * GIB)
    return max(1, min(n_processors(), machine_memory() // memory))


def _train_all(
    executor: Executor[CellEvaluation], trainings: Sequence[Training], listener: TrainingListener | None
) -> None:
    """Train what is not trained yet; a listener of this process takes other processes' trainings when they end."""
    evaluation, reporter = executor.state, executor.reporter
    finished = [training for training in trainings if training.checkpoint(evaluation.folder).is_file()]
    for training in finished:  # which says so, or what is wrong with it
        _train(evaluation, training, reporter, listener)
    live = listener if executor.processes == 1 else None
    unfinished = [training for training in trainings if training not in finished]
    if not unfinished:
        return
    results = executor.run(partial(_train, listener=live), unfinished, executor.threads(len(trainings)))
    with reporter.step("train") as update:
        for done, (training, _) in enumerate(results, start=1):
            update(done, len(unfinished), training.name)
            if listener is not live:
                _train(evaluation, training, Reporter(Console(quiet=True)), listener)


def _train(
    evaluation: CellEvaluation, training: Training, reporter: Reporter, listener: TrainingListener | None
) -> list[Path]:
    """Train one model, and return its path."""
    config, folder = evaluation.config, training.folder(evaluation.folder)
    settings = training.config(config)
    sources = Collection(evaluation.stores[name] for name in settings.sources)
    return [train(settings, folder, reporter, sources, group=config.name, listener=listener)]


def _evaluate_all(executor: Executor[CellEvaluation], groups: Sequence[Sequence[Cell]]) -> None:
    """Evaluate the cells whose rows are not there yet."""
    folder = executor.state.folder
    missing = [[cell for cell in group if not rows_path(folder, cell).is_file()] for group in groups]
    tasks = [group for group in missing if group]
    if not tasks:
        return
    results = executor.run(CellEvaluation.evaluate, tasks, executor.threads(len(groups)))
    with executor.reporter.step("evaluate") as update:
        for done, (_, (cell, seconds)) in enumerate(results, start=1):
            update(done, sum(map(len, tasks)), f"{cell.method}, {1000 * seconds:.0f} ms an image")


def _gather(config: BenchmarkConfig, folder: Path, cells: Sequence[Cell]) -> pa.Table:
    """Gather all cells' rows into one table, and write it."""
    table = pa.concat_tables([read_table(rows_path(folder, cell)) for cell in sorted(cells)])
    classic = config.protocol == "classic"
    facts = {
        "benchmark": config.name,
        "protocol": config.protocol,
        "image_size": config.image_size,
        "sources": list(config.sources),
        "targets": list(config.targets),
        "support_from": config.support_from,
        "shots": list(config.shots),
        "draws": config.classic.runs if classic else config.draws,
        "training_seeds": list(config.training_seeds),
        "nsd_tolerance_pixels": TOLERANCE,
        "nsd_tolerance_mm": TOLERANCE_MM,
        "false_positive_min_area": MIN_AREA,
    }
    write_table(folder / RESULTS, table, facts)
    return table


def _check_methods(config: BenchmarkConfig) -> None:
    """Check the methods' names and what goes with them, before any image is read."""
    for row, method in config.methods.items():
        with _named(f"methods.{row}"):
            if find_method(method.method).uses_support:
                continue
            if method.control != "none":
                raise ConfigError(f"control: {method.method} uses no support set, so there is nothing to control")
            if method.support == "selected":
                raise ConfigError(f"support: {method.method} uses no support set, so there is nothing to select")


def _unseeded_network(config: BenchmarkConfig, name: str) -> nn.Module:
    """Build a model as it is before training: a wrong option, file or kind is known before anything is trained."""
    model = config.models[name]
    with _named(f"models.{name}"):
        if model.checkpoint is not None:
            return load_network(model.checkpoint, model.own_modules)[0]
        return build_network(config.encoder, model).eval()


def _unseeded_methods(
    config: BenchmarkConfig, networks: Mapping[str, nn.Module], stores: Mapping[str, Store]
) -> dict[str, Method]:
    """Build the methods of all rows, to know before anything is trained what is wrong and what they need."""
    methods = {}
    target = Collection([stores[config.targets[0]]])
    any_image = load_support(target, [[target.records[0].id]])
    for row, method in config.methods.items():
        of_target = method.model is not None and config.models[method.model].trained_on == "target"
        names = config.targets[:1] if of_target else config.sources_of(config.targets[0])
        collection = Collection(stores[name] for name in names)
        ingredients = Ingredients(networks.get(method.model or ""), Sources(collection, collection.records), CPU)
        with _named(f"methods.{row}"):
            methods[row] = build_method(method.method, method.options, ingredients)
            if method.control == "emptied":
                require_emptied_taken(methods[row], any_image)
            if method.support == "selected":
                require_encoder(networks[method.model or ""])
    return methods


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Name the configuration's key in errors that come from the block."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{key}: {error}") from error


def _inputs(config: BenchmarkConfig, stores: Mapping[str, Store]) -> dict[str, str]:
    """Hash what the results depend on beside the configuration: datasets, weights and checkpoints."""
    files = {f"models.{name}.checkpoint": model.checkpoint for name, model in config.models.items()}
    if config.encoder.weights not in {"none", "imagenet"} and None in files.values():
        files["encoder.weights"] = Path(config.encoder.weights)
    digests = {key: file_hash(path)[:16] for key, path in files.items() if path is not None}
    return {f"datasets.{name}": store.folder.name for name, store in stores.items()} | digests
