"""Results as people read them."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rich.table
from rich.console import Console

from episodes.scoring.statistics import Interval
from fewshot.report.classic import NOTE
from fewshot.report.collect import content_of
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.exports import BEST_NOTE, print_summary, write_markdown
from fewshot.report.pairing import pair_runs
from fewshot.report.sentences import describe_control
from fewshot.report.tables import target_table
from fewshot.results.index import ResultsIndex
from fewshot.results.run_files import RunFiles
from fewshot.results.summary import MethodResult
from tests.fewshot.made_results import made_run, normal, scored, study, table


def made_row(method: str, shot: int, dice: float, **changes: Any) -> MethodResult:
    scores = {"iou": dice / 2, "hd95": 12.34, "nsd": 0.5, "detected": 0.256, "false_positive": 0.1}
    interval = Interval(dice, dice - 0.05, dice + 0.05)
    facts: dict[str, Any] = {
        "target": "bus_uclm",
        "method": method,
        "shot": shot,
        "dice": interval,
        "seed_spread": math.nan,
        "scores": scores | {"precision": 0.0, "recall": 0.0, "false_positive_area": 0.0},
        "n_lesion": 264,
        "n_normal": 419,
        "control": None,
        "control_of": None,
        "kind": "prototypes",
        "model": "net",
        "trained_on": "sources",
        "patient_dice": interval,
        "seed_means": {0: dice},
        "n_seeds": 1,
        "shared": changes.get("dice", interval),
        "n_shared": 264,
    }
    return MethodResult(**(facts | changes))


ROWS = [
    made_row("U-Net", 0, 0.6),
    made_row("empty", 0, 0.0, model=None),
    made_row("PANet", 1, 0.59),
    made_row("U-Net fine-tuned", 1, 0.55),
]


def about(rows: list[MethodResult]) -> TargetContent:
    nothing: dict[str, Any] = {"answers": [], "comparisons": [], "controls": [], "patients": {}, "sizes": []}
    nothing |= {"size_edges": (), "labels": [], "reliability": {}}
    return TargetContent(target="bus_uclm", n_lesion=264, n_normal=419, n_patients=38, rows=rows, **nothing)


def printed(rows: list[MethodResult]) -> rich.table.Table:
    """A target's table as `print_summary` prints it."""
    shown: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "print", lambda _, *found, **__: shown.extend(found))
        print_summary(replace(made_content(), targets=[about(rows)]), [])
    (found,) = (one for one in shown if isinstance(one, rich.table.Table))
    return found


def markdown_table(rows: list[MethodResult]) -> str:
    return target_table(about(rows)).markdown(raw=True).partition("\n\n")[2]


def rendered(rows: list[MethodResult]) -> list[str]:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(printed(rows))
    return capture.get().splitlines()


def test_the_terminals_table_has_the_numbers_of_every_row() -> None:
    lines = rendered(ROWS)
    assert lines[0].strip() == "bus_uclm: 264 lesion and 419 normal images of 38 patients"
    (line,) = (line for line in lines if "PANet" in line)
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["1", "PANet *", "0.590 [0.540, 0.640]", "0.295", "26%", "12.3", "0.500", "10%"]


def test_numbers_of_shots_are_kept_apart() -> None:
    lines = rendered(ROWS)
    where = {name: next(i for i, line in enumerate(lines) if f" {name} " in line) for name in ("empty", "PANet")}
    assert [line[0] for line in lines[where["empty"] + 1 : where["PANet"]]] == ["├"]


def test_the_best_is_starred_where_bold_is_lost() -> None:
    lines = rendered(ROWS)
    assert [line.split("│")[2].strip() for line in lines if " * " in line and "│" in line] == ["U-Net *", "PANet *"]
    assert lines[-1].strip() == BEST_NOTE


def test_a_methods_name_is_no_markup() -> None:
    (line,) = (line for line in rendered([made_row("PANet [bold]", 1, 0.5)]) if "0.500 [" in line)
    assert "PANet [bold] *" in line


def test_markdown_marks_the_best_of_each_number_of_shots() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert lines[0] == "| K | method | lesion Dice [95 %] | IoU | found | HD95 | NSD | normals with a false lesion |"
    assert lines[1].count("|") == lines[0].count("|")
    assert lines[2].startswith("| **0** | **U-Net** | **0.600 [0.550, 0.650]** |")
    assert lines[3].startswith("| 0 | empty | 0.000 [-0.050, 0.050] | 0.000 |")
    marked = [line.startswith(f"| **{shot}** |") for line, shot in zip(lines[2:], "0011", strict=True)]
    assert marked == [True, False, True, False]


@pytest.mark.parametrize("facts", [{"control": "swapped", "control_of": "PANet"}, {"trained_on": "target"}])
def test_a_control_or_oracle_is_never_marked_however_high_it_scores(facts: dict[str, str]) -> None:
    rows = [*ROWS[:2], made_row("other", 1, 0.7, **facts), *ROWS[2:], made_row("another", 5, 0.7, **facts)]
    marked = [line.split("|")[2].strip() for line in markdown_table(rows).splitlines() if "**" in line]
    assert marked == ["**U-Net**", "**PANet**"]
    shown = printed(rows)
    names = [str(name) for name in shown.columns[1].cells]
    assert [name for name, row in zip(names, shown.rows, strict=True) if row.style == "bold"] == ["U-Net *", "PANet *"]
    assert [name.removesuffix(" *") for name in names] == [row.method for row in rows]


def test_the_spread_over_seeds_is_shown_where_there_are_several() -> None:
    assert "0.590 [0.540, 0.640] ±0.012 over seeds" in markdown_table([made_row("PANet", 1, 0.59, seed_spread=0.0123)])


def test_a_dataset_without_normals_has_no_false_lesions_to_show() -> None:
    scores = ROWS[0].scores | {"false_positive": math.nan}
    assert markdown_table([made_row("U-Net", 0, 0.6, scores=scores)]).splitlines()[-1].endswith("| **-** |")


# What is printed


def made_content(**facts: Any) -> ReportContent:
    """Two methods and a control on four lesions of four patients and a normal."""
    control = {"control": "swapped", "control_of": "PANet"}
    rows = [
        row
        for method, shot, draw, dice, known in (
            ("U-Net", 0, -1, 0.4, {}),
            ("PANet", 1, 0, 0.7, {}),
            ("PANet swapped", 1, 0, 0.5, control),
        )
        for row in (
            *(scored(f"x{n}", dice + n / 100, method, shot, draw, target="mine", **known) for n in range(4)),
            normal("n1", 0.0, 0.0, method=method, shot=shot, draw=draw, target="mine", **known),
        )
    ]
    return content_of(ResultsIndex(table(*rows, **facts)), "run", RunFiles())


def test_the_printed_summary_begins_with_the_answer_and_ends_with_the_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = made_content()
    files = [Path("/runs/[old]") / ("deep" * 40) / "results.parquet", Path("summary.json")]
    print_summary(content, files)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == content.headline  # on one line
    assert lines[0].startswith("With 1 annotated image, PANet gives 0.71 lesion Dice [")
    assert lines[2].strip() == "mine: 4 lesion and 1 normal images of 5 patients"
    assert lines[-1] == f"Results: {files[0]}, summary.json"  # on one line, brackets and all
    said = [answer.sentence for answer in content.targets[0].answers]
    said += [describe_control(control) for control in content.targets[0].controls]
    said += [f"Note: {warning}" for warning in content.warnings]
    assert [line for line in lines[1:] if line in said] == said
    assert len(said) == 2 + 1 + len(content.warnings) > 4


def test_nothing_but_text_is_printed_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_summary(made_content(), [])
    assert "\x1b" not in capsys.readouterr().out


def test_the_markdown_file_has_the_headline_then_every_targets_table_and_answers(tmp_path: Path) -> None:
    content = made_content()
    path = write_markdown(tmp_path, content)
    text = path.read_text()
    assert path == tmp_path / "summary.md"
    assert text.startswith(f"{content.headline}\n\n## mine: 4 lesion and 1 normal images of 5 patients\n\n| K |")
    part = content.targets[0]
    assert target_table(part).markdown(raw=True).partition("\n\n")[2] in text
    places = [text.rindex(answer.sentence) for answer in part.answers]
    places += [text.index(describe_control(control)) for control in part.controls]
    places += [text.index(f"Note: {warning}") for warning in content.warnings]
    assert places == sorted(places)


def test_the_papers_scores_are_shown_under_the_classic_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = made_content(protocol="classic")
    print_summary(content, [])
    printed = " ".join(capsys.readouterr().out.split())
    assert "pooled mean-IoU" in printed
    assert "no interval for new patients" in printed
    assert NOTE in write_markdown(tmp_path, content).read_text()
    assert "pooled" not in write_markdown(tmp_path, replace(content, targets=made_content().targets)).read_text()


def test_two_runs_are_shown_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        made_run(tmp_path / name, study(patients=4, per_patient=1, normals=1, seeds=(0,)))
    content = pair_runs(tmp_path / "old", tmp_path / "new")
    print_summary(content, [])
    printed = capsys.readouterr().out
    assert "The two runs beside each other" in printed
    assert "+0.000 [+0.000, +0.000]" in printed
    assert "# The two runs beside each other" in write_markdown(tmp_path, content).read_text()
