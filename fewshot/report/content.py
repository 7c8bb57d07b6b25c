"""A report's content before it is drawn: numbers and sentences, each in its place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import Difference, Interval
from fewshot.report.classic import ClassicRow
from fewshot.results.index import ResultKey
from fewshot.results.run_files import Cost, GalleryCase
from fewshot.results.summary import Comparison, MethodResult


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to what to use with so many annotated images on one dataset.

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
    best: MethodResult
    rival: MethodResult | None
    lead: Difference | None
    without: MethodResult | None
    gain: Difference | None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """The mean lesion Dice of one row over some of the queries.

    Attributes:
        row: the row.
        group: which queries, such as `small` or `malignant`.
        n_images: how many.
        dice: with its interval.
    """

    row: MethodResult
    group: str
    n_images: int
    dice: Interval


@dataclass(frozen=True, slots=True)
class Control:
    """A method beside its control: what its lesion Dice owes to the masks of its support sets.

    Attributes:
        target: dataset.
        shot: support images.
        method: the method.
        control: its control.
        masks: what the control does to them, `emptied` or `swapped`.
        difference: of lesion Dice, method minus control, paired on query and draw.
        sentence: what that says.
    """

    target: str
    shot: int
    method: str
    control: str
    masks: str
    difference: Difference
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class TargetContent:
    """Everything that is said of one dataset.

    Attributes:
        target: its name.
        n_lesion: lesion images that were segmented.
        n_normal: images without a lesion.
        n_patients: patients of both.
        rows: the whole table, best first within each number of shots.
        answers: by number of annotated images, rising.
        comparisons: of every other row with the best at the largest number of annotated images, p-values corrected
            over all of them.
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
    rows: Sequence[MethodResult]
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
        """Return how many rows differ from the best beyond chance."""
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
        pairs: of two runs, the rows that both have, by their key in both: the second run's beside the first's, with
            p-values corrected over all of them; empty for one run.
    """

    title: str
    headline: str
    targets: Sequence[TargetContent]
    facts: Mapping[str, Any]
    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
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
