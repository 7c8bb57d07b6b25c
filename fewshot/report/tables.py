"""The tables of a report, and which rows and scores stand in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import isnan, nan
from typing import Any

from episodes.scoring.statistics import Interval
from fewshot.report.classic import SCORES as CLASSIC_SCORES
from fewshot.report.classic import ClassicRow
from fewshot.report.content import ReportContent, Share, TargetContent
from fewshot.results.comparison import Comparison
from fewshot.results.index import ResultKey
from fewshot.results.numbers import PLAIN, TYPESET, NumberStyle, annotated_images, counted, full_interval, p_value_text
from fewshot.results.run_files import mean_costs
from fewshot.results.summary import (
    LESION_SCORES,
    MILLIMETRE_SCORES,
    NORMAL_SCORES,
    MethodResult,
    interval_columns,
    is_uneven,
    usable_role,
)
from fewshot.results.tables import Table, TableRecord


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """A score of every row."""

    name: str  # in the results
    title: str  # above its column on the page
    meaning: str  # in a few words, for those who point at it
    digits: int | None = 3  # None for a share in hundredths
    heading: str = ""  # above its column in other tables, where it stands there

    def interval(self, row: MethodResult) -> Interval | None:
        """Return a row's score with its interval; None for a score without one."""
        return {"dice": row.dice, "shared_dice": row.shared, "patient_dice": row.patient_dice}.get(self.name)

    def value(self, row: MethodResult) -> float:
        """Return a row's score in full; NaN where it has none."""
        interval = self.interval(row)
        others = {"seed_spread": row.seed_spread, "n_lesion": row.n_lesion, **row.scores}
        return interval.estimate if interval else others.get(self.name, nan)

    def text(self, row: MethodResult, style: NumberStyle = TYPESET) -> str:
        """Return a row's score to read, without its interval."""
        value = self.value(row)
        text = style.share(value) if self.digits is None else style.number(value, self.digits)
        return f"±{text}" if self.name == "seed_spread" and not isnan(value) else text


DICE = ScoreColumn(
    "dice", "lesion Dice", "overlap with the true lesion, 0 to 1; mean over lesion images", 3, "lesion Dice [95 %]"
)
COUNT = ScoreColumn("n_lesion", "images", "lesion images that the row has", 0, "lesion images")
SHARED = ScoreColumn(
    "shared_dice",
    "on the same",
    "lesion Dice on those lesion images alone that all methods have: to compare rows",
    3,
    "on the same lesions [95 %]",
)
SCORE_COLUMNS = (
    DICE,
    COUNT,
    SHARED,
    ScoreColumn("patient_dice", "per patient", "the same, each patient counting once"),
    ScoreColumn("seed_spread", "seeds", "how far the mean differs between training seeds (standard deviation)"),
    ScoreColumn(
        "false_positive",
        "false lesions",
        "share of normal images on which a lesion is seen",
        None,
        "normals with a false lesion",
    ),
    ScoreColumn("detected", "found", "share of lesions with an IoU above 0.5", None, "found"),
    ScoreColumn("iou", "IoU", "shared area over joint area, 0 to 1", 3, "IoU"),
    ScoreColumn("nsd", "NSD", "share of the outline within the tolerance", 3, "NSD"),
    ScoreColumn("hd95", "HD95, px", "distance of the outlines but for the worst 5 %; smaller is better", 1, "HD95"),
    ScoreColumn("precision", "precision", "share of what was marked that is lesion"),
    ScoreColumn("recall", "recall", "share of the lesion that was marked"),
    ScoreColumn("nsd_mm", "NSD, mm", "share of the outline within a tolerance in millimetres"),
    ScoreColumn("hd95_mm", "HD95, mm", "distance of the outlines in millimetres", 1),
)
_BY_NAME = {column.name: column for column in SCORE_COLUMNS}
UNEVEN_COLUMNS = (COUNT, SHARED)  # where rows have different lesion images
_PLAIN_COLUMNS = [_BY_NAME[name] for name in ("iou", "detected", "hd95", "nsd", "false_positive")]
ROW_HEADINGS = ("K", "method", DICE.heading, *(column.heading for column in _PLAIN_COLUMNS))


def _row_texts(row: MethodResult, *, uneven: bool) -> list[str]:
    """Return a row as it stands under `ROW_HEADINGS`; `uneven` adds `UNEVEN_COLUMNS` behind the Dice."""
    spread = "" if isnan(row.seed_spread) else f" {_BY_NAME['seed_spread'].text(row, PLAIN)} over seeds"
    compared = [str(row.n_lesion), full_interval(row.shared)] if uneven else []
    scores = (column.text(row, PLAIN) for column in _PLAIN_COLUMNS)
    return [str(row.shot), row.method, full_interval(row.dice) + spread, *compared, *scores]


def row_headings(*, uneven: bool) -> list[str]:
    """Return the headings of a table of rows, those of `UNEVEN_COLUMNS` among them where they are needed."""
    first, more = ROW_HEADINGS[:3], ROW_HEADINGS[3:]
    return [*first, *(column.heading for column in UNEVEN_COLUMNS if uneven), *more]


def table_of(rows: Sequence[MethodResult], title: str = "") -> Table:
    """Return the rows of one target, a section for each number of annotated images."""
    uneven = is_uneven(rows)
    sections = [place for place in range(1, len(rows)) if rows[place].shot != rows[place - 1].shot]
    texts = [_row_texts(row, uneven=uneven) for row in rows]
    return Table(row_headings(uneven=uneven), texts, best=best_rows(rows), sections=sections, title=title)


def target_table(part: TargetContent) -> Table:
    """Return the same below what the target has."""
    patients = counted(part.n_patients, "patient")
    return table_of(part.rows, f"{part.target}: {part.n_lesion} lesion and {part.n_normal} normal images of {patients}")


def best_rows(rows: Sequence[MethodResult]) -> frozenset[int]:
    """Return positions of the rows that are the best of their target at their number of shots and can be used.

    Controls and oracles never are, and floors only where a target has nothing else. Rows are as `summarise` gives them.
    """
    best: dict[tuple[str, int], int] = {}
    for target, group in groupby(enumerate(rows), key=lambda entry: entry[1].target):
        numbered = list(group)
        wanted = usable_role([row for _, row in numbered])
        for number, row in numbered:
            if row.role == wanted and not isnan(row.dice.estimate):
                best.setdefault((target, row.shot), number)
    return frozenset(best.values())


# The tables of the files: each has the dataset, the number of annotated images and the method first.
Entry = tuple[TableRecord, Sequence[str]]


def _table(name: str, title: str, headings: Iterable[str], entries: Iterable[Entry], best: Iterable[int] = ()) -> Table:
    records, texts = [], []
    for record, cells in entries:
        records.append(record)
        texts.append([record["target"], str(record["shot"]), record["method"], *cells])
    headings = ("dataset", "K", "method", *headings)
    return Table(headings, texts, best=frozenset(best), title=title, name=name, records=records)


def _difference(one: Comparison) -> tuple[dict[str, Any], list[str]]:
    """Return a paired difference with both p-values, as columns and to read."""
    interval, p = one.difference.interval, one.difference.p_value
    columns = {**interval_columns("difference", interval), "p_value": p, "corrected_p": one.corrected_p}
    return columns, [full_interval(interval, sign=True), p_value_text(p), p_value_text(one.corrected_p)]


def row_table(content: ReportContent) -> Table:
    """Return every row of every target."""
    rows = content.rows
    facts = ("role", "kind", "model", "trained_on", "control", "control_of")
    means = (*LESION_SCORES, *MILLIMETRE_SCORES, *NORMAL_SCORES)
    records = [
        {
            **row.key._asdict(),
            **{name: getattr(row, name) for name in facts},
            **interval_columns("dice", row.dice),
            **interval_columns("patient_dice", row.patient_dice),
            "seed_spread": row.seed_spread,
            "n_seeds": row.n_seeds,
            "n_lesion": row.n_lesion,
            **interval_columns("shared_dice", row.shared),
            "n_shared": row.n_shared,
            "n_normal": row.n_normal,
            **{name: row.scores.get(name, nan) for name in means},
        }
        for row in rows
    ]
    uneven = any(is_uneven(part.rows) for part in content.targets)
    entries = zip(records, (_row_texts(row, uneven=uneven)[2:] for row in rows), strict=True)
    return _table("rows", "Every method", row_headings(uneven=uneven)[2:], entries, best_rows(rows))


CLASSIC_HEADINGS = (
    "pooled mean-IoU",
    "pooled binary-IoU",
    "mean Dice per episode",
    "mean IoU per episode",
    "runs x episodes",
)


def _classic_texts(row: ClassicRow) -> list[str]:
    return [*(str(getattr(row, name)) for name in CLASSIC_SCORES), f"{row.n_runs} x {row.n_episodes}"]


def classic_table(content: ReportContent) -> Table:
    """Return what papers report, pooled and per episode."""
    entries = []
    for row in (row for part in content.targets for row in part.classic):
        record: dict[str, Any] = {"target": row.target, "method": row.method, "shot": row.shot}
        for name in CLASSIC_SCORES:
            score = getattr(row, name)
            record |= {name: score.mean, f"{name}_deviation": score.deviation}
        entries.append((record | {"n_runs": row.n_runs, "n_episodes": row.n_episodes}, _classic_texts(row)))
    return _table("classic", "As papers report it", CLASSIC_HEADINGS, entries)


def target_classic_table(part: TargetContent) -> Table:
    """Return the same of one target, without its name."""
    return Table(
        ("K", "method", *CLASSIC_HEADINGS), [[str(row.shot), row.method, *_classic_texts(row)] for row in part.classic]
    )


def comparison_table(content: ReportContent) -> Table:
    """Return every row beside the best one of its target."""
    entries = []
    for one in (one for part in content.targets for one in part.comparisons):
        columns, texts = _difference(one)
        best = {"role": one.row.role, "best": one.other.method, "best_shot": one.other.shot}
        entries.append((one.row.key._asdict() | best | columns, texts))
    headings = ("minus the best [95 %]", "p", "p, corrected")
    return _table("comparisons", "Every method beside the best", headings, entries)


def pair_table(content: ReportContent) -> Table:
    """Return the rows that two runs have, beside each other."""
    entries = []
    for key, one in content.pairs.items():
        columns, texts = _difference(one)
        names = {"first": one.other.method, "second": one.row.method}
        dice = interval_columns("first_dice", one.other.dice) | interval_columns("second_dice", one.row.dice)
        both = [full_interval(one.other.dice), full_interval(one.row.dice)]
        entries.append((key._asdict() | names | dice | columns, [*both, *texts]))
    headings = ("first run", "second run", "second minus first", "p", "p, corrected")
    return _table("pairs", "The two runs beside each other", headings, entries)


def _share_table(name: str, title: str, shares: Iterable[Share]) -> Table:
    entries = [
        (
            one.row.key._asdict() | {"group": one.group, "n_images": one.n_images} | interval_columns("dice", one.dice),
            [one.group, str(one.n_images), full_interval(one.dice)],
        )
        for one in shares
    ]
    return _table(name, title, ("lesions", "images", DICE.heading), entries)


def control_table(content: ReportContent) -> Table:
    """Return what every control costs its method."""
    entries = []
    for one in (one for part in content.targets for one in part.controls):
        columns, (loss, _, corrected) = _difference(one)
        masks = one.other.control or ""
        names = {"control": one.other.method, "masks": masks}
        entries.append((one.row.key._asdict() | names | columns, [masks, loss, corrected]))
    headings = ("masks", "loss of lesion Dice [95 %]", "p, corrected")
    return _table("controls", "With masks that say nothing", headings, entries)


def cost_table(content: ReportContent) -> Table:
    """Return seconds, memory and weights, means over training seeds."""
    headings = ("training, s", "adapting, s", "per image, ms", "memory, MiB", "weights, millions")
    units = {
        "training_seconds": (1, 0),
        "adapt_seconds": (1, 2),
        "image_seconds": (1000, 1),
        "peak_bytes": (2**-20, 0),
        "parameters": (1e-6, 2),
    }
    entries = []
    for record in (
        {"target": part.target, **asdict(cost)} for part in content.targets for cost in mean_costs(part.costs)
    ):
        scaled = ((record[name], factor, digits) for name, (factor, digits) in units.items())
        texts = [PLAIN.number(None if value is None else factor * value, digits) for value, factor, digits in scaled]
        entries.append((record, texts))
    return _table("costs", "What it costs", headings, entries)


def tables_of(content: ReportContent) -> list[Table]:
    """Return every table of a report that has rows, as its files have them."""
    parts = content.targets
    tables = [
        row_table(content),
        classic_table(content),
        comparison_table(content),
        pair_table(content),
        _share_table("sizes", "By size of the lesion", (one for part in parts for one in part.sizes)),
        _share_table("labels", "By kind of the lesion", (one for part in parts for one in part.labels)),
        control_table(content),
        cost_table(content),
    ]
    return [table for table in tables if table.records]


Line = Sequence[tuple[ScoreColumn, MethodResult] | None]
"""Of a table on the page: scores and the rows that they are of; None where a dataset lacks the row."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """Scores on the page, each with its numbers in full behind it."""

    heads: Sequence[tuple[str, str]]  # title and meaning of every column
    groups: Mapping[str, Sequence[Line]]  # the lines with each number of annotated images, by title
    best: Sequence[ResultKey]  # the highest lesion Dice at each number of shots; no floor, control or oracle


TAGS = {"floor": "floor", "control": "control", "oracle": "trained on it"}
"""Said on the page beside the names of rows that are no methods to use."""


def overview(content: ReportContent) -> PageTable:
    """Return the lesion Dice of every method on every dataset."""
    known = {(row.shot, row.method, row.target): row for row in content.rows}
    names = [part.target for part in content.targets]
    lines = [
        [(DICE, row) if (row := known.get((shot, method, name))) else None for name in names]
        for shot, method in dict.fromkeys((shot, method) for shot, method, _ in known)
    ]
    best = [key for part in content.targets for key in best_methods(part)]
    return PageTable([(name, "lesion Dice, mean over lesion images") for name in names], _grouped(lines), best)


def details(part: TargetContent) -> PageTable:
    """Return all scores of one dataset, as far as any row has them."""
    known = [one for one in SCORE_COLUMNS if one is DICE or any(not isnan(one.value(row)) for row in part.rows)]
    columns = known if is_uneven(part.rows) else [one for one in known if one not in UNEVEN_COLUMNS]
    lines = [[(column, row) for column in columns] for row in part.rows]
    return PageTable([(column.title, column.meaning) for column in columns], _grouped(lines), best_methods(part))


def best_methods(part: TargetContent) -> list[ResultKey]:
    """Return the rows with the highest lesion Dice at each number of shots; no floor, control or oracle."""
    best = (part.rows[place] for place in sorted(best_rows(part.rows)))
    return [row.key for row in best if row.role == "method"]


def _grouped(lines: Iterable[Line]) -> dict[str, list[Line]]:
    shots: dict[int, list[Line]] = {}
    for line in lines:
        shot = next(cell[1].shot for cell in line if cell)
        shots.setdefault(shot, []).append(line)
    return {f"with {annotated_images(shot)}": shots[shot] for shot in sorted(shots)}
