"""The `classic` protocol's scores, for comparison with papers: pooled IoU over runs, and means over episodes.

A run draws support and queries of its episodes anew from the same few images, and the model stays the same. So the
spread over runs shows the sampler's noise: with more episodes it shrinks towards zero, however few patients there are.
It is a "closed" interval in the words of Lafargue et al. (TMLR 2024), and says nothing about other patients; the
intervals of the other tables are "open", from resampled patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray
from episodes.scoring.mask_scores import pooled_iou
from fewshot.results.index import ResultKey, ResultsIndex, mean_of_known
from fewshot.results.rows import PIXELS

NOTE = (
    "Pooled scores sum pixels over all episodes of a run, so that large lesions count most and false positives on"
    " images without the class do not count in the mean IoU. After ±: the standard deviation over runs. It is the noise"
    " of drawing episodes from the same images, no interval for new patients."
)
SCORES = ("pooled_mean_iou", "pooled_binary_iou", "episode_dice", "episode_iou")
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

    The pooled mean IoU is PANet's (see `episodes.scoring.mask_scores`): pixels of a class summed over the queries of a
    run that hold it, then the mean over classes. The binary IoU is the mean of background and foreground, all classes
    as one, summed likewise. An episode's Dice and IoU are means over those of its queries that hold its class.
    """

    target: str
    method: str
    shot: int
    pooled_mean_iou: OverRuns
    pooled_binary_iou: OverRuns
    episode_dice: OverRuns
    episode_iou: OverRuns
    n_runs: int
    n_episodes: int  # of each run


def classic_rows(table: ResultsIndex, target: str) -> list[ClassicRow]:
    """Compute a target's rows under the `classic` protocol, best pooled mean-IoU first within each number of shots.

    Scores of different training seeds are averaged run by run.
    """
    rows = [_classic_row(key, _counts(table.part(key, (*PIXELS, *_NUMBERS, "class")))) for key in table.keys(target)]
    return sorted(rows, key=lambda row: (row.shot, -np.nan_to_num(row.pooled_mean_iou.mean), row.method))


Counts = Mapping[str, NDArray[np.int64]]
"""Pixels of queries, and what these belong to, by column, each (n_queries,)."""


def _counts(part: pa.Table) -> Counts:
    columns = {name: part[name].to_numpy().astype(np.int64) for name in (*PIXELS, *_NUMBERS)}
    asked = part["class"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    union = columns["lesion_pixels"] + columns["predicted_pixels"] - columns["overlap_pixels"]
    return columns | {"union": union, "class": asked}


def _where(counts: Counts, chosen: NDArray[np.bool_]) -> Counts:
    return {name: values[chosen] for name, values in counts.items()}


def _classic_row(key: ResultKey, counts: Counts) -> ClassicRow:
    runs, seeds = np.unique(counts["draw"]), np.unique(counts["seed"])
    scores = [
        [_scores(_where(counts, (counts["seed"] == seed) & (counts["draw"] == run))) for run in runs] for seed in seeds
    ]
    by_run = mean_of_known(np.array(scores), axis=0)
    episodes = [len(np.unique(counts["episode"][counts["draw"] == run])) for run in runs]
    pooled_mean, pooled_binary, dice, iou = map(_over_runs, by_run.T)
    return ClassicRow(*key, pooled_mean, pooled_binary, dice, iou, len(runs), max(episodes))


def _over_runs(values: FloatArray) -> OverRuns:
    known = values[~np.isnan(values)]
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else nan
    return OverRuns(float(mean_of_known(known, axis=0)), deviation)


def _scores(counts: Counts) -> tuple[float, float, float, float]:
    """Compute pooled mean and binary IoU, and the means over episodes of Dice and IoU, of one run and seed."""
    held = _where(counts, counts["lesion_pixels"] > 0)
    rest = _where(counts, counts["lesion_pixels"] < counts["image_pixels"])
    mean_iou, binary_iou = pooled_iou(
        np.concatenate([held["overlap_pixels"], rest["image_pixels"] - rest["union"]]),
        np.concatenate([held["union"], rest["image_pixels"] - rest["overlap_pixels"]]),
        np.concatenate([held["class"] + 1, np.zeros_like(rest["class"])]),
    )
    dice = 2 * held["overlap_pixels"] / (held["lesion_pixels"] + held["predicted_pixels"])
    iou = held["overlap_pixels"] / held["union"]
    return mean_iou, binary_iou, _episode_mean(held["episode"], dice), _episode_mean(held["episode"], iou)


def _episode_mean(episodes: NDArray[np.int64], scores: FloatArray) -> float:
    """Average over episodes each one's mean score."""
    if not len(scores):
        return nan
    _, places = np.unique(episodes, return_inverse=True)
    return float(np.mean(np.bincount(places, scores) / np.bincount(places)))
