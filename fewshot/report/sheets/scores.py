"""Scores of every row: over all lesions, as papers report them, and by size and label of the lesion."""

from collections.abc import Sequence
from itertools import groupby
from math import isnan, nan

from fewshot.report.classic import COLUMNS as CLASSIC_COLUMNS
from fewshot.report.classic import ClassicRow, classic_texts
from fewshot.report.content import ReportContent, Share
from fewshot.report.sheets.sheet import Record, Sheet, or_dash
from fewshot.results.summary import (
    LESION_SCORES,
    MILLIMETRE_SCORES,
    NORMAL_SCORES,
    Row,
    interval_columns,
    show,
    usable_role,
)

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
