"""The sheets of a report: its tables, ready for any format."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import isnan, nan
from typing import Any

from episodes.scoring.statistics import Difference
from fewshot.report.classic import COLUMNS as CLASSIC_COLUMNS
from fewshot.report.classic import ClassicRow, classic_texts
from fewshot.report.content import ReportContent, Share
from fewshot.report.sentences import p_text
from fewshot.results.costs import MeanCost, mean_costs
from fewshot.results.summary import (
    LESION_SCORES,
    MILLIMETRE_SCORES,
    NORMAL_SCORES,
    Row,
    interval_columns,
    show,
    usable_role,
)
from fewshot.results.tables import or_dash

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table.

    Attributes:
        name: of its files.
        title: in words.
        headings: of the texts; those in `words` stand left, numbers right.
        records: numbers in full precision by column, a bound a column; (n_rows,).
        texts: the same to read, (n_rows, n_headings).
        best: numbers of the rows that are marked.
    """

    name: str
    title: str
    headings: Sequence[str]
    records: Sequence[Record]
    texts: Sequence[Sequence[str]]
    best: frozenset[int] = frozenset()

    @property
    def words(self) -> list[bool]:
        """Which columns hold words, by their headings."""
        return [heading in ("dataset", "method", "lesions", "masks") for heading in self.headings]


def difference_record(difference: Difference, corrected_p: float) -> Record:
    """A paired difference with both p-values."""
    interval = interval_columns("difference", difference.interval)
    return {**interval, "p_value": difference.p_value, "corrected_p": corrected_p}


def difference_texts(difference: Difference, corrected_p: float) -> list[str]:
    """The same to read."""
    return [show(difference.interval, sign=True), p_text(difference.p_value), p_text(corrected_p)]


HEADINGS = (
    "dataset",
    "K",
    "method",
    "training, s",
    "adapting, s",
    "per image, ms",
    "memory, MiB",
    "weights, millions",
)


def cost_sheet(content: ReportContent) -> Sheet:
    """Seconds, memory and weights, means over training seeds."""
    found = [(part.target, cost) for part in content.targets for cost in mean_costs(part.costs)]
    records = [{"target": target, **asdict(cost)} for target, cost in found]
    return Sheet("costs", "What it costs", HEADINGS, records, [[target, *_texts(cost)] for target, cost in found])


def _texts(cost: MeanCost) -> list[str]:
    return [
        str(cost.shot),
        cost.method,
        _scaled(cost.training_seconds, 1, ".0f"),
        _scaled(cost.adapt_seconds, 1, ".2f"),
        _scaled(cost.image_seconds, 1000, ".1f"),
        _scaled(cost.peak_bytes, 2**-20, ".0f"),
        _scaled(cost.parameters, 1e-6, ".2f"),
    ]


def _scaled(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else or_dash(factor * value, form)


def comparison_sheet(content: ReportContent) -> Sheet:
    """Every row beside the best one of its target."""
    found = [(part.answers[-1].best, one) for part in content.targets for one in part.comparisons]
    records = [
        {
            "target": one.row.target,
            "method": one.row.method,
            "shot": one.row.shot,
            "role": one.row.role,
            "best": best.method,
            "best_shot": best.shot,
            **difference_record(one.difference, one.corrected_p),
        }
        for best, one in found
    ]
    texts = [
        [one.row.target, str(one.row.shot), one.row.method, *difference_texts(one.difference, one.corrected_p)]
        for _, one in found
    ]
    headings = ("dataset", "K", "method", "minus the best [95 %]", "p", "p, corrected")
    return Sheet("comparisons", "Every method beside the best", headings, records, texts)


def control_sheet(content: ReportContent) -> Sheet:
    """What every control costs its method."""
    found = [one.controlled for part in content.targets for one in part.controls]
    records = [
        {
            **{name: getattr(one, name) for name in ("target", "method", "shot", "control", "masks")},
            **interval_columns("difference", one.difference.interval),
            "p_value": one.difference.p_value,
        }
        for one in found
    ]
    texts = [
        [one.target, str(one.shot), one.method, one.masks, show(one.difference.interval, sign=True)] for one in found
    ]
    headings = ("dataset", "K", "method", "masks", "loss of lesion Dice [95 %]")
    return Sheet("controls", "With masks that say nothing", headings, records, texts)


def pair_sheet(content: ReportContent) -> Sheet:
    """Rows that two runs have, beside each other."""
    records = [
        {
            "target": one.first.target,
            "method": one.method,
            "shot": one.first.shot,
            "first": one.first.method,
            "second": one.second.method,
            **interval_columns("first_dice", one.first.dice),
            **interval_columns("second_dice", one.second.dice),
            **difference_record(one.difference, one.corrected_p),
        }
        for one in content.pairs
    ]
    texts = [
        [
            one.first.target,
            str(one.first.shot),
            one.method,
            show(one.first.dice),
            show(one.second.dice),
            *difference_texts(one.difference, one.corrected_p),
        ]
        for one in content.pairs
    ]
    headings = ("dataset", "K", "method", "first run", "second run", "second minus first", "p", "p, corrected")
    return Sheet("pairs", "The two runs beside each other", headings, records, texts)


ROW_HEADINGS = ("K", "method", "lesion Dice [95 %]", "IoU", "found", "HD95", "NSD", "normals with a false lesion")
_FACTS = ("target", "method", "shot", "role", "kind", "model", "trained_on", "control", "control_of")
_CLASSIC_SCORES = ("pooled_mean_iou", "pooled_binary_iou", "episode_dice", "episode_iou")


def row_sheet(content: ReportContent) -> Sheet:
    """Every row of every target."""
    rows = content.rows
    texts = [[row.target, *row_texts(row)] for row in rows]
    headings = ("dataset", *ROW_HEADINGS)
    return Sheet("rows", "Every method", headings, [_row_record(row) for row in rows], texts, best_rows(rows))


def row_texts(row: Row) -> list[str]:
    """A row as it stands under `ROW_HEADINGS`."""
    scores = row.scores
    return [
        str(row.shot),
        row.method,
        show(row.dice) + (f" ±{row.seed_spread:.3f} over seeds" if not isnan(row.seed_spread) else ""),
        or_dash(scores["iou"]),
        or_dash(scores["detected"], ".0%"),
        or_dash(scores["hd95"], ".1f"),
        or_dash(scores["nsd"]),
        or_dash(scores["false_positive"], ".0%"),
    ]


def _row_record(row: Row) -> Record:
    return {
        **{name: getattr(row, name) for name in _FACTS},
        **interval_columns("dice", row.dice),
        **interval_columns("patient_dice", row.patient_dice),
        "seed_spread": row.seed_spread,
        "n_seeds": len(row.seed_means),
        "n_lesion": row.n_lesion,
        "n_normal": row.n_normal,
        **{name: row.scores.get(name, nan) for name in (*LESION_SCORES, *MILLIMETRE_SCORES, *NORMAL_SCORES)},
    }


def best_rows(rows: Sequence[Row]) -> frozenset[int]:
    """Numbers of the rows that are the best of their target at their number of shots, of those that can be used.

    Controls and oracles never are, and floors only where a target has nothing else.

    Args:
        rows: as `summarise` gives them.
    """
    best: dict[tuple[str, int], int] = {}
    for target, group in groupby(enumerate(rows), key=lambda entry: entry[1].target):
        numbered = list(group)
        wanted = usable_role([row for _, row in numbered])
        for number, row in numbered:
            if row.role == wanted and not isnan(row.dice.estimate):
                best.setdefault((target, row.shot), number)
    return frozenset(best.values())


def size_sheet(content: ReportContent) -> Sheet:
    """By size of the lesion."""
    return _share_sheet("sizes", "By size of the lesion", [one for part in content.targets for one in part.sizes])


def label_sheet(content: ReportContent) -> Sheet:
    """By label of the image."""
    return _share_sheet("labels", "By kind of the lesion", [one for part in content.targets for one in part.labels])


def _share_sheet(name: str, title: str, shares: Sequence[Share]) -> Sheet:
    records = [
        {
            "target": one.row.target,
            "method": one.row.method,
            "shot": one.row.shot,
            "group": one.group,
            "n_images": one.n_images,
            **interval_columns("dice", one.dice),
        }
        for one in shares
    ]
    texts = [
        [one.row.target, str(one.row.shot), one.row.method, one.group, str(one.n_images), show(one.dice)]
        for one in shares
    ]
    return Sheet(name, title, ("dataset", "K", "method", "lesions", "images", "lesion Dice [95 %]"), records, texts)


def classic_sheet(content: ReportContent) -> Sheet:
    """What papers report, pooled and per episode."""
    rows = [row for part in content.targets for row in part.classic]
    texts = [[row.target, *classic_texts(row)] for row in rows]
    headings = ("dataset", *CLASSIC_COLUMNS)
    return Sheet("classic", "As papers report it", headings, [_classic_record(row) for row in rows], texts)


def _classic_record(row: ClassicRow) -> Record:
    record = {"target": row.target, "method": row.method, "shot": row.shot}
    for name in _CLASSIC_SCORES:
        score = getattr(row, name)
        record |= {name: score.mean, f"{name}_deviation": score.deviation}
    return record | {"n_runs": row.n_runs, "n_episodes": row.n_episodes}


BUILDERS = (
    row_sheet,
    classic_sheet,
    comparison_sheet,
    pair_sheet,
    size_sheet,
    label_sheet,
    control_sheet,
    cost_sheet,
)


def sheets_of(content: ReportContent) -> list[Sheet]:
    """Every table of a report that has rows."""
    return [sheet for build in BUILDERS if (sheet := build(content)).records]
