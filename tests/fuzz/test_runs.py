"""What a run leaves behind: results, costs, gallery and histories that are damaged before a report is made of them."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.report.collect import collect
from fewshot.report.drawings import draw
from fewshot.report.page import render
from fewshot.results.history import read_history
from fewshot.results.rows import read_table, table_facts
from fewshot.results.run_files import RESULTS, read_run_files
from tests.fewshot.made_results import made_run
from tests.fuzz.mutations import damaged, damaged_tree
from tests.fuzz.watched import fuzzing, require_read_or_refused

JSON_FILES = ("costs.json", "environment.json", "gallery/gallery.json")
HISTORY = [{"step": step, "loss": 1 / step, "rate": 0.1} for step in range(1, 5)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "made", patients=4, draws=2, seeds=(0,))


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def require_sane(run: Path, changed: str, content: bytes) -> None:
    """Damage one file of a run, collect what a report says, and put it back."""
    path = run / changed
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        require_read_or_refused(lambda: read_run_files(run, "made"), run, path)
    finally:
        path.write_bytes(whole)


def test_the_run_is_read_as_it_is(run: Path) -> None:
    content = collect(run)
    assert "<html" in render(content, draw(content))
    assert set(JSON_FILES) < set(files_of(run))


@fuzzing(30)
@given(st.data())
def test_damaged_files(run: Path, data: st.DataObject) -> None:
    changed = data.draw(st.sampled_from([name for name in files_of(run) if name != RESULTS]))
    require_sane(run, changed, data.draw(damaged((run / changed).read_bytes())))


@fuzzing(40)
@given(st.sampled_from(JSON_FILES), st.data())
def test_wrong_values(run: Path, changed: str, data: st.DataObject) -> None:
    tree = data.draw(damaged_tree(json.loads((run / changed).read_text())))
    require_sane(run, changed, json.dumps(tree).encode())


@fuzzing(100)
@given(st.data())
def test_a_damaged_results_table(run: Path, data: st.DataObject) -> None:
    place = run.parent / "damaged.parquet"
    place.write_bytes(data.draw(damaged((run / RESULTS).read_bytes())))

    def read() -> None:
        table_facts(read_table(place))

    require_read_or_refused(read, place)


@fuzzing(75)
@given(st.one_of(damaged("".join(json.dumps(line) + "\n" for line in HISTORY).encode()), damaged_tree(HISTORY)))
def test_a_damaged_history(run: Path, damage: object) -> None:
    place = run.parent / "metrics.jsonl"
    lines = damage if isinstance(damage, list) else [damage]
    content = damage if isinstance(damage, bytes) else "".join(json.dumps(line) + "\n" for line in lines).encode()
    place.write_bytes(content)
    require_read_or_refused(lambda: read_history(place), place)


def test_a_run_without_its_table_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / RESULTS).unlink()
    assert not require_read_or_refused(lambda: collect(copy), copy)
