"""Two runs on the same draws, and what is said where they are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.errors import UserError
from episodes.scoring.statistics import holm, paired_difference
from fewshot.report.pairing import pair_runs, run_names
from fewshot.results.rows import read_table
from fewshot.results.summary import summarise
from tests.fewshot.made_results import STUDY, made_run, study, write_draws_of

METHODS = [method for method in STUDY if method.name in ("U-Net", "U-Net fine-tuned")]
LESS = METHODS[1:]
SMALL: dict[str, Any] = {"patients": 6, "per_patient": 1, "normals": 2, "draws": 2, "seeds": (0,)}


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs; the second lacks the zero-shot row and is 0.1 better."""
    better = [type(method)(method.name, method.dice + 0.1, method.gain, 0.5, method.facts) for method in LESS]
    for name, methods in (("old", METHODS), ("new", better)):
        (tmp_path / name).mkdir()
        made_run(tmp_path / name, study(methods=methods, **SMALL))
    return tmp_path / "old", tmp_path / "new"


def test_rows_of_both_runs_stand_in_one_table(both: tuple[Path, Path]) -> None:
    content = pair_runs(*both)
    assert content.title == "old and new"
    (part,) = content.targets
    assert {(row.method, row.shot) for row in part.rows} == {
        ("old: U-Net", 0),
        *((f"{run}: U-Net fine-tuned", shot) for run in ("old", "new") for shot in (1, 5)),
    }
    assert part.answers[-1].best.method == "new: U-Net fine-tuned"
    assert {case.method.partition(":")[0] for case in part.cases} == {"old", "new"}
    assert {cost.method for cost in part.costs} == {row.method for row in part.rows}
    assert content.config.keys() == content.environment.keys() == {"old", "new"}
    assert content.facts["protocol"] == "support-draws"


def test_rows_that_both_have_are_compared_second_minus_first(both: tuple[Path, Path]) -> None:
    found = pair_runs(*both).pairs
    assert [(key.method, key.shot, pair.other.method, pair.row.method) for key, pair in found.items()] == [
        ("U-Net fine-tuned", shot, "old: U-Net fine-tuned", "new: U-Net fine-tuned") for shot in (1, 5)
    ]
    pairs = list(found.values())
    old, new = (read_table(folder / "results.parquet").to_pandas() for folder in both)

    def grid(frame: Any) -> Any:
        part = frame[frame.lesion & (frame.method == "U-Net fine-tuned") & (frame.shot == 5)]
        return part.pivot_table(index="draw", columns="query", values="dice")

    patients = [query.rpartition("-")[0] for query in grid(old).columns]
    values = (grid(frame).to_numpy() for frame in (new, old))
    expected = paired_difference(*values, patients, bounds=(-1, 1))
    assert pairs[1].difference == expected
    assert expected.interval.estimate == pytest.approx(0.1, abs=0.05)
    assert [pair.corrected_p for pair in pairs] == holm([pair.difference.p_value for pair in pairs])
    rows = summarise(read_table(both[0] / "results.parquet"), ["alpha"])
    assert pairs[1].other.dice == next(row.dice for row in rows if row.shot == 5)


def test_a_control_follows_its_methods_new_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made_run(tmp_path / name, study(**SMALL))
    (part,) = pair_runs(tmp_path / "a", tmp_path / "b").targets
    assert {(row.method, row.control_of) for row in part.rows if row.role == "control"} == {
        (f"{run}: PANet swapped", f"{run}: PANet") for run in ("a", "b")
    }
    assert {control.row.method for control in part.controls} == {"a: PANet", "b: PANet"}


def test_runs_of_the_same_name_go_by_their_folders(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "run").mkdir(parents=True)
        made_run(tmp_path / parent / "run", study(methods=LESS, **SMALL))
    assert pair_runs(tmp_path / "x" / "run", tmp_path / "y" / "run").title == "x/run and y/run"
    with pytest.raises(UserError, match="the same run twice"):
        run_names(tmp_path / "x" / "run", tmp_path / "y" / ".." / "x" / "run")


def test_another_working_size_is_warned_of(both: tuple[Path, Path]) -> None:
    made_run(both[1], study(methods=LESS, image_size=256, sources=["a", "b"], benchmark="new", **SMALL))
    content = pair_runs(*both)
    size, sources = content.warnings[:2]
    assert size.startswith("old and new work at different sizes, 128 and 256 pixels: distances in pixels (HD95, NSD)")
    assert sources == "old and new differ in sources: none and a, b."
    assert "image_size" not in content.facts


# What is refused


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _rewrite(path: Path, change: Callable[[list[Any]], object]) -> None:
    lines = _lines(path)
    change(lines)
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].update(records="ffff"), r"were drawn from other records \(0123456789abcdef and ffff\)"),
        (lambda lines: lines[0].update(seed=7), "differ: seed is 0 and 7"),
        (lambda lines: lines[0].update(depth=5), "differ: depth is 1 and 5"),
        (lambda lines: (lines[0].update(n_draws=1), lines.pop()), "differ: n_draws is 2 and 1"),
        (
            lambda lines: lines[2].update(support=["alpha/p3-0"]),
            r"in draw 1: support has alpha/p1-0 in the first and alpha/p3-0 in the second; only runs on the same draws",
        ),
        (
            lambda lines: lines[1]["queries"].pop(0),
            r"in draw 0: queries has alpha/normal0 in the first and none of them in the second",
        ),
    ],
)
def test_other_draws_are_refused_and_the_first_difference_is_named(
    both: tuple[Path, Path], change: Callable[[list[Any]], object], message: str
) -> None:
    _rewrite(both[1] / "draws-alpha.jsonl", change)
    with pytest.raises(UserError, match=message) as refusal:
        pair_runs(*both)
    assert "\n" not in str(refusal.value)
    assert str(both[0] / "draws-alpha.jsonl") in str(refusal.value)


def test_supports_in_another_order_are_refused(both: tuple[Path, Path]) -> None:
    for folder, order in zip(both, (("a", "b"), ("b", "a")), strict=True):
        _rewrite(folder / "draws-alpha.jsonl", lambda lines, order=order: lines[1].update(support=list(order)))
    with pytest.raises(UserError, match=r"draw 0: support has a, b in the first and b, a in the second"):
        pair_runs(*both)


def test_many_other_queries_are_counted(both: tuple[Path, Path]) -> None:
    _rewrite(both[1] / "draws-alpha.jsonl", lambda lines: lines[1].update(queries=[]))
    with pytest.raises(UserError, match=r"alpha/normal0, alpha/normal1, alpha/p1-0 and 4 more in the first"):
        pair_runs(*both)


def test_other_targets_and_protocols_are_refused(both: tuple[Path, Path]) -> None:
    made_run(both[1], study(("alpha", "beta"), methods=LESS, **SMALL))
    with pytest.raises(UserError, match=r"old and new cannot be paired: their targets differ, alpha and alpha, beta"):
        pair_runs(*both)
    made_run(both[1], study(methods=LESS, protocol="classic", **SMALL))
    with pytest.raises(UserError, match=r"their protocols differ, support-draws and classic"):
        pair_runs(*both)


def test_every_run_of_the_classic_protocol_has_its_manifest(both: tuple[Path, Path]) -> None:
    header = {"format": "fewshot-episodes", "version": 1, "records": "ab", "n_episodes": 1}
    episode = {"index": 0, "classes": ["lesion"], "support": [["x"]], "query": ["y"]}
    for folder in both:
        (folder / "draws-alpha.jsonl").unlink()
        for run in range(2):
            (folder / f"episodes-alpha-run{run}.jsonl").write_text(f"{json.dumps(header)}\n{json.dumps(episode)}\n")
    assert len(pair_runs(*both).pairs) == 2
    _rewrite(both[1] / "episodes-alpha-run1.jsonl", lambda lines: lines[1].update(query=["z"]))
    with pytest.raises(
        UserError, match=r"run1\.jsonl differ in episode 0: query has y in the first and z in the second"
    ):
        pair_runs(*both)
    (both[1] / "episodes-alpha-run1.jsonl").unlink()
    with pytest.raises(UserError, match=r"differ: episodes-alpha-run1\.jsonl and no such manifest"):
        pair_runs(*both)


def test_missing_and_damaged_manifests_are_named(both: tuple[Path, Path]) -> None:
    path = both[1] / "draws-alpha.jsonl"
    path.write_text("{}\n[]\n")
    with pytest.raises(UserError, match=r"draws-alpha\.jsonl: damaged"):
        pair_runs(*both)
    path.unlink()
    with pytest.raises(UserError, match=r"draws-alpha\.jsonl: there is no such manifest"):
        pair_runs(*both)


def test_the_made_manifest_holds_the_queries_of_the_results(both: tuple[Path, Path]) -> None:
    write_draws_of(both[0], "alpha", read_table(both[0] / "results.parquet"))
    header, first, _ = _lines(both[0] / "draws-alpha.jsonl")
    assert header["n_draws"] == 2
    frame = read_table(both[0] / "results.parquet").to_pandas()
    assert first["queries"] == sorted(np.unique(frame[frame.draw == 0]["query"]))
