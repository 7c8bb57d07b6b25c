"""The benchmark: every method on every target by the support-draws protocol, resumable cell by cell."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import torch
from torch import nn

from episodes.draws import SupportDraw, support_draws
from episodes.manifest import write_draws
from fewshot.checkpoints import load_network
from fewshot.config import BenchmarkConfig, TrainConfig
from fewshot.data import open_collection, open_store
from fewshot.devices import choose_device
from fewshot.evaluation import EncodedTarget, evaluate
from fewshot.methods import EncodingMethod, Ingredients, Method, Sources, build_method, find_method
from fewshot.networks import build_network
from fewshot.progress import Reporter
from fewshot.results import Cell, read_table, write_rows, write_table
from fewshot.runs import open_run
from fewshot.training import seeded_network, train


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
    cells = list(_cells(config))
    _check_models(config)
    folder = open_run(config, overwrite=overwrite)
    sources = open_collection(config, config.sources, reporter)
    targets = {name: EncodedTarget(open_store(config, name, reporter), device) for name in config.targets}
    draws = {name: _draw(config, target, folder / f"draws-{name}.jsonl") for name, target in targets.items()}
    for model in config.models:
        for seed in config.training_seeds:
            if config.models[model].train is not None:
                train(_train_config(config, model, seed), _model_folder(folder, model, seed), reporter, sources)

    for (target, row, seed), group in groupby(cells, key=lambda cell: (cell.target, cell.method, cell.seed)):
        missing = [cell for cell in group if not _rows_path(folder, cell).is_file()]
        if not missing:
            continue
        with reporter.step(f"evaluate: {target}, {row}") as update, torch.inference_mode():
            model_name = config.methods[row].model
            network = None if model_name is None else _network(config, folder, model_name, seed).to(device)
            method = build_method(
                config.methods[row], Ingredients(network, Sources(sources, sources.records), device, seed)
            )
            features_of = f"{model_name}-seed{seed}"
            if isinstance(method, EncodingMethod):
                targets[target].features(method, features_of, update)
            for done, cell in enumerate(missing, start=1):
                _evaluate_cell(method, targets[target], draws[target], cell, folder, features_of)
                update(done, len(missing))
    tables = [read_table(_rows_path(folder, cell)) for cell in sorted(cells)]
    write_table(folder / "results.parquet", pa.concat_tables(tables))
    return folder


def _cells(config: BenchmarkConfig) -> Iterator[Cell]:
    """All cells; rows of one model follow each other, so that its features are computed once."""
    rows = sorted(config.methods, key=lambda row: config.methods[row].model or "")
    for target in config.targets:
        for seed in config.training_seeds:
            for row in rows:
                if config.methods[row].model is None and seed != config.training_seeds[0]:
                    continue  # a floor knows no training seed
                if not find_method(config.methods[row].method).uses_support:
                    yield Cell(target, row, seed, shot=0, draw=-1)
                    continue
                for shot in config.shots:
                    for draw in range(config.draws):
                        yield Cell(target, row, seed, shot, draw)


def _check_models(config: BenchmarkConfig) -> None:
    """Build every network once, so that a wrong option or weights file is known before anything is trained."""
    for model in config.models.values():
        if model.checkpoint is None:
            build_network(config.encoder, model)
        else:
            load_network(model.checkpoint)


def _draw(config: BenchmarkConfig, target: EncodedTarget, path: Path) -> list[SupportDraw]:
    records = target.store.records
    draws = support_draws(records, n_draws=config.draws, depth=config.draw_depth, seed=config.seed)
    write_draws(path, draws, records, overwrite=True, seed=config.seed, depth=config.draw_depth)
    return draws


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


def _network(config: BenchmarkConfig, folder: Path, name: str, seed: int) -> nn.Module:
    model = config.models[name]
    if model.checkpoint is not None:
        return load_network(model.checkpoint)[0]
    if model.train is not None:
        return load_network(_model_folder(folder, name, seed) / "checkpoint.safetensors")[0]
    return seeded_network(config.encoder, model, seed).eval()


def _evaluate_cell(
    method: Method,
    target: EncodedTarget,
    draws: list[SupportDraw],
    cell: Cell,
    folder: Path,
    features_of: str,
) -> None:
    support: tuple[str, ...] = ()
    queries = tuple(target.rows)
    if cell.draw >= 0:
        support, queries = draws[cell.draw].support[: cell.shot], draws[cell.draw].queries
    scores = evaluate(method, target, support, queries, features_of=features_of)
    rows = []
    for query, result in zip(queries, scores, strict=True):
        row = target.rows[query]
        record = target.store.records[row]
        facts = {"query": query, "patient": record.patient_id, "label": record.label}
        lesion = bool(target.store.label_maps[row].any())
        rows.append({**asdict(cell), **facts, "lesion": lesion, **asdict(result)})
    write_rows(_rows_path(folder, cell), rows)


def _rows_path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / cell.file_name
