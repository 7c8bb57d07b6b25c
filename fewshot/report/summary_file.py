"""`summary.json`: a report's numbers and sentences for machines."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from episodes.files import write_text
from fewshot.report.content import Answer, Control, ReportContent, Share, TargetContent
from fewshot.report.sheets.differences import comparison_sheet, pair_sheet
from fewshot.results.summary import Row, without_nan

SUMMARY = "summary.json"


def write_summary(folder: Path, content: ReportContent) -> Path:
    """Write all of a report but its pictures, configuration and environment as strict JSON, NaN as null.

    Returns:
        The file written.
    """
    path = folder / SUMMARY
    write_text(path, json.dumps(without_nan(summary_of(content)), indent=1, allow_nan=False) + "\n")
    return path


def summary_of(content: ReportContent) -> dict[str, Any]:
    """The same as a tree of dictionaries and lists; NaN where something is unknown."""
    parts = content.targets
    return {
        "title": content.title,
        "headline": content.headline,
        "warnings": list(content.warnings),
        "facts": dict(content.facts),
        "answers": {part.target: [_answer(answer) for answer in part.answers] for part in parts},
        "images": {
            part.target: {"lesion": part.n_lesion, "normal": part.n_normal, "patients": part.n_patients}
            for part in parts
        },
        "rows": [asdict(row) | {"role": row.role} for part in parts for row in part.rows],
        "comparisons": list(comparison_sheet(content).records),
        "controls": [_control(control) for part in parts for control in part.controls],
        "size_edges": {part.target: list(part.size_edges) for part in parts},
        "sizes": [_share(share) for part in parts for share in part.sizes],
        "labels": [_share(share) for part in parts for share in part.labels],
        "calibration": [entry for part in parts for entry in _calibration(part)],
        "classic": [asdict(row) for part in parts for row in part.classic],
        "pairs": list(pair_sheet(content).records),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "shot": answer.shot,
        "sentence": answer.sentence,
        "best": _row(answer.best),
        "rival": _row(answer.rival),
        "lead": None if answer.lead is None else asdict(answer.lead),
        "without": _row(answer.without),
        "gain": None if answer.gain is None else asdict(answer.gain),
    }


def _row(row: Row | None) -> dict[str, Any] | None:
    """What names a row of `rows`, and its Dice."""
    return None if row is None else {"method": row.method, "shot": row.shot, "dice": asdict(row.dice)}


def _control(control: Control) -> dict[str, Any]:
    return {**asdict(control.controlled), "sentence": control.sentence}


def _share(share: Share) -> dict[str, Any]:
    named = {"target": share.row.target, "method": share.row.method, "shot": share.row.shot}
    return {**named, "group": share.group, "n_images": share.n_images, "dice": asdict(share.dice)}


def _calibration(part: TargetContent) -> list[dict[str, Any]]:
    return [
        {"target": part.target, "method": method, "shot": shot, **asdict(found)}
        for (method, shot), found in part.reliability.items()
    ]
