"""Reports that once said the opposite of the data, made anew from a results table as its user would."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from episodes.scoring.statistics import FEW_PATIENTS, crossed_bootstrap, paired_difference
from fewshot.cli import app
from fewshot.report.collect import content_of
from fewshot.report.content import Answer, ReportContent
from fewshot.report.sentences import describe_floor, describe_lead, describe_value_of_annotating, headline
from fewshot.report.tables import best_rows
from fewshot.results import comparison, summary
from fewshot.results.index import ResultsIndex
from fewshot.results.rows import write_table
from fewshot.results.run_files import RunFiles
from tests.fewshot.made_results import normal, scored, table

UNET = {"model": "unet", "kind": "zero-shot"}


def written(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A results table by itself, as somebody may have copied it."""
    path = folder / "results.parquet"
    write_table(path, table(*rows), {"benchmark": "t", "protocol": "support-draws", "targets": ["ours"]})
    return path


def reported(path: Path) -> tuple[str, dict[str, Any]]:
    """What `fewshot report` prints, and the summary that it writes."""
    result = CliRunner().invoke(app, ["report", str(path)])
    assert result.exit_code == 0, result.output
    return result.output, json.loads(path.with_name("summary.json").read_text(encoding="utf-8"))


def unpaired(draws: Sequence[Sequence[int]], gain: float, *, patients: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """A method that is better by the gain on every pair; each draw has the queries of some patients alone."""
    rng = np.random.default_rng(seed)
    hard = {(p, i): float(rng.uniform(0.05, 0.9)) for p in range(patients) for i in range(3)}
    zero = [scored(f"q{p}-{i}", dice, "U-Net", 0, -1, patient=f"p{p}", **UNET) for (p, i), dice in hard.items()]
    tuned = [
        scored(f"q{p}-{i}", hard[p, i] + gain, "U-Net fine-tuned", 5, draw, patient=f"p{p}")
        for draw, left in enumerate(draws)
        for p in left
        for i in range(3)
    ]
    return zero + tuned


def hardest(rows: Sequence[dict[str, Any]], count: int) -> list[int]:
    """The patients with the lowest Dice, which alone are in the draws: the plain mean over them is the lower one."""
    by_patient: dict[int, list[float]] = {}
    for row in rows:
        by_patient.setdefault(int(row["patient"][1:]), []).append(row["dice"])
    return sorted(by_patient, key=lambda patient: float(np.mean(by_patient[patient])))[:count]


def test_report_unpaired(tmp_path: Path) -> None:
    """Fine-tuned is 0.05 better on every pair, but is measured on the hardest patients."""
    left = hardest(unpaired([], 0.05), 6)
    rows = unpaired([left[:2], left[2:4], left[4:], left[1:3], left[3:5]], 0.05)
    printed, found = reported(written(tmp_path, rows))
    own = {row["method"]: row for row in found["rows"]}
    assert own["U-Net fine-tuned"]["dice"]["estimate"] < own["U-Net"]["dice"]["estimate"]
    assert own["U-Net fine-tuned"]["shared"]["estimate"] - own["U-Net"]["shared"]["estimate"] == pytest.approx(0.05)
    assert found["headline"].startswith("With 5 annotated images, U-Net fine-tuned gives ")
    five = found["answers"]["ours"][-1]
    assert (five["best"]["method"], five["gain"]["verdict"]) == ("U-Net fine-tuned", "higher")
    assert "the 5 images bring 0.05 [0.05, 0.05], a clear gain." in five["sentence"]
    assert five["sentence"].endswith("This is on the 18 of 36 lesion images that all of these rows have.")
    assert not any("no method gains" in warning for warning in found["warnings"])
    assert [row["n_lesion"] for row in found["rows"]] == [36, 18]
    assert "lesion images" in printed
    csv = (tmp_path / "tables/rows.csv").read_text(encoding="utf-8")
    assert "shared_dice" in csv.partition("\n")[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Annotating the images brings +0.05 over U-Net without any." in page
    assert "on the same" in page


def test_a_table_without_any_lesion_is_reported(tmp_path: Path) -> None:
    unknown = dict.fromkeys(("false_positive", "false_positive_area"), float("nan"))
    rows = [normal(f"n{method}", 0.0, 0.0, method=method) | unknown for method in "AB"]
    _, found = reported(written(tmp_path, rows))
    assert found["headline"].startswith("Nothing could be scored")
    assert not any("twice" in warning for warning in found["warnings"])


def test_a_sentence_about_k_images_is_about_these(tmp_path: Path) -> None:
    """With one image the method is nearly as good as without; with four, of which the sentence is, it is far worse."""
    rows = [scored(f"q{p}", 0.7, "U-Net", 0, -1, **UNET) for p in range(12)]
    for shot, dice in ((1, 0.69), (4, 0.5)):
        rows += [scored(f"q{p}", dice, "PANet", shot, draw) for draw in range(3) for p in range(12)]
    _, found = reported(written(tmp_path, rows))
    four = found["answers"]["ours"][-1]["sentence"]
    assert "your 4 annotated images bring nothing measurable" in four
    assert "The best that uses them, PANet, is 0.20 lower" in four


def several(**dice: dict[tuple[str, int], float]) -> ReportContent:
    """Some targets of twelve patients, with the Dice of every row there."""
    rows = [
        scored(f"{target}{p}", level + 0.01 * (p % 3), method, shot, draw, target=target)
        for target, own in dice.items()
        for (method, shot), level in own.items()
        for draw in (range(2) if shot else [-1])
        for p in range(12)
    ]
    return content_of(ResultsIndex(table(*rows)), "run", RunFiles())


def test_the_best_of_several_targets_may_use_no_image() -> None:
    content = several(a={("U", 0): 0.7, ("F", 5): 0.6}, b={("U", 0): 0.7, ("F", 5): 0.6})
    assert content.headline == (
        "With 5 annotated images at hand, U, which uses none of them, has the highest lesion Dice on average over 2"
        " datasets, 0.71. It leads on all of them, clearly ahead of every other method there."
    )
    content = several(a={("U", 0): 0.7, ("U", 5): 0.6}, b={("U", 0): 0.6, ("U", 5): 0.7})
    assert content.headline.startswith(
        "With 5 annotated images at hand, U, which uses none or 5 of them, has the highest"
    )


def test_one_method_alone_is_ahead_of_no_other() -> None:
    content = several(a={("U", 5): 0.7}, b={("U", 5): 0.6})
    assert content.headline.endswith(" over 2 datasets, 0.66. No other method was tried.")


# Whatever the numbers are, no sentence says the opposite of a paired difference.

METHODS = {"A": (1, 4), "B": (1, 4), "C": (0, 4), "D": (0,), "empty": (0,)}


@dataclass(frozen=True)
class Made:
    """A small study: methods differ a little, and each draw leaves its own patients."""

    seed: int
    methods: list[str]
    n_patients: int
    n_draws: int
    spread: float  # of the methods' levels
    missing: float  # share of the cells without a score

    def rows(self) -> list[dict[str, Any]]:
        rng = np.random.default_rng(self.seed)
        hard = rng.uniform(0.1, 0.9, (self.n_patients, 2))
        left = [rng.random(self.n_patients) < rng.uniform(0.2, 1.0) for _ in range(self.n_draws)]
        rows = [normal("n0", 0.0, 0.0, method="D", shot=0, draw=-1)]
        for name in self.methods:
            facts = {"model": None, "trained_on": None} if name == "empty" else {}
            for shot in METHODS[name]:
                level = rng.normal(0, self.spread)
                for draw in range(self.n_draws) if shot else [-1]:
                    for p, i in np.ndindex(self.n_patients, 2):
                        if (not shot or left[draw][p]) and rng.random() >= self.missing:
                            dice = float(np.clip(hard[p, i] + level + rng.normal(0, 0.3 * self.spread), 0, 1))
                            rows.append(scored(f"q{p}-{i}", dice, name, shot, draw, patient=f"p{p}", **facts))
        return rows


STUDIES = st.builds(
    Made,
    seed=st.integers(0, 2**32 - 1),
    methods=st.lists(st.sampled_from(sorted(METHODS)), min_size=1, unique=True),
    n_patients=st.integers(1, 8),
    n_draws=st.integers(1, 4),
    spread=st.sampled_from([0.0, 0.02, 0.3]),
    missing=st.sampled_from([0.0, 0.3]),
)


@pytest.fixture(autouse=True, scope="module")
def _few_resamples() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "crossed_bootstrap", partial(crossed_bootstrap, n_resamples=100))
        patch.setattr(comparison, "paired_difference", partial(paired_difference, n_resamples=200))
        yield


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STUDIES)
def test_no_sentence_contradicts_a_paired_difference(made: Made) -> None:
    rows = made.rows()
    content = content_of(ResultsIndex(table(*rows)), "run", RunFiles())
    (part,) = content.targets
    for answer in part.answers:
        means = paired_means(rows, answer)
        best = means[answer.best.method, answer.best.shot]
        assert best == pytest.approx(max(means.values()))
        assert best == pytest.approx(answer.dice.estimate)
        for one in answer.others:
            key = one.row.method, one.row.shot
            if key in means:
                assert one.interval.estimate == pytest.approx(means[key] - best, abs=1e-9)
        in_section = {key: mean for key, mean in means.items() if key[1] == answer.shot}
        starred = [part.rows[place] for place in best_rows(part.rows) if part.rows[place].shot == answer.shot]
        for row in starred:
            assert in_section[row.method, row.shot] == pytest.approx(max(in_section.values()))
        check_words(answer)


def paired_means(rows: list[dict[str, Any]], answer: Answer) -> dict[tuple[str, int], float]:
    """Mean Dice of the ranked rows over the draws and queries that all of them have, worked out by hand."""
    cells: dict[tuple[str, int], dict[tuple[int, str], float]] = {row.key[1:]: {} for row, _ in answer.ranked}
    draws = sorted({row["draw"] for row in rows if row["draw"] >= 0}) or [0]
    for row in rows:
        if row["lesion"] and (row["method"], row["shot"]) in cells:
            for draw in draws if row["draw"] < 0 else [row["draw"]]:
                cells[row["method"], row["shot"]][draw, row["query"]] = row["dice"]
    shared = set.intersection(*map(set, cells.values()))
    assert len({query for _, query in shared}) == answer.n_lesion
    means = {}
    for key, found in cells.items():
        queries: dict[str, list[float]] = {}
        for draw, query in shared:
            queries.setdefault(query, []).append(found[draw, query])
        means[key] = float(np.mean([np.mean(values) for values in queries.values()]))
    return means


def check_words(answer: Answer) -> None:
    """Strong words stand only where the interval carries them."""
    said = f"{answer.sentence} {describe_lead(answer)} {describe_value_of_annotating(answer)}"
    gain, lead = answer.gain, answer.lead
    intervals = [one.interval for one in (gain, lead, answer.floor) if one is not None]
    if re.search(r"\bclear", said.lower()):
        assert any(found.low > 0 or found.high < 0 for found in intervals)
    if "clear gain" in said:
        assert gain is not None
        assert gain.corrected_p < 0.05
        assert gain.interval.low > 0
    if "just as good" in said:
        assert any(found.low >= -0.021 and found.high <= 0.021 for found in intervals)
    if "your" in said and "nothing measurable" in said:
        assert all(one.interval.high <= 0.02 for one in answer.with_images)
    assert answer.floor is not None or "higher" not in answer.sentence.replace("highest", "")
    assert "nan" not in said


# What a sentence may not say, whatever the numbers are.

UNET_TUNED = {"model": "unet", "kind": "fine-tuned"}


def answer_of(*levels: tuple[str, int, float, dict[str, Any]], patients: int = 12, spread: float = 0.02) -> Answer:
    """The last answer of one dataset whose methods differ alike for every patient, but for a little."""
    rows = [
        scored(f"q{p}", dice + 0.01 * (p % 3) + spread * ((p * len(name)) % 5 - 2) / 10, name, shot, draw, **facts)
        for name, shot, dice, facts in levels
        for draw in (range(2) if shot else [-1])
        for p in range(patients)
    ]
    (part,) = content_of(ResultsIndex(table(*rows)), "run", RunFiles()).targets
    return part.answers[-1]


@pytest.mark.parametrize("patients", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("by", [0.0, 0.05, 0.2])
def test_few_patients_make_nothing_clear(patients: int, by: float) -> None:
    rows = [
        scored(f"q{p}-{i}", 0.6 + bonus, name, shot, draw, patient=f"p{p}", **facts)
        for name, shot, bonus, facts in (("U", 0, 0.0, UNET), ("F", 5, by, UNET_TUNED), ("P", 5, -by, UNET_TUNED))
        for draw in (range(5) if shot else [-1])
        for p in range(patients)
        for i in range(9)
    ]
    content = content_of(ResultsIndex(table(*rows)), "run", RunFiles())
    answer = content.targets[0].answers[-1]
    said = (
        f"{content.headline} {answer.sentence} {describe_lead(answer)} {describe_value_of_annotating(answer)}".lower()
    )
    strong = [word for word in ("clear", "just as good", "nothing", "brings +") if word in said]
    assert bool(strong) == (patients >= FEW_PATIENTS)
    warned = " ".join(content.warnings)
    assert ("too few for its intervals to be relied on" in warned) == (patients < FEW_PATIENTS)
    assert "just as good" not in warned or patients >= FEW_PATIENTS


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        (0.4, "But ellipse, which does not look at the image, is 0.20 higher"),
        (0.2, "But ellipse, which does not look at the image, is just as good"),
        (0.1, ""),
    ],
)
@pytest.mark.parametrize("tuned", [0.1, 0.2])
def test_an_answer_names_the_floor_that_it_does_not_beat(floor: float, said: str, tuned: float) -> None:
    ellipse = {"model": None, "trained_on": None, "kind": "centre-ellipse"}
    best = 0.2
    answer = answer_of(("U", 0, best, UNET), ("F", 5, tuned, UNET_TUNED), ("ellipse", 0, floor, ellipse), spread=0)
    for sentence in (headline([[answer]]), answer.sentence):
        assert said in sentence
        assert ("does not look" in sentence) == bool(said)
        assert ("use U as it is" in sentence) == (not said)
    assert describe_floor(answer).startswith(said)


@pytest.mark.parametrize(("wrong", "owed"), [(0.5, True), (0.7, False), (0.75, False)])
def test_a_gain_with_wrong_masks_is_not_said_to_come_from_the_right_ones(wrong: float, owed: bool) -> None:
    swapped = {"control": "swapped", "control_of": "P"}
    answer = answer_of(("U", 0, 0.5, UNET), ("P", 5, 0.7, {}), ("P swapped", 5, wrong, swapped), spread=0.001)
    end = "But P does as well with masks swapped: {} does not come from them."
    assert answer.sentence.endswith(end.format("that gain")) == (not owed)
    card = describe_value_of_annotating(answer)
    assert card == ("Annotating the images brings +0.20 over U without any." if owed else card)
    assert card.endswith(end.format("the gain of 0.20 over U without any")) == (not owed)


def test_a_card_does_not_deny_methods_of_other_numbers_of_images() -> None:
    rows = [scored(f"q{p}", 0.6, name, shot) for name, shot in (("F", 1), ("P", 5)) for p in range(12)]
    rows += [scored(f"q{p}", 0.5, "U", 0, -1, **UNET) for p in range(12)]
    (part,) = content_of(ResultsIndex(table(*rows)), "run", RunFiles()).targets
    without, one, _ = map(describe_lead, part.answers)
    assert without == "No other method was tried without annotated images."
    assert one == "No other method that reads annotated images was tried with so few."


def test_small_figures_are_not_rounded_to_nothing() -> None:
    answer = answer_of(("F", 5, 0.604, UNET_TUNED), ("P", 5, 0.6, {}), spread=0)
    assert "P, is 0.004 lower [0.004, 0.004]: a clear but small difference." in answer.sentence
    assert describe_lead(answer) == "Clearly better than P (by 0.004, a small difference)."
