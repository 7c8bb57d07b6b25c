"""The choice of queries for a run's gallery: the worst and the median ones of the best methods."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from episodes.storage.store import Collection
from fewshot.benchmark.evaluation import CellEvaluation
from fewshot.benchmark.workers import Executor
from fewshot.inference.target import Task, segment_queries
from fewshot.results.rows import Cell
from fewshot.results.run_files import GALLERY, GALLERY_INDEX, Annotated, GalleryCase, Why, write_gallery
from fewshot.terminal import Reporter

WORST, MEDIAN, FALSE = 3, 2, 1


@dataclass(frozen=True, slots=True, order=True)
class ChosenQuery:
    """A query to look at, as one cell segmented it; `dice` is None for an image without a lesion."""

    cell: Cell
    query: str
    why: Why
    dice: float | None


def choose_queries(table: pa.Table, target: str) -> list[ChosenQuery]:
    """Choose the worst, the median and the worst false-positive queries of the best method at each number of shots.

    Of the per-query results of the `support-draws` protocol, queries are ranked by their mean over draws and training
    seeds, and each is shown as that draw of the first seed had it which was nearest to its mean: neither the luckiest
    nor the unluckiest. Floors, controls and oracles are left out.
    """
    usual = pc.and_(pc.is_null(table["control"]), pc.is_valid(table["model"]))
    own = table.filter(pc.and_(usual, pc.equal(table["target"], target)))
    if pc.any(pc.equal(own["trained_on"], "sources")).as_py():
        own = own.filter(pc.not_equal(pc.fill_null(own["trained_on"], ""), "target"))
    return [
        choice
        for method, shot in _best_rows(own)
        for choice in _choose_from_row(
            own.filter(pc.and_(pc.equal(own["method"], method), pc.equal(own["shot"], shot)))
        )
    ]


def _best_rows(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Find the method with the highest mean Dice over lesion images at each number of shots."""
    lesions = table.filter(table["lesion"])
    of_queries = lesions.group_by(["shot", "method", "query"]).aggregate([("dice", "mean")])
    means = of_queries.group_by(["shot", "method"]).aggregate([("dice_mean", "mean")]).to_pylist()
    for shot, rows in groupby(sorted(means, key=lambda row: row["shot"]), key=lambda row: row["shot"]):
        best = max(rows, key=lambda row: (row["dice_mean_mean"], row["method"]))
        yield best["method"], shot


def _choose_from_row(row: pa.Table) -> Iterator[ChosenQuery]:
    lesions, normals = row.filter(row["lesion"]), row.filter(pc.invert(row["lesion"]))
    ranked = _ranked(lesions, "dice")
    middle = max(WORST, (len(ranked) - MEDIAN) // 2)  # of a few queries, none is shown twice
    kinds: dict[Why, list[str]] = {"worst": ranked[:WORST], "median": ranked[middle : middle + MEDIAN]}
    for why, queries in kinds.items():
        yield from (_typical(lesions, query, "dice", why) for query in queries)
    marked = normals.filter(pc.greater(normals["false_positive_area"], 0))
    for query in _ranked(marked, "false_positive_area")[::-1][:FALSE]:
        yield replace(_typical(marked, query, "false_positive_area", "false lesion"), dice=None)


def _ranked(table: pa.Table, score: str) -> list[str]:
    """Order queries by their mean score, lowest first."""
    means = table.group_by("query").aggregate([(score, "mean")]).to_pylist()
    return [row["query"] for row in sorted(means, key=lambda row: (row[f"{score}_mean"], row["query"]))]


def _typical(table: pa.Table, query: str, score: str, why: Why) -> ChosenQuery:
    rows = table.filter(pc.equal(table["query"], query)).to_pylist()
    mean = float(np.mean([row[score] for row in rows]))
    first = min(row["seed"] for row in rows)
    nearest = min((row for row in rows if row["seed"] == first), key=lambda row: (abs(row[score] - mean), row["draw"]))
    facts = {name: nearest[name] for name in ("target", "method", "seed", "shot", "draw")}
    return ChosenQuery(Cell(**facts), query, why, nearest[score])


def draw_gallery(executor: Executor[CellEvaluation], table: pa.Table) -> Path | None:
    """Segment the chosen queries once more and write them to `gallery/`, unless they are there; return the index.

    There is none under the `classic` protocol, whose episodes are many and arbitrary.
    """
    evaluation = executor.state
    index = evaluation.folder / GALLERY / GALLERY_INDEX
    if index.is_file() or evaluation.config.protocol == "classic":
        return index if index.is_file() else None
    chosen = [
        replace(choice, cell=evaluation.in_fold(choice.cell, choice.query))
        for target in evaluation.config.targets
        for choice in choose_queries(table, target)
    ]
    cells = [tuple(group) for _, group in groupby(chosen, key=lambda choice: choice.cell)]
    cases: dict[tuple[ChosenQuery, ...], list[GalleryCase]] = {cell: [] for cell in cells}
    results = executor.run(_segmented, cells, executor.threads(len(cells)))
    with executor.reporter.step("gallery") as update:
        for done, (cell, case) in enumerate(results, start=1):
            cases[cell].append(case)
            update(done, len(chosen))
    return write_gallery(evaluation.folder, list(chain.from_iterable(cases.values())))


def _segmented(
    evaluation: CellEvaluation, chosen: tuple[ChosenQuery, ...], reporter: Reporter
) -> Iterator[GalleryCase]:
    """Segment the chosen queries of one cell; they are encoded one by one, since they are few."""
    del reporter  # of whom nothing is expected for a few images
    cell, queries = chosen[0].cell, {choice.query for choice in chosen}
    target, method = evaluation.targets[cell.target], evaluation.method(cell)
    for _, task in evaluation.tasks(cell):
        asked = replace(task, queries=tuple(query for query in task.queries if query in queries))
        found = {query.id: query.mask for query in segment_queries(method, target, asked, cached=False)}
        supports = tuple(_shown(target.collection, task, place) for place in range(len(task.support)))
        for choice in chosen:
            facts: dict[str, Any] = {name: getattr(cell, name) for name in ("target", "method", "seed", "shot", "draw")}
            yield GalleryCase(
                **facts,
                why=choice.why,
                label=target.store.records[target.rows[choice.query]].label,
                dice=choice.dice,
                query=_annotated(target.collection, choice.query),
                prediction=found[choice.query],
                supports=supports,
            )


def _shown(collection: Collection, task: Task, place: int) -> Annotated:
    """Return a support image with the mask that the method was shown."""
    own = _annotated(collection, task.support[place])
    return own if task.masks is None else replace(own, mask=task.masks[0, place].numpy() > 0)


def _annotated(collection: Collection, record_id: str) -> Annotated:
    return Annotated(record_id, np.array(collection.image(record_id)), np.array(collection.label_map(record_id)) > 0)
