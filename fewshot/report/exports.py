"""A report as files: tables, a summary, and what the terminal shows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from episodes.io.files import write_text
from fewshot.report.classic import NOTE
from fewshot.report.content import Answer, ReportContent, Share, TargetContent
from fewshot.report.sentences import describe_control
from fewshot.report.tables import (
    DICE,
    classic_table,
    comparison_table,
    pair_table,
    tables_of,
    target_classic_table,
    target_table,
)
from fewshot.results.comparison import Compared, Comparison
from fewshot.results.numbers import full_interval, p_value_text
from fewshot.results.summary import MethodResult, is_uneven, without_nan
from fewshot.results.tables import Table
from fewshot.terminal import output_console, print_line

SUMMARY = "summary.json"
MARKDOWN = "summary.md"
BEST_NOTE = "* best with as many annotated images; floors, controls and oracles are not for use"


def write_tables(content: ReportContent, folder: Path) -> list[Path]:
    """Write every table of a report as CSV, with numbers in full, and to read as Markdown and LaTeX."""
    files = []
    for table in tables_of(content):
        for suffix, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
            files.append(folder / f"{table.name}.{suffix}")
            write_text(files[-1], text)
    return files


def write_summary(folder: Path, content: ReportContent) -> Path:
    """Write all of a report but its pictures, configuration and environment as strict JSON, NaN as null."""
    path = folder / SUMMARY
    write_text(path, json.dumps(without_nan(summary_of(content)), indent=1, allow_nan=False) + "\n")
    return path


def summary_of(content: ReportContent) -> dict[str, Any]:
    """Return the same as a tree of dictionaries and lists; NaN where something is unknown."""
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
        "comparisons": list(comparison_table(content).records),
        "controls": [_control(one) for part in parts for one in part.controls],
        "size_edges": {part.target: list(part.size_edges) for part in parts},
        "sizes": [_share(share) for part in parts for share in part.sizes],
        "labels": [_share(share) for part in parts for share in part.labels],
        "calibration": [
            {"target": part.target, "method": method, "shot": shot, **asdict(found)}
            for part in parts
            for (method, shot), found in part.reliability.items()
        ],
        "classic": [asdict(row) for part in parts for row in part.classic],
        "pairs": list(pair_table(content).records),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "shot": answer.shot,
        "sentence": answer.sentence,
        "n_lesion": answer.n_lesion,
        "n_patients": answer.n_patients,
        "best": _row(answer.best) | {"dice": asdict(answer.dice)},
        "ranked": [_row(row) | {"dice": mean} for row, mean in answer.ranked],
        "rival": None if answer.lead is None else _row(answer.lead.other),
        "lead": _comparison(answer.lead),
        "without": None if answer.gain is None else _row(answer.gain.other),
        "gain": _comparison(answer.gain),
        "left_out": [_row(row) for row in answer.left_out],
    }


def _row(row: MethodResult) -> dict[str, Any]:
    """Return what names a row of `rows`."""
    return {"method": row.method, "shot": row.shot}


def _comparison(one: Comparison | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one.difference) | {"corrected_p": one.corrected_p, "verdict": one.verdict}


def _control(one: Comparison) -> dict[str, Any]:
    names = {"control": one.other.method, "masks": one.other.control, "sentence": describe_control(one)}
    difference = {"difference": asdict(one.difference), "corrected_p": one.corrected_p}
    return {"target": one.row.target, **_row(one.row), **names, **difference}


def _share(share: Share) -> dict[str, Any]:
    names = {"target": share.row.target, **_row(share.row), "group": share.group}
    return {**names, "n_images": share.n_images, "dice": asdict(share.dice)}


def write_markdown(folder: Path, content: ReportContent) -> Path:
    """Write `summary.md`: the headline, then each target's table, answers and what its controls say, then warnings."""
    parts = [f"{content.headline}\n", *(text for part in content.targets for text in _markdown_parts(part))]
    if content.pairs:
        parts.append(pair_table(content).markdown())
    parts += [f"Note: {warning}\n" for warning in content.warnings]
    path = folder / MARKDOWN
    write_text(path, "\n".join(parts))
    return path


def _markdown_parts(part: TargetContent) -> Iterator[str]:
    table = target_table(part)
    yield f"## {table.title}\n"
    yield replace(table, title="").markdown(raw=True)
    if part.classic:
        yield f"{target_classic_table(part).markdown(raw=True)}\n{NOTE}\n"
    yield from (f"{line}\n" for line in _conclusions(part))


def _conclusions(part: TargetContent) -> list[str]:
    """Return the answers from few to many annotated images, then a sentence about every control."""
    return [*(answer.sentence for answer in part.answers), *map(describe_control, part.controls)]


def differences_table(compared: Sequence[Compared], reference: str) -> Table:
    """Return each row's lesion Dice and its paired differences; p-values as they are, and corrected."""
    uneven = is_uneven([one.row for one in compared])
    headings = ("K", "method", DICE.heading, f"minus {reference}", "minus itself at K = 0")
    texts = [
        [
            str(one.row.shot),
            one.row.method,
            full_interval(one.row.dice) + (f" of {one.row.n_lesion} lesions" if uneven else ""),
            *map(_difference_text, (one.to_reference, one.to_zero)),
        ]
        for one in compared
    ]
    return Table(headings, texts)


def _difference_text(found: Comparison | None) -> str:
    if found is None:
        return ""
    difference = full_interval(found.difference.interval, sign=True)
    raw, corrected = p_value_text(found.difference.p_value), p_value_text(found.corrected_p)
    return f"{difference}, p = {raw}, corrected {corrected}".replace("= <", "< ")


def print_summary(content: ReportContent, files: Sequence[Path]) -> None:
    """Print the headline, each target's table and what it says, warnings, then where the results are."""
    console = output_console()
    _print_sentence(console, content.headline, style="bold")
    console.print()
    for part in content.targets:
        table = target_table(part)
        console.print(table.terminal(caption=BEST_NOTE, mark=" *", unbroken=table.headings[:-1]))
        for line in _conclusions(part):
            _print_sentence(console, line)
        console.print()
    for table, caption in ((classic_table(content), NOTE), (pair_table(content), None)):
        if table.records:
            console.print(table.terminal(caption=caption))
            console.print()
    for warning in content.warnings:
        _print_sentence(console, f"Note: {warning}")
    print_line(console, f"Results: {', '.join(map(str, files))}")


def _print_sentence(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence, on a terminal wrapped between words, elsewhere on a line of its own."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)
