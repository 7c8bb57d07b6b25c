from collections import Counter
from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from episodes.sampling.streams import GOLDEN, MASK, Stream, Streams, mix


def test_mix_gives_the_published_splitmix64_outputs() -> None:
    # First outputs of Vigna's reference splitmix64.c for the seed 1234567.
    outputs = [mix((1234567 + step * GOLDEN) & MASK) for step in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_stream_is_frozen() -> None:
    # Manifests and results of earlier versions rest on these numbers: they must never change.
    stream = Stream(seed=3, index=10**12)
    assert [stream.below(1000) for _ in range(4)] == [798, 274, 880, 529]


@given(st.integers(), st.integers(), st.integers(min_value=1, max_value=10**9))
def test_below_stays_in_range_for_any_key(seed: int, index: int, limit: int) -> None:
    assert 0 <= Stream(seed, index).below(limit) < limit


@given(st.integers(), st.integers(), st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=5))
def test_streams_together_are_those_alone(seed: int, start: int, limits: list[int]) -> None:
    together = Streams(seed, start, 3)
    alone = [Stream(seed, start + row) for row in range(3)]
    for turn, limit in enumerate(limits):
        rows = np.arange(3) if turn % 2 else np.array([2, 0])  # which each go on from where they are
        found = together.below(np.full(len(rows), limit, np.uint64), rows)
        assert found.tolist() == [alone[row].below(limit) for row in rows]


def test_first_numbers_of_neighbouring_indices_and_seeds_are_uniform_and_unrelated() -> None:
    firsts = np.array([[Stream(seed, index).below(10) for index in range(200)] for seed in range(100)])
    counts = np.bincount(firsts.ravel(), minlength=10)
    expected = firsts.size / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    for a, b in ((firsts[:, :-1], firsts[:, 1:]), (firsts[:-1], firsts[1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.025  # 3.5 standard errors


def test_shuffled_gives_each_order_equally_often() -> None:
    orders = Counter(tuple(Stream(0, index).shuffled("abc")) for index in range(6000))
    assert set(orders) == set(permutations("abc"))
    assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 20.5  # 5 degrees, p = 0.001


def test_shuffled_leaves_its_argument_alone() -> None:
    items = list(range(20))
    shuffled = Stream(0, 0).shuffled(items)
    assert items == list(range(20)) == sorted(shuffled) != shuffled
