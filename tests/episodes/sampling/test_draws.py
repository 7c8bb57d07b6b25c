import random
import re
from collections import Counter
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from episodes.errors import SamplingError
from episodes.records import Record
from episodes.sampling.draws import support_draws
from tests.episodes.made_records import any_records, made_dataset


@settings(max_examples=50, deadline=None)
@given(any_records(n_datasets=1, n_patients=20), st.integers(1, 10), st.integers(), st.randoms())
def test_draws_hold_different_patients_and_leave_all_others_to_segment(
    records: list[Record], depth: int, seed: int, shuffler: random.Random
) -> None:
    assume(len({record.patient for record in records if record.has_lesion}) > depth)
    draws = support_draws(records, depth=depth, seed=seed)
    by_id = {record.id: record for record in records}
    assert [draw.index for draw in draws] == [0, 1, 2, 3, 4]
    for draw in draws:
        support = [by_id[name] for name in draw.support]
        assert all(record.has_lesion for record in support)
        assert len({record.patient for record in support}) == len(support) == depth
        supporting = {record.patient for record in support}
        assert draw.queries == tuple(sorted(r.id for r in records if r.patient not in supporting))
        assert any(by_id[name].has_lesion for name in draw.queries)
    shuffler.shuffle(records)
    assert support_draws(records, depth=depth, seed=seed) == draws
    assert support_draws(records, n_draws=2, depth=depth, seed=seed) == draws[:2]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers())
def test_every_prefix_is_balanced_as_well_as_integers_allow(
    n_benign: int, n_malignant: int, depth: int, seed: int
) -> None:
    assume(n_benign + n_malignant > depth)
    records = made_dataset("a", {"benign": n_benign, "malignant": n_malignant}, 2)
    share = Fraction(n_malignant, n_benign + n_malignant)
    for draw in support_draws(records, depth=depth, seed=seed):
        for shots in range(1, depth + 1):
            malignant = sum("malignant" in name for name in draw.support[:shots])
            assert floor(shots * share) <= malignant <= ceil(shots * share)


@pytest.mark.parametrize(("n_benign", "n_malignant"), [(20, 20), (30, 10), (13, 21)])
def test_first_shots_are_malignant_in_the_datasets_share(n_benign: int, n_malignant: int) -> None:
    records = made_dataset("a", {"benign": n_benign, "malignant": n_malignant})
    share = n_malignant / (n_benign + n_malignant)
    for seed in range(20):
        firsts = ["malignant" in draw.support[0] for draw in support_draws(records, n_draws=200, seed=seed)]
        assert abs(sum(firsts) / 200 - share) < 0.02  # independent draws would stray by 0.035
        assert abs(sum(firsts[:5]) - 5 * share) < 1.7  # and already few draws are balanced


def test_a_shallower_list_begins_a_deeper_one() -> None:
    records = made_dataset("a", {"benign": 9, "malignant": 7}, 2)
    deep, shallow = (support_draws(records, depth=depth, seed=4) for depth in (10, 3))
    assert [draw.support[:3] for draw in deep] == [draw.support for draw in shallow]


def test_unknown_lesions_are_drawn_without_strata() -> None:
    records = made_dataset("a", {"unknown": 12, "normal": 3}, 2)
    draws = support_draws(records, n_draws=600, depth=2)
    counts = Counter(name for draw in draws for name in draw.support)
    assert len(counts) == 24
    assert sum((count - 50) ** 2 / 50 for count in counts.values()) < 49.7  # 23 degrees of freedom, p = 0.001


def test_a_patient_is_drawn_whatever_its_number_of_images() -> None:
    records = made_dataset("a", {"benign": 10}) + made_dataset("a", {"malignant": 10}, 30)[:-29]
    draws = support_draws(records, n_draws=1000, depth=1)
    patients = Counter(name.rsplit("-")[0] for draw in draws for name in draw.support)
    assert len(patients) == 20
    assert sum((count - 50) ** 2 / 50 for count in patients.values()) < 43.8  # 19 degrees of freedom


def test_seeds_give_different_draws() -> None:
    records = made_dataset("a", {"benign": 30, "malignant": 30})
    assert len({draw.support for seed in range(9) for draw in support_draws(records, seed=seed)}) == 45


def test_draws_are_frozen() -> None:
    # Results of earlier versions rest on these draws: they must never change.
    records = made_dataset("a", {"benign": 4, "malignant": 3, "normal": 1})
    assert [draw.support for draw in support_draws(records, n_draws=2, depth=3, seed=7)] == [
        ("a/benign0-0", "a/malignant0-0", "a/benign3-0"),
        ("a/benign1-0", "a/benign3-0", "a/malignant0-0"),
    ]


@pytest.mark.parametrize(
    ("records", "n_draws", "depth", "message"),
    [
        (
            made_dataset("busi", {"benign": 6, "malignant": 4, "normal": 9}, 3),
            5,
            10,
            "busi: 10 patients with a lesion, 11 needed (10 support + 1 query); lower the depth",
        ),
        (
            made_dataset("b", {"benign": 1}) + made_dataset("a", {"benign": 1}),
            5,
            1,
            "support is drawn from one dataset at a time, and these are a, b",
        ),
        ([], 5, 1, "no records: 0 patients with a lesion, 2 needed (1 support + 1 query); lower the depth"),
        ([], 0, 1, "n_draws is 0; it must be at least 1"),
        ([], 1, 0, "depth is 0; it must be at least 1"),
    ],
)
def test_impossible_draws_are_counted_out(records: list[Record], n_draws: int, depth: int, message: str) -> None:
    with pytest.raises(SamplingError, match=f"^{re.escape(message)}$"):
        support_draws(records, n_draws=n_draws, depth=depth)
