"""Means on many resamples at once against a loop over lists of patients and draws."""

import numpy as np
import pytest

from episodes.scoring.bootstrap import FloatArray, IntArray, Unit, chunks, counts, resample, tabulate
from tests.episodes.made_studies import literal_mean, study


def scored(seed: int) -> tuple[FloatArray, list[str], list[str], IntArray]:
    """A study without the query that has no score: values, whose they are, the patients' names, and their indices."""
    values, patients = study(seed)
    values, patients = values[:, 1:], patients[1:]
    names, owners = np.unique(patients, return_inverse=True)
    return values, patients, names.tolist(), owners


@pytest.mark.parametrize("unit", ["image", "patient"])
@pytest.mark.parametrize("seed", range(5))
def test_means_equal_a_loop_over_resampled_lists(seed: int, unit: Unit) -> None:
    values, patients, names, owners = scored(seed)
    rng = np.random.default_rng(seed)
    held = rng.integers(len(names), size=(40, len(names)))
    draws = rng.integers(len(values), size=(40, len(values)))
    means = tabulate(values, owners, unit).means(
        np.array([np.bincount(row, minlength=len(names)) for row in held]),
        np.array([np.bincount(row, minlength=len(values)) for row in draws]),
    )
    expected = [
        literal_mean(values, patients, [names[place] for place in row], chosen.tolist(), unit)
        for row, chosen in zip(held, draws, strict=True)
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-12)


@pytest.mark.parametrize("n_draws", [1, 2, 15, 16, 70])
def test_resamples_of_few_and_of_many_draws_are_averaged_alike(n_draws: int) -> None:
    """The most that a draw can count is as often as there are draws, for the first, the last and any other."""
    rng = np.random.default_rng(n_draws)
    values, owners = rng.random((n_draws, 9)), np.repeat([0, 1, 2], 3)
    patients = counts(rng, 3, n_draws + 40)
    draws = np.vstack([n_draws * np.eye(n_draws, dtype=np.int64), counts(rng, n_draws, 40)])
    of_patients = (draws @ values / n_draws).reshape(-1, 3, 3).mean(axis=2)
    expected = (of_patients * patients).sum(axis=1) / 3
    np.testing.assert_allclose(tabulate(values, owners).means(patients, draws), expected, rtol=1e-12)


@pytest.mark.parametrize("unit", ["image", "patient"])
def test_resamples_are_spread_as_those_of_a_loop_with_its_own_random_numbers(unit: Unit) -> None:
    values, patients, names, owners = scored(0)
    rng = np.random.default_rng(99)
    means = [
        literal_mean(
            values, patients, rng.choice(names, len(names)).tolist(), rng.integers(len(values), size=4).tolist(), unit
        )
        for _ in range(2000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    found = np.quantile(resample(tabulate(values, owners, unit), 20_000, seed=0), [0.025, 0.975])
    assert found == pytest.approx((low, high), abs=0.06 * (high - low))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, _, names, owners = scored(1)
    table = tabulate(values, owners)
    whole = resample(table, 100, seed=0)
    monkeypatch.setattr("episodes.scoring.bootstrap.CHUNK", 7 * len(names))
    np.testing.assert_array_equal(resample(table, 100, seed=0), whole)


def test_a_resample_that_is_wider_than_a_chunk_is_a_chunk_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("episodes.scoring.bootstrap.CHUNK", 20)
    assert list(chunks(3, 50)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert list(chunks(5, 10)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_queries_of_one_patient_in_the_same_draws_are_added_up() -> None:
    """Of patient 0 two queries in both draws and one in the second alone; of patient 1 a single query."""
    values = np.array([[0.1, 0.2, 0.8, np.nan], [0.3, 0.5, 0.9, 0.7]])
    table = tabulate(values, np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(table.sums, [[0, 0.3, 0.8], [0.7, 0.8, 0.9]])
    np.testing.assert_array_equal(table.present, [[0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(table.sizes, [1, 2, 1])
    np.testing.assert_array_equal(table.starts, [0, 2])
    assert table.mean() == pytest.approx((0.2 + 0.35 + 0.85 + 0.7) / 4)


def test_each_thing_is_drawn_once_on_average_and_all_draws_are_made() -> None:
    drawn = counts(np.random.default_rng(0), 7, 4000)
    assert drawn.shape == (4000, 7)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.07)  # 4 standard errors
    np.testing.assert_allclose(drawn.var(axis=0), 6 / 7, atol=0.12)


def test_a_resample_without_any_score_has_no_mean() -> None:
    """Each query is in one draw only: patient 0 with draw 1 alone has nothing to average."""
    values = np.array([[0.2, np.nan], [np.nan, 0.8]])
    table = tabulate(values, np.array([0, 1]))
    means = table.means(np.array([[2, 0], [2, 0]]), np.array([[0, 2], [1, 1]]))
    np.testing.assert_array_equal(means, [np.nan, 0.2])
    kept = resample(table, 800, seed=0)
    assert set(kept.round(12)) == {0.2, 0.5, 0.8}
    assert kept.size == pytest.approx(700, abs=40)  # an eighth of the resamples is without any score
