"""How speed is measured and told: every figure with what is wanted of it, on any machine; README as it was measured."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import measurements, readme
from tests.benchmarks.machine import machine_facts
from tests.benchmarks.measurements import (
    Measurement,
    at_least,
    at_most,
    bytes_on_top,
    figure,
    interleaved,
    measured,
    not_measured,
)

QUICK = measured("quick.ratio", "a | b, times as fast", [12.0, 13.0, 14.0], "x", wanted=at_least(12))
SLOW = measured("slow.share", "... its share", [9.0], "%", wanted=at_most(8))
UNKNOWN = not_measured("unknown", "... of a library", "it is not installed", wanted=at_least(1))


def test_the_tables_of_readme_and_docs_are_those_of_the_results() -> None:
    for path, text in readme.documents(readme.read_settings()).items():
        assert path.read_text(encoding="utf-8") == text, "python -m tests.benchmarks.readme writes it"


def test_a_figure_is_the_median_of_its_repeats_and_knows_what_is_wanted() -> None:
    assert (QUICK.value, QUICK.low, QUICK.high, QUICK.repeats, QUICK.holds) == (13, 12, 14, 3, True)
    assert (SLOW.holds, SLOW.spread) == (False, "")
    assert (UNKNOWN.holds, UNKNOWN.note) == (None, "not measured here: it is not installed")
    assert Measurement.read(json.loads(json.dumps(asdict(QUICK)))) == QUICK


@pytest.mark.parametrize("values", [[], [1.0, float("inf")], [float("nan")]])
def test_what_is_no_figure_is_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError, match="key: measured"):
        measured("key", "what", values, "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.1234, "1.12x"),
        (0.456, "0.456x"),
        (1583.2, "1,580x"),
        (0, "0x"),
        (8e-8, "8e-8x"),
        (12, "12x"),
        (99.96, "100x"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value, "x") == text


def test_works_take_turns() -> None:
    order: list[str] = []
    first, second = interleaved(lambda: order.append("a"), lambda: order.append("b"), repeats=2)
    assert "".join(order) == "ababab"  # once more than is counted
    assert len(first) == len(second) == 2


def test_memory_of_a_work_is_its_own_or_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = 64 << 20
    found = bytes_on_top(lambda: np.ones(size, np.uint8))
    assert found is None or size * 0.9 < found < size * 1.5
    monkeypatch.setattr(measurements, "start_peak", lambda _: None)  # as where it may not be set back
    monkeypatch.setattr(measurements, "peak_bytes", lambda _: 2**40)
    assert bytes_on_top(lambda: np.ones(size, np.uint8)) is None
    monkeypatch.setattr(measurements, "STATUS", tmp_path / "none")
    assert bytes_on_top(list) is None


def fails() -> list[Measurement]:
    raise RuntimeError("no room")


@pytest.mark.parametrize(
    ("part", "status", "says"),
    [
        (lambda: [QUICK, UNKNOWN], 0, "1 of 2 figures are as wanted\nnot measured here: unknown"),
        (lambda: [QUICK, SLOW], 1, "1 of 2 figures are as wanted\nnot as wanted: slow.share"),
        (fails, 1, "0 of 0 figures are as wanted\nfailed: part"),
    ],
)
def test_the_status_tells_whether_all_hold(
    part: Callable[[], list[Measurement]],
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "PARTS", {"part": ("Part", part)})
    assert command.main([]) == status
    assert capsys.readouterr().out.endswith(f"{says}\n")


def test_results_are_joined_part_by_part_on_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "speed/threads-1.json"
    monkeypatch.setattr(command, "PARTS", {"one": ("One", lambda: [QUICK]), "two": ("Two", lambda: [SLOW])})
    assert command.main(["two", "--json", str(path)]) == 1
    assert command.main(["one", "--json", str(path)]) == 0
    results = json.loads(path.read_text(encoding="utf-8"))
    assert list(results["parts"]) == ["one", "two"]
    (setting,) = readme.read_settings(path.parent)
    assert list(setting.measurements.values()) == [QUICK, SLOW]
    table = readme.speed_table([setting], everything=False)
    assert "| a\\|b, times as fast | 13x | at least 12x |".replace("\\|", " \\| ") in table
    assert "| ... its share | 9 % (not held) | at most 8 % |" in table
    assert "13x (12x to 14x)" in readme.speed_table([setting], everything=True)
    results["machine"]["threads"] += 1
    path.write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        command.main(["one", "--json", str(path)])


def test_facts_of_a_machine_name_nobody() -> None:
    facts = machine_facts()
    assert set(facts) == {"processor", "cores", "instructions", "memory_gib", "threads", "python", "torch"}
    assert platform.node() not in json.dumps(facts)
