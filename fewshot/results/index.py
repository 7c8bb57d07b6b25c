"""The per-query table, sorted once: each row's scores without searching, and the lesion images that rows share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray, IntArray, ratio
from fewshot.results.rows import MILLIMETRES, SCORES


@dataclass(frozen=True, slots=True)
class Queries:
    """Images of one target, sorted by id; every attribute is (n_queries,)."""

    ids: Sequence[str]  # of the records
    patients: Sequence[str]
    labels: Sequence[str]  # `benign` and the like
    lesion_shares: FloatArray  # of the image that the lesion covers, in [0, 1]; NaN where pixels were not counted
    codes: IntArray  # numbers that stand for their ids, rising


@dataclass(frozen=True, slots=True)
class ScoreGrid:
    """One row's scores of the lesion images of its target, or of the normal ones.

    Scores by name are (n_seeds, n_draws, n_queries); NaN where a query is not in a draw or its score is undefined. A
    query that comes several times in a run of the `classic` protocol has its mean.
    """

    queries: Queries  # those of the target; the ones that the row lacks have no value
    seeds: IntArray  # training seeds, rising, (n_seeds,)
    draws: IntArray  # numbers of draws, rising, (n_draws,); -1 alone for a row without support sets
    scores: Mapping[str, FloatArray]

    def over_seeds(self, score: str) -> FloatArray:
        """Average a score over training seeds, (n_draws, n_queries)."""
        return mean_of_known(self.scores[score], axis=0)

    def query_means(self, score: str) -> FloatArray:
        """Average a score over training seeds, then over draws, (n_queries,); NaN where there is none."""
        return mean_of_known(self.over_seeds(score), axis=0)

    def mean(self, score: str) -> float:
        """Average `query_means`, each query counting once; NaN where nothing is scored."""
        return float(mean_of_known(self.query_means(score), axis=0))

    def seed_means(self, score: str) -> dict[int, float]:
        """Return the same mean for each training seed alone."""
        means = mean_of_known(mean_of_known(self.scores[score], axis=1), axis=1)
        return dict(zip(self.seeds.tolist(), means.tolist(), strict=True))

    def n_scored(self, score: str) -> int:
        """Count the queries that have the score in some draw."""
        return int(np.count_nonzero(~np.isnan(self.query_means(score))))


def mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    """Average along an axis what is not NaN; NaN where nothing is.

    >>> mean_of_known(np.array([[0.5, np.nan], [0.7, np.nan]]), axis=0)
    array([0.6, nan])
    """
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


QUERY_FACTS = ["query", "patient", "label", "lesion_pixels", "image_pixels"]
GRID_SCORES = (*SCORES, *MILLIMETRES)


class ResultKey(NamedTuple):
    """The key of a row of the report's table."""

    target: str
    method: str
    shot: int


class ResultsIndex:
    """A per-query table, as `fewshot.results.rows.read_table` gives it, with rows by target, method and shots.

    A real run's table has hundreds of thousands of lines, and a report asks for its rows again and again: names are
    turned into numbers once, and all that follows is indexing.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self._places = _places_by_row(self.table)
        self.targets = sorted({key.target for key in self._places})
        self._lesion: NDArray[np.bool_] = self.table["lesion"].to_numpy()
        self._query_codes = _sorted_codes(self.table, "query")[0]
        self._columns = {name: self.table[name].to_numpy() for name in ("seed", "draw")}
        self._scores = {name: floats(self.table, name) for name in GRID_SCORES}
        self._queries: dict[tuple[str, bool], Queries] = {}
        self._grids: dict[tuple[ResultKey, bool], ScoreGrid] = {}

    def keys(self, target: str) -> list[ResultKey]:
        """Return the rows of one target, sorted."""
        return sorted(key for key in self._places if key.target == target)

    def part(self, key: ResultKey, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a row's part of the table."""
        return self.table.select(list(columns)).take(pa.array(self._places[key]))

    def fact(self, key: ResultKey, column: str) -> Any:
        """Return a column's value where all queries of a row share it, such as `model`."""
        return self.table[column][int(self._places[key][0])].as_py()

    def queries(self, target: str, *, lesion: bool) -> Queries:
        """Return the images of a target that show what is asked for, or those that do not."""
        if (target, lesion) not in self._queries:
            places = np.concatenate([self._places[key] for key in self.keys(target)])
            places = places[self._lesion[places] == lesion]
            codes, first = np.unique(self._query_codes[places], return_index=True)
            described = self.table.select(QUERY_FACTS).take(pa.array(places[first]))
            shares = floats(described, "lesion_pixels") / floats(described, "image_pixels")
            ids, patients, labels = (tuple(described[name].to_pylist()) for name in QUERY_FACTS[:3])
            self._queries[target, lesion] = Queries(ids, patients, labels, shares, codes)
        return self._queries[target, lesion]

    def grid(self, key: ResultKey, *, lesion: bool = True) -> ScoreGrid:
        """Return a row's scores of the images that show what is asked for, or of those that do not."""
        if (key, lesion) not in self._grids:
            self._grids[key, lesion] = self._built(key, lesion)
        return self._grids[key, lesion]

    def _built(self, key: ResultKey, lesion: bool) -> ScoreGrid:
        queries = self.queries(key.target, lesion=lesion)
        places = self._places[key]
        places = places[self._lesion[places] == lesion]
        seeds, of_seed = np.unique(self._columns["seed"][places], return_inverse=True)
        draws, of_draw = np.unique(self._columns["draw"][places], return_inverse=True)
        of_query = np.searchsorted(queries.codes, self._query_codes[places])
        shape = len(seeds), len(draws), len(queries.codes)
        cells = (of_seed * len(draws) + of_draw) * len(queries.codes) + of_query
        scores = {name: _cell_means(cells, values[places], shape) for name, values in self._scores.items()}
        return ScoreGrid(queries, seeds.astype(np.int64), draws.astype(np.int64), scores)


def floats(table: pa.Table, column: str) -> FloatArray:
    """Return a column as float64, NaN for null."""
    values: FloatArray = table[column].cast(pa.float64(), safe=False).to_numpy()
    return values


def _places_by_row(table: pa.Table) -> dict[ResultKey, IntArray]:
    """Find the lines of the table that each row has."""
    targets, target_names = _sorted_codes(table, "target")
    methods, method_names = _sorted_codes(table, "method")
    shots, of_shot = np.unique(table["shot"].to_numpy(), return_inverse=True)
    rows, of_row = np.unique((targets * len(method_names) + methods) * len(shots) + of_shot, return_inverse=True)
    # Stable, so that the lines of a row keep their order and sums of floats come out the same.
    order = np.argsort(of_row, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(of_row, minlength=len(rows)))[:-1])
    places = {}
    for row, part in zip(rows.tolist(), parts, strict=True):
        rest, shot = divmod(row, len(shots))
        target, method = divmod(rest, len(method_names))
        places[ResultKey(target_names[target], method_names[method], int(shots[shot]))] = part
    return places


def _sorted_codes(table: pa.Table, column: str) -> tuple[IntArray, list[str]]:
    """Return a column of strings as numbers in their order, (n_lines,), and the strings that they stand for."""
    encoded = table[column].combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return ranks[encoded.indices.to_numpy()], [names[index] for index in order]


def _cell_means(cells: IntArray, values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Average the values of each cell that are not NaN, (shape); NaN in cells without any."""
    known = ~np.isnan(values)
    counts = np.bincount(cells[known], minlength=prod(shape))
    totals = np.bincount(cells[known], values[known], minlength=prod(shape))
    return ratio(totals, counts).reshape(shape)


WITHOUT_SUPPORT = [-1]
DECIMALS = 12  # of means that are ranked: sums of the same numbers in another order are equal


@dataclass(frozen=True, slots=True)
class SharedCells:
    """Draws and lesion images of one target that all of some rows have scores of.

    Rows with annotated images cover only patients outside their draws, rows without any cover every lesion image, so
    that their plain means are of different images. A row without support sets stands beside every draw of the others:
    its masks would be the same in each.
    """

    draws: IntArray  # rising, (n_draws,); -1 alone where no row has support sets
    present: NDArray[np.bool_]  # (n_draws, n_queries)

    @property
    def queries(self) -> NDArray[np.bool_]:
        """Return which images are shared in some draw, (n_queries,)."""
        return np.asarray(self.present.any(axis=0))

    def narrowed(self, grid: ScoreGrid) -> "SharedCells":
        """Return the part of the cells that one more row has as well."""
        draws, present, own = self.draws, self.present, ~np.isnan(grid.over_seeds("dice"))
        if draws.tolist() == WITHOUT_SUPPORT:
            return SharedCells(grid.draws, present & own)
        if grid.draws.tolist() == WITHOUT_SUPPORT:
            return SharedCells(draws, present & own)
        both, here, there = np.intersect1d(draws, grid.draws, return_indices=True)
        return SharedCells(both, present[here] & own[there])

    def dice(self, grid: ScoreGrid) -> FloatArray:
        """Return a row's lesion Dice on those of the cells that it has, averaged over seeds; NaN elsewhere.

        It is (n_draws, n_queries); a row without support sets has a single draw.
        """
        own, values = self.narrowed(grid), grid.over_seeds("dice")
        if grid.draws.tolist() == WITHOUT_SUPPORT:
            return np.where(own.queries, values, np.nan)
        return np.where(own.present, values[np.searchsorted(grid.draws, own.draws)], np.nan)

    def mean(self, grid: ScoreGrid) -> float:
        """Return a row's mean lesion Dice on those of the cells that it has; NaN where it has none."""
        return round(float(mean_of_known(mean_of_known(self.dice(grid), axis=0), axis=0)), DECIMALS)


def cells_of(grid: ScoreGrid) -> SharedCells:
    """Return the cells of one row."""
    return SharedCells(grid.draws, ~np.isnan(grid.over_seeds("dice")))
