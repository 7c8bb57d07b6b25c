"""Sizes, labels, patients and calibration, by hand and against pandas."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from episodes.scoring.curves import ProbabilityHistogram
from episodes.scoring.statistics import crossed_bootstrap
from fewshot.report.collect import by_label, by_patient, by_size, reliability
from fewshot.report.content import shown_rows
from fewshot.results.index import ResultKey, ResultsIndex
from fewshot.results.summary import MethodResult, summarise
from tests.fewshot.made_results import FLOOR, IMAGE_PIXELS, NO_BINS, ORACLE, normal, scored, study, table


def summary(results: pa.Table) -> tuple[ResultsIndex, list[MethodResult]]:
    index = ResultsIndex(results)
    return index, summarise(index, index.targets)


def nine(**facts: Any) -> list[dict[str, Any]]:
    """Lesions of 100, 200, ... 900 pixels of as many patients, with Dice 0.1 to 0.9."""
    return [scored(f"x{number}", number / 10, lesion_pixels=100 * number, **facts) for number in range(1, 10)]


# Which rows


def test_the_best_of_every_number_of_shots_come_first() -> None:
    rows = [scored("q1", dice, name, shot) for shot in (1, 2, 5) for name, dice in (("a", 0.6), ("b", 0.5), ("c", 0.4))]
    _, found = summary(table(*rows))
    assert [(row.method, row.shot) for row in shown_rows(found, most=4)] == [("a", 1), ("a", 2), ("a", 5), ("b", 5)]
    assert len(shown_rows(found)) == 6
    assert {row.method for row in shown_rows(found)} == {"a", "b"}


def test_floors_controls_and_oracles_are_not_broken_down() -> None:
    others = [
        scored("q1", 0.9, "floor", **FLOOR),
        scored("q1", 0.9, "oracle", **ORACLE),
        scored("q1", 0.9, "control", control="swapped", control_of="A"),
    ]
    _, found = summary(table(scored("q1", 0.5), *others))
    assert [row.method for row in shown_rows(found)] == ["A"]


# By size and label


def test_sizes_are_thirds_of_the_lesions() -> None:
    index, rows = summary(table(*nine()))
    shares, edges = by_size(index, rows)
    assert edges == pytest.approx(np.quantile(np.arange(1, 10) / 100, [1 / 3, 2 / 3]))
    assert [(share.group, share.n_images) for share in shares] == [("small", 3), ("medium", 3), ("large", 3)]
    assert [share.dice.estimate for share in shares] == pytest.approx([0.2, 0.5, 0.8])
    values = np.array([[0.1, 0.2, 0.3]])
    assert shares[0].dice == crossed_bootstrap(values, ["x1", "x2", "x3"], bounds=(0, 1))


def test_thirds_are_of_all_lesions_of_the_target_whichever_a_row_has() -> None:
    index, rows = summary(table(*nine(), *nine(method="B")[:4]))
    shares, _ = by_size(index, rows)
    assert [share.n_images for share in shares if share.row.method == "B"] == [3, 1]
    assert {share.group for share in shares if share.row.method == "B"} == {"small", "medium"}


def test_few_lesions_are_not_divided_by_size() -> None:
    index, rows = summary(table(*nine()[:-1]))
    assert by_size(index, rows) == ([], ())
    assert by_size(index, []) == ([], ())


def test_lesions_of_one_size_are_not_divided_by_it() -> None:
    for sizes in ([400] * 9, [400] * 8 + [500]):
        index, rows = summary(table(*(row | {"lesion_pixels": size} for row, size in zip(nine(), sizes, strict=True))))
        assert by_size(index, rows) == ([], ())


def test_lesions_are_divided_by_label_in_a_fixed_order() -> None:
    labels = ("malignant", "benign", "unknown", "benign")
    results = table(*(scored(f"x{place}", place / 10, label=label) for place, label in enumerate(labels)))
    index, rows = summary(results)
    found = [(share.group, share.n_images, share.dice.estimate) for share in by_label(index, rows)]
    assert found == [("benign", 2, pytest.approx(0.2)), ("malignant", 1, 0.0), ("unknown", 1, pytest.approx(0.2))]


def test_shares_are_those_of_a_group_by() -> None:
    results = study(patients=9, draws=2)
    index, rows = summary(results)
    frame = results.to_pandas()
    for share in by_label(index, shown_rows(rows)):
        row = share.row
        part = frame[frame.lesion & (frame.method == row.method) & (frame.shot == row.shot)]
        part = part[part.label == share.group]
        means = part.groupby(["draw", "query"]).dice.mean().groupby("query").mean()
        assert share.dice.estimate == pytest.approx(means.mean())
        assert share.n_images == len(means)


# By patient


def test_patients_are_means_of_their_lesions_means() -> None:
    rows = [scored("q1", 0.8), scored("q2", 0.2), scored("q3", 0.4), scored("q3", 0.2, draw=1), normal("n1", 0.0, 0.0)]
    index, summarised = summary(table(*rows, scored("q3", 0.9, "B")))
    found = by_patient(index, [row for row in summarised if row.method == "A"])
    assert found["A", 1] == pytest.approx([0.3, 0.5])  # p2: (0.4 + 0.2) / 2; p1: (0.8 + 0.2) / 2
    both = by_patient(index, summarised)  # on what both methods have, the first draw of q3
    assert both == {("A", 1): pytest.approx([0.4]), ("B", 1): pytest.approx([0.9])}


# Calibration


def test_probabilities_are_pooled_over_queries_draws_and_seeds() -> None:
    rng = np.random.default_rng(0)
    histogram, rows = ProbabilityHistogram(), []
    for query, draw, seed in (("q1", 0, 0), ("q3", 0, 0), ("q1", 1, 0), ("n1", 0, 1)):
        probabilities = rng.random(500).astype(np.float64)
        truths = (rng.random(500) < probabilities**2) & (query != "n1")
        histogram.add(probabilities, truths)
        single = ProbabilityHistogram(10)
        single.add(probabilities, truths)
        facts = {
            "bin_counts": (single.positives + single.negatives).tolist(),
            "bin_confidences": single.sums.tolist(),
            "bin_positives": single.positives.tolist(),
        }
        make = normal(query, 0.0, 0.0, draw=draw, seed=seed) if query == "n1" else scored(query, 0.5, draw=draw)
        rows.append(make | {"seed": seed} | facts)
    index, summarised = summary(table(*rows))
    found, expected = reliability(index, summarised)["A", 1], histogram.reliability(10)
    assert found.counts == expected.counts
    assert found.observed_frequencies == pytest.approx(expected.observed_frequencies)
    assert found.mean_confidences == pytest.approx(expected.mean_confidences, rel=1e-6)  # sums are float32
    assert found.expected_calibration_error == pytest.approx(expected.expected_calibration_error, rel=1e-5)


def test_an_empty_bin_is_unknown() -> None:
    index, rows = summary(table(scored("q1", 0.5, lesion_pixels=1000)))
    found = reliability(index, rows)["A", 1]
    assert found.counts == (IMAGE_PIXELS - 1000, *[0] * 8, 1000)
    assert math.isnan(found.mean_confidences[1])
    # 500 of 9000 pixels that are called 0.05 probable are lesion, and 500 of 1000 that are called 0.95
    assert found.observed_frequencies[0] == pytest.approx(500 / 9000)
    assert found.observed_frequencies[-1] == 0.5
    gaps = abs(500 - 0.05 * 9000) + abs(500 - 0.95 * 1000)
    assert found.expected_calibration_error == pytest.approx(gaps / IMAGE_PIXELS)


def test_rows_without_probabilities_are_left_out() -> None:
    index, rows = summary(table(scored("q1", 0.5), scored("q1", 0.1, "empty", **FLOOR)))
    assert list(reliability(index, rows)) == [("A", 1)]


def test_queries_without_probabilities_do_not_count() -> None:
    index, rows = summary(table(scored("q1", 0.5), scored("q3", 0.5, **NO_BINS)))
    assert sum(reliability(index, rows)["A", 1].counts) == IMAGE_PIXELS
    assert ResultKey("ours", "A", 1) == rows[0].key
