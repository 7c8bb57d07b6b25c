"""A report's content before it is drawn: numbers and sentences, each in its place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import Interval
from fewshot.report.classic import ClassicRow
from fewshot.results.comparison import Comparison
from fewshot.results.index import ResultKey
from fewshot.results.run_files import Cost, GalleryCase
from fewshot.results.summary import MethodResult


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to what to use with so many annotated images (`shot`) on one dataset.

    All of it is computed on the lesion images that every method shares which needs no more images.
    """

    shot: int
    best: MethodResult  # the highest lesion Dice among rows that need no more images; no control, oracle or floor
    dice: Interval  # of the best
    n_lesion: int  # the images that all of this is of
    n_patients: int  # theirs
    ranked: Sequence[tuple[MethodResult, float]]  # the rows that can be used and their mean lesion Dice, best first
    others: Sequence[Comparison]  # every other row, whatever its role, minus the best; p-values corrected over them
    left_out: Sequence[MethodResult] = ()  # rows that could be used, but share no lesion image with the rest
    controls: Sequence[Comparison] = ()  # the best beside each of its controls
    sentence: str = ""  # all of that in words that need no statistics

    def _of(self, row: MethodResult | None) -> Comparison | None:
        return next((one.turned() for one in self.others if row is not None and one.row.key == row.key), None)

    @property
    def lead(self) -> Comparison | None:
        """Return the best beside the best row of another method; None where there is no other.

        With annotated images at hand that is one which uses them, since what does without them is a question of its
        own: is annotating worth it? Where the answer to that is no, it is the best of those that use all of them, of
        whatever method.
        """
        rivals = [row for row, _ in self.ranked[1:] if (row.shot > 0) == (self.shot > 0)]
        if self.shot and not self.best.shot:
            return self._of(next((row for row in rivals if row.shot == self.shot), None))
        return self._of(next((row for row in rivals if row.method != self.best.method), None))

    @property
    def gain(self) -> Comparison | None:
        """Return the best beside the best row that needs no annotated image; None where the best needs none itself."""
        return self._of(next((row for row, _ in self.ranked if row.shot == 0), None)) if self.best.shot else None

    @property
    def with_images(self) -> list[Comparison]:
        """Return the rows to use that read annotated images, minus the best."""
        usable = {row.key for row, _ in self.ranked if row.shot}
        return [one for one in self.others if one.row.key in usable]

    @property
    def floor(self) -> Comparison | None:
        """Return the best beside the highest floor that it does not clearly beat; None where there is none."""
        floors = [one for one in self.others if one.row.role == "floor" and one.verdict != "lower"]
        if self.best.role == "floor" or not floors:
            return None
        return max(floors, key=lambda one: -inf if isnan(one.interval.estimate) else one.interval.estimate).turned()

    @property
    def no_better_than_a_floor(self) -> bool:
        """Return whether a floor is clearly better than the best, or just as good."""
        return self.floor is not None and self.floor.verdict in ("lower", "alike")

    def mean(self, row: MethodResult) -> float:
        """Return the mean lesion Dice of one of the ranked rows."""
        return next(mean for ranked, mean in self.ranked if ranked.key == row.key)


@dataclass(frozen=True, slots=True)
class Share:
    """The mean lesion Dice of one row over a group of the queries, such as `small` or `malignant`."""

    row: MethodResult
    group: str
    n_images: int
    dice: Interval


@dataclass(frozen=True, slots=True)
class TargetContent:
    """Everything that is said of one dataset."""

    target: str
    n_lesion: int  # images that were segmented
    n_normal: int
    n_patients: int  # of both kinds of images
    rows: Sequence[MethodResult]  # best first within each number of shots
    answers: Sequence[Answer]  # by number of annotated images, rising
    comparisons: Sequence[Comparison]  # of every other row with the best at the most images, p-values corrected
    controls: Sequence[Comparison]  # of each method with its control, in the order of the controls
    patients: Mapping[tuple[str, int], NDArray[np.float64]]  # mean lesion Dice of each, rising, by (method, shot)
    sizes: Sequence[Share]  # by tercile of lesion size
    size_edges: tuple[float, ...]  # shares of the image between the terciles; empty with too few lesions
    labels: Sequence[Share]
    reliability: Mapping[tuple[str, int], Reliability]  # of lesion probabilities, by (method, shot)
    costs: Sequence[Cost] = ()  # of each training seed
    cases: Sequence[GalleryCase] = ()
    classic: Sequence[ClassicRow] = ()  # of the `classic` protocol alone, best first within each number of shots


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything a report shows.

    `pairs` has, of two runs, the rows that both have, by their key in both: the second run's beside the first's, with
    p-values corrected over all of them; it is empty for one run.
    """

    title: str  # such as the run's name, or `A and B`
    headline: str  # the answer at the most annotated images, over all datasets, in one sentence
    targets: Sequence[TargetContent]
    facts: Mapping[str, Any]  # what holds for the whole table: protocol, working size, tolerance of NSD and the like
    config: Mapping[str, str] = field(default_factory=dict)  # as resolved, YAML by run
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # versions and device, by run
    warnings: Sequence[str] = ()  # what a reader should know before believing a number, a sentence each
    pairs: Mapping[ResultKey, Comparison] = field(default_factory=dict)

    @property
    def rows(self) -> list[MethodResult]:
        """Return those of all datasets."""
        return [row for target in self.targets for row in target.rows]


MOST_ROWS = 6


def shown_rows(rows: Sequence[MethodResult], most: int = MOST_ROWS) -> list[MethodResult]:
    """Choose the rows of a target that are broken down; all of them would be more than anyone reads.

    They are methods, no floor, control or oracle: the best of every number of shots, then the second best of every
    number of shots, and so on until there are `most`, those with more shots first. They come in the order of `rows`.
    """
    ranks: Counter[int] = Counter()
    ranked = []
    for row in rows:  # best first within each number of shots
        if row.role == "method":
            ranked.append((ranks[row.shot], -row.shot, row))
            ranks[row.shot] += 1
    chosen = {row.key for *_, row in sorted(ranked, key=lambda entry: entry[:2])[:most]}
    return [row for row in rows if row.key in chosen]
