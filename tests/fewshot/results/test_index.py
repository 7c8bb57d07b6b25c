"""The sorted table gives what a plain group-by in pandas gives."""

import math

import numpy as np
import pandas as pd
import pytest

from fewshot.results.index import GRID_SCORES, ResultKey, ResultsIndex, mean_of_known
from fewshot.results.summary import LESION_SCORES, MILLIMETRE_SCORES, NORMAL_SCORES, summarise
from tests.fewshot.made_results import normal, scored, study, table

STUDY = study(("alpha", "beta"), patients=5, normals=3)
INDEX = ResultsIndex(STUDY)
FRAME = STUDY.to_pandas()


def test_the_rows_are_those_of_the_table() -> None:
    expected = FRAME[["target", "method", "shot"]].drop_duplicates().itertuples(index=False)
    assert {key for target in INDEX.targets for key in INDEX.keys(target)} == {ResultKey(*row) for row in expected}
    assert INDEX.targets == ["alpha", "beta"]
    assert INDEX.keys("alpha") == sorted(INDEX.keys("alpha"))


@pytest.mark.parametrize("lesion", [True, False])
def test_every_score_is_in_its_place(lesion: bool) -> None:
    key = ResultKey("beta", "U-Net fine-tuned", 5)
    grid = INDEX.grid(key, lesion=lesion)
    part = FRAME[(FRAME.target == key.target) & (FRAME.method == key.method) & (FRAME.shot == key.shot)]
    part = part[part.lesion == lesion]
    assert grid.seeds.tolist() == [0, 1, 2]
    assert grid.draws.tolist() == [0, 1, 2]
    for name in GRID_SCORES:
        expected = np.full(grid.scores[name].shape, np.nan)
        for _, row in part.iterrows():
            expected[row.seed, row.draw, grid.queries.ids.index(row["query"])] = row[name]
        np.testing.assert_array_equal(grid.scores[name], expected)


def test_queries_are_described_by_the_table() -> None:
    queries = INDEX.queries("alpha", lesion=True)
    frame = FRAME[(FRAME.target == "alpha") & FRAME.lesion].drop_duplicates("query").sort_values("query")
    assert list(queries.ids) == frame["query"].tolist()
    assert list(queries.patients) == frame.patient.tolist()
    assert list(queries.labels) == frame.label.tolist()
    np.testing.assert_allclose(queries.lesion_shares, frame.lesion_pixels / frame.image_pixels)
    assert len(INDEX.queries("beta", lesion=False).ids) == 3


def test_means_are_those_of_a_group_by() -> None:
    keys = ["target", "method", "shot"]
    by_query = FRAME.groupby([*keys, "lesion", "draw", "query"]).mean(numeric_only=True)  # over training seeds
    by_query = by_query.groupby([*keys, "lesion", "query"]).mean()
    means = by_query.groupby([*keys, "lesion"]).mean()
    for row in summarise(INDEX, INDEX.targets):
        lesions, normals = means.loc[(*row.key, True)], means.loc[(*row.key, False)]
        assert row.dice.estimate == pytest.approx(lesions.dice)
        for name in (*LESION_SCORES, *MILLIMETRE_SCORES):
            assert row.scores[name] == pytest.approx(lesions[name]), name
        for name in NORMAL_SCORES:
            assert row.scores[name] == pytest.approx(normals[name]), name


def test_means_of_patients_and_seeds_are_those_of_a_group_by() -> None:
    for row in summarise(INDEX, ["alpha"]):
        part = FRAME[(FRAME.target == "alpha") & (FRAME.method == row.method) & (FRAME.shot == row.shot) & FRAME.lesion]
        queries = part.groupby(["patient", "query", "draw"]).dice.mean().groupby(["patient", "query"]).mean()
        assert row.patient_dice.estimate == pytest.approx(queries.groupby("patient").mean().mean())
        by_seed = part.groupby(["seed", "query"]).dice.mean().groupby("seed").mean()
        assert row.seed_means == pytest.approx(by_seed.to_dict())
        assert row.n_lesion == part["query"].nunique()


def test_a_query_that_comes_twice_in_a_run_has_its_mean() -> None:
    rows = [scored("q1", 0.2, episode=0), scored("q1", 0.6, episode=1), scored("q3", 0.5, episode=1)]
    grid = ResultsIndex(table(*rows)).grid(ResultKey("ours", "A", 1))
    assert grid.scores["dice"].tolist() == [[[0.4, 0.5]]]


def test_a_row_without_lesions_has_no_means() -> None:
    index = ResultsIndex(table(normal("n1", 1.0, 0.1), normal("n1", 0.0, 0.0, method="B"), scored("q1", 0.5, "B")))
    grid = index.grid(ResultKey("ours", "A", 1))
    assert grid.scores["dice"].shape == (0, 0, 1)
    assert math.isnan(grid.mean("dice"))
    assert grid.n_scored("dice") == 0


def test_facts_and_parts_are_those_of_the_row() -> None:
    key = ResultKey("alpha", "PANet swapped", 1)
    assert (INDEX.fact(key, "control"), INDEX.fact(key, "control_of")) == ("swapped", "PANet")
    part = INDEX.part(key, ["method", "shot"]).to_pandas()
    expected = FRAME[(FRAME.target == "alpha") & (FRAME.method == key.method) & (FRAME.shot == 1)]
    assert len(part) == len(expected)
    assert set(part.itertuples(index=False, name=None)) == {("PANet swapped", 1)}


def test_the_mean_of_nothing_is_unknown() -> None:
    values = np.array([[0.5, np.nan], [np.nan, np.nan]])
    assert pd.isna(mean_of_known(values, axis=0)).tolist() == [False, True]
    assert mean_of_known(values, axis=1)[0] == 0.5
