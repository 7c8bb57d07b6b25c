"""The `classic` protocol's scores, for comparison with papers: pooled IoU over runs, and means over episodes.

A run draws support and queries of its episodes anew from the same few images, and the model stays the same. So the
spread over runs shows the sampler's noise: with more episodes it shrinks towards zero, however few patients there are.
It is a "closed" interval in the words of Lafargue et al. (TMLR 2024), and says nothing about other patients; the
intervals of the other tables are "open", from resampled patients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import isnan, nan

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray, IntArray
from fewshot.results.index import ResultsIndex, RowKey, mean_of_known
from fewshot.results.rows import PIXELS
from fewshot.results.tables import table_lines

NOTE = (
    "Pooled scores sum pixels over all episodes of a run, so that large lesions count most and false positives on"
    " images without the class do not count in the mean IoU. After ±: the standard deviation over runs. It is the noise"
    " of drawing episodes from the same images, no interval for new patients."
)
COLUMNS = (
    "K",
    "method",
    "pooled mean-IoU",
    "pooled binary-IoU",
    "mean Dice per episode",
    "mean IoU per episode",
    "runs x episodes",
)
_NUMBERS = ("seed", "draw", "episode")


@dataclass(frozen=True, slots=True)
class OverRuns:
    """A score of each run: their mean, and their standard deviation; NaN for a single run."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        """As papers write it, such as `0.512 ± 0.004`."""
        return f"{self.mean:.3f}" + ("" if isnan(self.deviation) else f" ± {self.deviation:.3f}")


@dataclass(frozen=True, slots=True)
class ClassicRow:
    """One method at one number of shots on one target, as papers report it.

    Attributes:
        target: dataset.
        method: name in the configuration.
        shot: support images.
        pooled_mean_iou: PANet's mean IoU (see `episodes.scoring.mask_scores`): pixels of a class summed over the
            queries of a run that hold it, then the mean over classes.
        pooled_binary_iou: the mean of background and foreground IoU, all classes as one, summed likewise.
        episode_dice: mean over episodes of the mean Dice of an episode's queries that hold its class.
        episode_iou: the same of IoU.
        n_runs: how many.
        n_episodes: of each run.
    """

    target: str
    method: str
    shot: int
    pooled_mean_iou: OverRuns
    pooled_binary_iou: OverRuns
    episode_dice: OverRuns
    episode_iou: OverRuns
    n_runs: int
    n_episodes: int


def classic_rows(table: ResultsIndex, target: str) -> list[ClassicRow]:
    """The rows of one target under the `classic` protocol, best pooled mean-IoU first within each number of shots.

    Scores of different training seeds are averaged run by run.
    """
    rows = [_classic_row(key, _Counts.of(table.part(key, (*PIXELS, *_NUMBERS, "class")))) for key in table.keys(target)]
    return sorted(rows, key=lambda row: (row.shot, -np.nan_to_num(row.pooled_mean_iou.mean), row.method))


@dataclass(frozen=True, slots=True)
class _Counts:
    """Pixels of queries, each (n_queries,), and what they belong to."""

    image: IntArray
    lesion: IntArray
    predicted: IntArray
    overlap: IntArray
    seed: IntArray
    run: IntArray
    episode: IntArray
    asked: IntArray

    @classmethod
    def of(cls, part: pa.Table) -> "_Counts":
        columns = [part[name].to_numpy().astype(np.int64) for name in (*PIXELS, *_NUMBERS)]
        columns.append(part["class"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64))
        return cls(*columns)

    def where(self, chosen: NDArray[np.bool_]) -> "_Counts":
        """Some of the queries."""
        return _Counts(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @property
    def holds_class(self) -> NDArray[np.bool_]:
        """Whether a query shows what its episode asks for."""
        return self.lesion > 0


def _classic_row(key: RowKey, counts: _Counts) -> ClassicRow:
    runs = np.unique(counts.run)
    episodes = [len(np.unique(counts.episode[counts.run == run])) for run in runs]
    return ClassicRow(
        *key,
        pooled_mean_iou=_over_runs(counts, _pooled_mean_iou),
        pooled_binary_iou=_over_runs(counts, _pooled_binary_iou),
        episode_dice=_over_runs(counts, _episode_dice),
        episode_iou=_over_runs(counts, _episode_iou),
        n_runs=len(runs),
        n_episodes=max(episodes),
    )


def _over_runs(counts: _Counts, score: Callable[[_Counts], float]) -> OverRuns:
    seeds, runs = np.unique(counts.seed), np.unique(counts.run)
    values = np.array(
        [[score(counts.where((counts.seed == seed) & (counts.run == run))) for run in runs] for seed in seeds]
    )
    by_run = mean_of_known(values, axis=0)
    by_run = by_run[~np.isnan(by_run)]
    deviation = float(np.std(by_run, ddof=1)) if len(by_run) > 1 else nan
    return OverRuns(float(mean_of_known(by_run, axis=0)), deviation)


def _pooled_mean_iou(counts: _Counts) -> float:
    held = counts.where(counts.holds_class)
    union = held.lesion + held.predicted - held.overlap
    classes = np.unique(held.asked)
    ratios = [held.overlap[held.asked == one].sum() / union[held.asked == one].sum() for one in classes]
    return float(np.mean(ratios)) if ratios else nan


def _pooled_binary_iou(counts: _Counts) -> float:
    held, open_ = counts.where(counts.holds_class), counts.where(counts.lesion < counts.image)
    if not len(held.image) or not len(open_.image):
        return nan
    foreground = held.overlap.sum() / (held.lesion + held.predicted - held.overlap).sum()
    rest = open_.image - open_.lesion - open_.predicted + open_.overlap
    return float(foreground + rest.sum() / (open_.image - open_.overlap).sum()) / 2


def _episode_dice(counts: _Counts) -> float:
    held = counts.where(counts.holds_class)
    return _episode_mean(held, 2 * held.overlap / (held.lesion + held.predicted))


def _episode_iou(counts: _Counts) -> float:
    held = counts.where(counts.holds_class)
    return _episode_mean(held, held.overlap / (held.lesion + held.predicted - held.overlap))


def _episode_mean(counts: _Counts, scores: FloatArray) -> float:
    """The mean over episodes of each one's mean score."""
    if not len(scores):
        return nan
    _, places = np.unique(counts.episode, return_inverse=True)
    return float(np.mean(np.bincount(places, scores) / np.bincount(places)))


def classic_texts(row: ClassicRow) -> list[str]:
    """A row as it stands under `COLUMNS`."""
    scores = (row.pooled_mean_iou, row.pooled_binary_iou, row.episode_dice, row.episode_iou)
    return [str(row.shot), row.method, *map(str, scores), f"{row.n_runs} x {row.n_episodes}"]


def classic_markdown(rows: Sequence[ClassicRow]) -> str:
    """The rows as a Markdown table, and what its numbers do not say."""
    lines = table_lines(COLUMNS, map(classic_texts, rows), words={1})
    return "\n".join([*lines, "", NOTE]) + "\n"
