"""What a report says, before it is drawn: numbers and sentences, each in its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import Difference, Interval
from fewshot.report.classic import ClassicRow
from fewshot.results.costs import Cost
from fewshot.results.gallery import GalleryCase
from fewshot.results.summary import Controlled, Row


@dataclass(frozen=True, slots=True)
class Answer:
    """What to use with so many annotated images on one dataset.

    Attributes:
        shot: annotated images at hand.
        best: the row with the highest lesion Dice among those that need no more; no control, oracle or floor.
        rival: the best row of another method at as many images; None where there is no other.
        lead: lesion Dice of `best` minus `rival`, paired.
        without: the best row that needs no annotated image at all; None where there is none, or at K = 0.
        gain: lesion Dice of `best` minus `without`, paired.
        sentence: all of that in words that need no statistics.
    """

    shot: int
    best: Row
    rival: Row | None
    lead: Difference | None
    without: Row | None
    gain: Difference | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row beside the best at the largest number of annotated images.

    Attributes:
        row: the row.
        difference: its lesion Dice minus that of the best, paired on query and draw.
        corrected_p: the p-value after Holm's correction over all comparisons of the dataset.
    """

    row: Row
    difference: Difference
    corrected_p: float


@dataclass(frozen=True, slots=True)
class Share:
    """The mean lesion Dice of one row over some of the queries.

    Attributes:
        row: the row.
        group: which queries, such as `small` or `malignant`.
        n_images: how many.
        dice: with its interval.
    """

    row: Row
    group: str
    n_images: int
    dice: Interval


@dataclass(frozen=True, slots=True)
class Control:
    """A control beside the method that it controls, and what that says."""

    controlled: Controlled
    sentence: str


@dataclass(frozen=True, slots=True)
class RunPair:
    """The same row in two runs on the same queries and draws.

    Attributes:
        method: its name in both runs; in their common report it stands behind the run's.
        first: in the first run.
        second: in the second.
        difference: lesion Dice of the second minus the first, paired on query and draw.
        corrected_p: the p-value after Holm's correction over all rows that both runs have.
    """

    method: str
    first: Row
    second: Row
    difference: Difference
    corrected_p: float


@dataclass(frozen=True, slots=True)
class TargetContent:
    """What is said of one dataset.

    Attributes:
        target: its name.
        n_lesion: lesion images that were segmented.
        n_normal: images without a lesion.
        n_patients: patients of both.
        rows: the whole table, best first within each number of shots.
        answers: by number of annotated images, rising.
        comparisons: of every other row with the best at the largest number of annotated images.
        controls: as far as there are any.
        patients: mean lesion Dice of every patient that the row has lesion images of, rising, by (method, shot).
        sizes: by tercile of lesion size, `small`, `medium`, `large`; their edges are in `size_edges`.
        size_edges: share of the image that a lesion covers, between the terciles; empty with too few lesions.
        labels: by label.
        reliability: of lesion probabilities, by (method, shot), of methods that give any.
        costs: mean over training seeds are for the reader to take; as measured here.
        cases: to look at.
        classic: what papers report, best first within each number of shots; of the `classic` protocol alone.
    """

    target: str
    n_lesion: int
    n_normal: int
    n_patients: int
    rows: Sequence[Row]
    answers: Sequence[Answer]
    comparisons: Sequence[Comparison]
    controls: Sequence[Control]
    patients: Mapping[tuple[str, int], NDArray[np.float64]]
    sizes: Sequence[Share]
    size_edges: tuple[float, ...]
    labels: Sequence[Share]
    reliability: Mapping[tuple[str, int], Reliability]
    costs: Sequence[Cost] = ()
    cases: Sequence[GalleryCase] = ()
    classic: Sequence[ClassicRow] = ()

    @property
    def n_significant(self) -> int:
        """How many rows differ from the best beyond chance."""
        return sum(comparison.corrected_p < 0.05 for comparison in self.comparisons)


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything a report shows.

    Attributes:
        title: such as the run's name, or `A and B`.
        headline: the answer at the largest number of annotated images, over all datasets, in one sentence.
        targets: by dataset.
        facts: what holds for the whole table: protocol, working size, tolerance of NSD and the like.
        config: the resolved configuration as YAML, by run; empty where only the table is there.
        environment: versions and device, by run.
        warnings: what a reader should know before believing a number, a sentence each.
        pairs: of two runs, the rows that both have, compared; empty for one run.
    """

    title: str
    headline: str
    targets: Sequence[TargetContent]
    facts: Mapping[str, Any]
    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    pairs: Sequence[RunPair] = ()

    @property
    def rows(self) -> list[Row]:
        """Those of all datasets."""
        return [row for target in self.targets for row in target.rows]
