"""The evaluation of cells, one by one, and the cost of each."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from episodes.io.files import write_text
from episodes.storage.store import Collection, Store
from fewshot.benchmark.plan import training_for
from fewshot.benchmark.tasks import (
    DEFAULT_BY,
    Classic,
    TargetProtocol,
    controlled_row,
    selected_path,
    selected_protocol,
)
from fewshot.checkpoints import load_network, read_facts
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.devices import placed
from fewshot.features import GIB
from fewshot.inference.support import record_hashes
from fewshot.inference.target import EncodedTarget, Seconds, Task, evaluate
from fewshot.methods.contract import EncodingMethod, Ingredients, Method, Sources, build_method
from fewshot.networks import seeded_network
from fewshot.results.rows import CALIBRATION, Cell, Judgement, write_rows
from fewshot.results.run_files import Cost, write_costs
from fewshot.terminal import Reporter
from fewshot.training.partition import SplitPart
from fewshot.training.run import SECONDS

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5), /proc/pid/clear_refs


def start_peak(device: torch.device) -> None:
    """Forget earlier peaks, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:  # a sandbox may forbid it: the peak is then that of the whole process so far
            return


def peak_bytes(device: torch.device) -> int | None:
    """Return the most memory held since `start_peak`: an accelerator's own, else the process's resident memory.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def rows_path(folder: Path, cell: Cell) -> Path:
    """Return where a cell's rows are kept until all cells are there."""
    return folder / "cells" / cell.file_name


def cost_path(folder: Path, cell: Cell) -> Path:
    """Return where a cell's cost is kept: seconds, bytes and number of weights, as JSON."""
    return rows_path(folder, cell).with_suffix(".json")


class CellEvaluation:
    """The evaluation of one run's cells; the folder holds its models, and protocols are by target."""

    def __init__(
        self,
        config: BenchmarkConfig,
        folder: Path,
        device: torch.device,
        stores: Mapping[str, Store],
        protocols: Mapping[str, TargetProtocol],
    ) -> None:
        self.config, self.folder, self.device, self.stores, self.protocols = config, folder, device, stores, protocols
        support = None if config.support_from is None else stores[config.support_from]
        memory = int(config.feature_memory_gib * GIB)
        self.targets = {
            name: EncodedTarget(stores[name], device, support=support, memory=memory) for name in config.targets
        }
        # Rows of one model follow each other, and share its features.
        self._network = lru_cache(maxsize=1)(self._load_network)
        self._folds = cache(self._read_folds)

    def evaluate(self, cells: Sequence[Cell], reporter: Reporter) -> Iterator[tuple[Cell, float]]:
        """Evaluate cells that share their features; yield each with the seconds that an image took."""
        for name, target in self.targets.items():
            if name != cells[0].target:  # whose cells are done, or yet to come
                target.forget_features()
        for _, of_row in groupby(cells, key=attrgetter("method")):
            row = list(of_row)
            start_peak(self.device)
            method = self.method(row[0])
            if row[0] == cells[0] and isinstance(method, EncodingMethod):
                model = self.config.methods[row[0].method].model
                with reporter.step(f"encode: {row[0].target}, {model}") as update:
                    self.targets[row[0].target].features(method.encode, update)
            for cell in row:
                yield cell, self._evaluate(method, cell)

    def method(self, cell: Cell) -> Method:
        """Build the method of a cell's row, with the network that is meant for its queries."""
        ingredients = Ingredients(self.network(cell), self.sources(cell), self.device, cell.seed)
        settings = self.config.methods[cell.method]
        return build_method(settings.method, settings.options, ingredients)

    def network(self, cell: Cell) -> nn.Module | None:
        """Load the network of a cell's row that is meant for its queries; None for a floor."""
        model = self.config.methods[cell.method].model
        return None if model is None else self._network(model, cell.seed, cell.target, cell.fold)

    def sources(self, cell: Cell) -> Sources:
        """Open what the cell's method may know: the sources, or the target but for the fold of its queries."""
        if cell.fold < 0:
            collection = Collection(self.stores[name] for name in self.config.sources_of(cell.target))
            return Sources(collection, collection.records)
        own = Collection([self.stores[cell.target]])
        others = SplitPart(
            own, (record for record in own.records if self._fold_of(cell, record.patient_id) != cell.fold)
        )
        return Sources(others, others.records)

    def in_fold(self, cell: Cell, query: str) -> Cell:
        """Return the same cell in the fold that a query is in, if its model is trained on the target."""
        model = self.config.methods[cell.method].model
        if model is None or self.config.models[model].trained_on == "sources":
            return cell
        target = self.targets[cell.target]
        return replace(cell, fold=self._fold_of(cell, target.store.records[target.rows[query]].patient_id))

    def tasks(self, cell: Cell) -> Iterator[tuple[int, Task]]:
        """Yield the cell's tasks with the numbers of their episodes; of a fold, those queries that are in it."""
        target, control = self.targets[cell.target], self.config.methods[cell.method].control
        for episode, task in self._protocol(cell).tasks(cell, target, control):
            queries = tuple(query for query in task.queries if self.in_fold(cell, query) == cell)
            if queries:
                yield episode, replace(task, queries=queries)

    def _protocol(self, cell: Cell) -> TargetProtocol:
        """Return the target's protocol; a row that selects its support images has them in the order of its choice."""
        protocol, method = self.protocols[cell.target], self.config.methods[cell.method]
        if method.support == "drawn" or cell.draw < 0 or isinstance(protocol, Classic):
            return protocol
        network = self.network(cell)
        assert network is not None  # noqa: S101 - the configuration asks such a row for a model
        path, collection = selected_path(self.folder, cell), self.targets[cell.target].collection
        return selected_protocol(protocol, path, network, collection, method.select_by or DEFAULT_BY, self.device)

    def _evaluate(self, method: Method, cell: Cell) -> float:
        """Evaluate one cell, write its cost and its rows, and return the seconds that an image took."""
        network, seconds, tasks = self.network(cell), Seconds(), list(self.tasks(cell))
        rows = list(self._rows(method, cell, tasks, seconds))
        encoding = self.targets[cell.target].encode_seconds if isinstance(method, EncodingMethod) else 0.0
        image_seconds = seconds.segment / max(1, len(rows)) + encoding
        cost = {
            "adapt_seconds": seconds.adapt / max(1, len(tasks)),
            "image_seconds": image_seconds,
            "n_queries": len(rows),
            "peak_bytes": peak_bytes(self.device),
            "parameters": None if network is None else sum(weights.numel() for weights in network.parameters()),
        }
        write_text(cost_path(self.folder, cell), json.dumps(cost) + "\n")
        write_rows(rows_path(self.folder, cell), rows)
        return image_seconds

    def _rows(
        self, method: Method, cell: Cell, tasks: Sequence[tuple[int, Task]], seconds: Seconds
    ) -> Iterator[dict[str, Any]]:
        """Yield the row of each query of a cell's tasks."""
        target, facts = self.targets[cell.target], self._facts(cell)
        # A floor's logits are no probabilities.
        no_probabilities = dict.fromkeys(CALIBRATION) if self.network(cell) is None else {}
        for episode, task, judgements in _judged(method, target, tasks, seconds):
            for query, judgement in zip(task.queries, judgements, strict=True):
                record = target.store.records[target.rows[query]]
                asked = {"episode": episode, "class": task.asked, "lesion": judgement.lesion_pixels > 0}
                image = {"query": query, "patient": record.patient_id, "label": record.label}
                yield facts | asked | image | dict(judgement.columns()) | no_probabilities

    def _facts(self, cell: Cell) -> dict[str, Any]:
        """Return what the rows of all queries of a cell have in common."""
        settings = self.config.methods[cell.method]
        model = None if settings.model is None else self.config.models[settings.model]
        facts = {
            "kind": settings.method,
            "model": settings.model,
            "trained_on": None if model is None or (model.train or model.checkpoint) is None else model.trained_on,
            "control": None if settings.control == "none" else settings.control,
            "control_of": controlled_row(self.config.methods, cell.method),
        }
        return {name: value for name, value in asdict(cell).items() if name != "fold"} | facts

    def _load_network(self, model: str, seed: int, target: str, fold: int) -> nn.Module:
        """Load a model of the benchmark, trained, in evaluation mode."""
        settings, training = self.config.models[model], training_for(self.config, model, seed, target, fold)
        if settings.checkpoint is not None:
            network = load_network(settings.checkpoint, settings.own_modules)[0]
        elif training is not None:
            network = load_network(training.checkpoint(self.folder), settings.own_modules)[0]
        else:
            network = seeded_network(self.config.encoder, settings, seed).eval()
        return placed(network, self.device)

    def _fold_of(self, cell: Cell, patient: str) -> int:
        """Find the fold whose model has not seen a patient; any would do for one whose images no training took."""
        model = self.config.methods[cell.method].model or ""
        return self._folds(model, cell.seed, cell.target).get(patient, 0)

    def _read_folds(self, model: str, seed: int, target: str) -> dict[str, int]:
        """Read the fold of every patient from the trainings that kept it for their test."""
        store = self.stores[target]
        patients, hashes = {record.id: record.patient_id for record in store.records}, record_hashes([store])
        folds: dict[str, int] = {}
        for fold in self.config.models[model].fold_numbers:
            training = training_for(self.config, model, seed, target, fold)
            assert training is not None  # noqa: S101 - only a model that is trained has folds
            facts = read_facts(training.checkpoint(self.folder))
            kept = set(facts["test_images"])
            folds |= {patients[record_id]: fold for record_id, image in hashes.items() if image in kept}
        return folds


def _judged(
    method: Method, target: EncodedTarget, tasks: Sequence[tuple[int, Task]], seconds: Seconds
) -> Iterator[tuple[int, Task, list[Judgement]]]:
    """Judge the queries of each task; without supports, a query is segmented once for all tasks."""
    if any(task.support for _, task in tasks):
        for episode, task in tasks:
            yield episode, task, evaluate(method, target, task, seconds=seconds)
        return
    known: dict[tuple[str, str], Judgement] = {}
    for asked in dict.fromkeys(task.asked for _, task in tasks):
        queries = tuple(dict.fromkeys(query for _, task in tasks if task.asked == asked for query in task.queries))
        judgements = evaluate(method, target, Task((), queries, asked=asked), seconds=seconds)
        known |= {(asked, query): judgement for query, judgement in zip(queries, judgements, strict=True)}
    for episode, task in tasks:
        yield episode, task, [known[task.asked, query] for query in task.queries]


def gather_costs(folder: Path, config: BenchmarkConfig, cells: Iterable[Cell], device: str) -> Path:
    """Write `costs.json` for cells that were all evaluated: one entry per target, row, seed and number of shots."""
    costs = []
    names = ("target", "method", "seed", "shot")
    for row, group in groupby(sorted(cells), key=attrgetter(*names)):
        of_row = list(group)
        found = [json.loads(cost_path(folder, cell).read_text()) for cell in of_row]
        n_queries = max(1, sum(cost["n_queries"] for cost in found))
        costs.append(
            Cost(
                **dict(zip(names, row, strict=True)),
                adapt_seconds=sum(cost["adapt_seconds"] for cost in found) / len(found),
                image_seconds=sum(cost["image_seconds"] * cost["n_queries"] for cost in found) / n_queries,
                peak_bytes=max((cost["peak_bytes"] for cost in found if cost["peak_bytes"] is not None), default=None),
                parameters=found[0]["parameters"],
                training_seconds=_training_seconds(folder, config, of_row),
                device=device,
            )
        )
    return write_costs(folder, costs)


def _training_seconds(folder: Path, config: BenchmarkConfig, cells: Sequence[Cell]) -> float | None:
    """Add up the seconds of all networks that the cells have; None where one was not trained here."""
    model = config.methods[cells[0].method].model
    if model is None:
        return None
    seconds = 0.0
    for training in {training_for(config, model, cell.seed, cell.target, cell.fold) for cell in cells}:
        path = None if training is None else training.folder(folder) / SECONDS
        if path is None or not path.is_file():
            return None
        seconds += float(json.loads(path.read_text())["seconds"])
    return seconds
