import pickle
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import DatasetError, SamplingError
from episodes.records import Record
from episodes.sampling.sampler import Class, EpisodeSampler, EpisodeSpec, Pairing, _pools_by_dataset, _tasks
from episodes.sampling.streams import Stream
from tests.episodes.made_records import any_records, made_dataset, made_record

LESION: tuple[tuple[Class, ...], ...] = (("lesion",),)
EITHER: tuple[tuple[Class, ...], ...] = (("benign",), ("malignant",))
BOTH: tuple[tuple[Class, ...], ...] = (("benign", "malignant"),)

# Upper 0.1 % points of the chi-square distribution, by degrees of freedom.
CHI_SQUARE = {1: 10.8, 2: 13.8, 5: 20.5, 9: 27.9}


def chi_square(counts: Counter[str]) -> float:
    expected = counts.total() / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts.values())


requests = st.fixed_dictionaries(
    {
        "n_shot": st.integers(1, 3),
        "n_query": st.integers(1, 3),
        "classes": st.sampled_from([LESION, EITHER, BOTH, LESION + BOTH]),
        "pairing": st.sampled_from(["within", "across"]),
        "seed": st.integers(0, 2**70),
    }
)


# Whatever else there is: two datasets that can serve every request, so that none has to be rejected.
RICH = [record for name in ("rich0", "rich1") for record in made_dataset(name, {"benign": 7, "malignant": 7})]


def records_that_serve(n_datasets: int = 2) -> st.SearchStrategy[list[Record]]:
    """Any datasets, with enough beside them for every request."""
    return any_records(n_datasets=n_datasets).map(lambda records: records + RICH)


@settings(max_examples=50, deadline=None)
@given(records_that_serve(n_datasets=3), requests, st.integers(0, 2**40))
def test_every_episode_is_what_was_asked_for(records: list[Record], request: dict[str, object], start: int) -> None:
    sampler = EpisodeSampler(records, **request)  # type: ignore[arg-type]
    by_id = {record.id: record for record in records}
    for index in range(start, start + 20):
        spec = sampler[index]
        assert spec.index == index
        assert spec.classes in sampler.classes
        assert [len(way) for way in spec.support] == [sampler.n_shot] * len(spec.classes)
        assert len(spec.query) == sampler.n_query
        support = [by_id[name] for way in spec.support for name in way]
        query = [by_id[name] for name in spec.query]
        patients = [record.patient_id for record in support + query]
        assert len(set(patients)) == len(patients)
        for name, way in zip(spec.classes, spec.support, strict=True):
            assert all(shows(by_id[shot], name) for shot in way)
        assert all(any(shows(record, name) for name in spec.classes) for record in query)
        support_dataset, *others = {record.dataset for record in support}
        query_dataset, *further = {record.dataset for record in query}
        assert not others
        assert not further
        assert (support_dataset == query_dataset) == (sampler.pairing == "within")


def shows(record: Record, name: Class) -> bool:
    return record.label in ("benign", "malignant", "unknown") if name == "lesion" else record.label == name


@settings(max_examples=25, deadline=None)
@given(records_that_serve(), requests, st.randoms(use_true_random=False))
def test_neither_the_order_of_records_nor_of_reading_matters(
    records: list[Record], request: dict[str, object], shuffler: random.Random
) -> None:
    sampler = EpisodeSampler(records, **request)  # type: ignore[arg-type]
    expected = list(sampler.specs(0, 20))
    shuffled = records.copy()
    shuffler.shuffle(shuffled)
    other = EpisodeSampler(shuffled, **request)  # type: ignore[arg-type]
    order = list(range(20))
    shuffler.shuffle(order)
    assert sorted((other[index] for index in order), key=lambda spec: spec.index) == expected
    assert list(other.specs(13, 20)) == expected[13:]


@settings(max_examples=25, deadline=None)
@given(records_that_serve(), requests, st.integers(1, 5))
def test_images_without_a_lesion_and_datasets_that_cannot_serve_change_nothing(
    records: list[Record], request: dict[str, object], n_normals: int
) -> None:
    sampler = EpisodeSampler(records, **request)  # type: ignore[arg-type]
    known = records[0]
    more = [made_record(known.dataset, f"more{n}", "normal", known.patient or "") for n in range(n_normals)]
    elsewhere = [made_record("elsewhere", f"scan{n}", "normal", f"someone{n}") for n in range(n_normals)]
    other = EpisodeSampler([*elsewhere, *records, *more], **request)  # type: ignore[arg-type]
    assert list(other.specs(0, 20)) == list(sampler.specs(0, 20))


def drawn_plainly(
    records: list[Record],
    index: int,
    *,
    n_shot: int,
    n_query: int = 1,
    classes: Sequence[tuple[Class, ...]] = LESION,
    seed: int = 0,
    pairing: Pairing = "within",
) -> EpisodeSpec:
    """The same episode, one number of its stream after the other."""
    pools, stream, taken = _pools_by_dataset(records), Stream(seed, index), set[str]()
    ways = [_tasks(tuple(names), pools, n_shot, n_query, pairing)[0] for names in classes]
    chosen = stream.below(len(ways))
    support_pools, query_pools = ways[chosen][stream.below(len(ways[chosen]))]

    def draw(pool: Sequence[tuple[str, tuple[str, ...]]]) -> str:
        while (one := pool[stream.below(len(pool))])[0] in taken:
            pass
        taken.add(one[0])
        return one[1][stream.below(len(one[1]))]

    support = tuple([tuple([draw(pool) for _ in range(n_shot)]) for pool in support_pools])
    first = stream.below(len(query_pools))
    query = tuple([draw(query_pools[(first + turn) % len(query_pools)]) for turn in range(n_query)])
    return EpisodeSpec(index, tuple(classes[chosen]), support, query)


@settings(max_examples=50, deadline=None)
@given(records_that_serve(n_datasets=3), requests, st.integers(0, 2**66), st.integers(0, 9))
def test_blocks_of_episodes_are_those_drawn_one_by_one(
    records: list[Record], request: dict[str, object], start: int, count: int
) -> None:
    sampler = EpisodeSampler(records, **request)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("episodes.sampling.sampler.BLOCK", 4)
        found = list(sampler.specs(start, start + count))
    assert found == [drawn_plainly(records, start + step, **request) for step in range(count)]  # type: ignore[arg-type]
    assert found == [sampler[start + step] for step in range(count)]


def test_a_block_draws_again_until_every_patient_is_another() -> None:
    records = made_dataset("a", {"benign": 7}, 2)
    drawn = list(EpisodeSampler(records, n_shot=5, n_query=2).specs(0, 3000))  # takes all of them
    assert drawn == [drawn_plainly(records, index, n_shot=5, n_query=2) for index in range(3000)]
    assert {type(name) for spec in drawn for name in (*spec.support[0], *spec.query)} == {str}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_agree(method: str) -> None:
    records = made_dataset("a", {"benign": 9, "malignant": 7}, 3)
    sampler = EpisodeSampler(records, n_shot=3, n_query=2, classes=EITHER + BOTH, seed=5)
    with get_context(method).Pool(2) as pool:
        specs = pool.map(sampler.__getitem__, range(40), chunksize=3)
    assert specs == list(sampler.specs(0, 40))


def test_pickled_sampler_and_specs_are_the_same() -> None:
    sampler = EpisodeSampler(made_dataset("a", {"benign": 5}), n_shot=2)
    copy = pickle.loads(pickle.dumps(sampler))  # noqa: S301
    assert list(copy.specs(0, 9)) == list(sampler.specs(0, 9))
    assert pickle.loads(pickle.dumps(sampler[3])) == sampler[3]  # noqa: S301


def test_sampling_leaves_global_random_state_alone() -> None:
    random.seed(1)
    state = random.getstate()
    EpisodeSampler(made_dataset("a", {"benign": 5}), n_shot=2)[0]
    assert random.getstate() == state


def test_episodes_are_frozen() -> None:
    # Manifests and results of earlier versions rest on these episodes: they must never change.
    sampler = EpisodeSampler(
        made_dataset("a", {"benign": 4, "malignant": 4, "normal": 2}, 2), n_shot=2, classes=BOTH, seed=11
    )
    assert sampler[1234] == EpisodeSpec(
        index=1234,
        classes=("benign", "malignant"),
        support=(("a/benign1-0", "a/benign2-0"), ("a/malignant1-1", "a/malignant0-1")),
        query=("a/malignant2-0",),
    )


def test_seeds_give_different_episodes() -> None:
    records = made_dataset("a", {"benign": 50})
    first, second = (EpisodeSampler(records, n_shot=5, seed=seed) for seed in (0, 1))
    assert not set(first.specs(0, 100)) & set(second.specs(0, 100))


def test_datasets_patients_and_images_are_each_drawn_uniformly() -> None:
    few = made_dataset("few", {"benign": 3})
    many = made_dataset("many", {"unknown": 10}, 2) + made_dataset("many", {"malignant": 1}, 30)[2:]
    sampler = EpisodeSampler(few + many, n_shot=1)
    by_id = {record.id: record for record in few + many}
    supports = [by_id[spec.support[0][0]] for spec in sampler.specs(0, 4000)]
    queries = [by_id[spec.query[0]] for spec in sampler.specs(0, 4000)]
    for drawn in (supports, queries):
        assert chi_square(Counter(record.dataset for record in drawn)) < CHI_SQUARE[1]
        from_many = [record for record in drawn if record.dataset == "many"]
        patients = Counter(record.patient for record in from_many)
        assert len(patients) == 11
        assert chi_square(patients) < 29.6  # 10 degrees of freedom
        of_one = Counter(record.id for record in from_many if record.patient == "unknown3")
        assert len(of_one) == 2
        assert chi_square(of_one) < CHI_SQUARE[1]


def test_class_tuples_are_drawn_uniformly_and_ways_take_turns_from_a_random_first() -> None:
    records = made_dataset("a", {"benign": 20, "malignant": 6})
    sampler = EpisodeSampler(records, n_shot=1, n_query=3, classes=LESION + EITHER + BOTH)
    specs = list(sampler.specs(0, 4000))
    assert chi_square(Counter(str(spec.classes) for spec in specs)) < 16.3  # 3 degrees of freedom
    turns = Counter(tuple("benign" in name for name in spec.query) for spec in specs if spec.classes == BOTH[0])
    assert set(turns) == {(True, False, True), (False, True, False)}
    assert chi_square(Counter({str(turn): count for turn, count in turns.items()})) < CHI_SQUARE[1]


def test_across_draws_each_ordered_pair_equally_often() -> None:
    records = [record for name in "abc" for record in made_dataset(name, {"benign": 3})]
    sampler = EpisodeSampler(records, n_shot=2, pairing="across")
    pairs = Counter(spec.support[0][0][0] + spec.query[0][0] for spec in sampler.specs(0, 3000))
    assert set(pairs) == {"ab", "ac", "ba", "bc", "ca", "cb"}
    assert chi_square(pairs) < CHI_SQUARE[5]


def test_just_enough_patients_serve_every_episode() -> None:
    records = made_dataset("a", {"benign": 6})
    for spec in EpisodeSampler(records, n_shot=4, n_query=2).specs(0, 50):
        assert len({*spec.support[0], *spec.query}) == 6


def test_a_dataset_that_cannot_serve_is_left_out_and_named() -> None:
    records = made_dataset("big", {"benign": 6, "malignant": 6}) + made_dataset("small", {"benign": 2})
    sampler = EpisodeSampler(records, n_shot=5)
    assert {spec.query[0].split("/")[0] for spec in sampler.specs(0, 50)} == {"big"}
    assert sampler.left_out == ("small, class lesion: 2 patients, 6 needed (5 support + 1 query)",)
    assert EpisodeSampler(records, n_shot=1).left_out == ()


# Two patients with images of both kinds each, so that either way may take what the other needs.
MIXED = [replace(record, patient=record.patient[-1]) for record in made_dataset("uclm", {"benign": 2, "malignant": 2})]


@pytest.mark.parametrize(
    ("records", "request_", "reason"),
    [
        (
            made_dataset("busi", {"benign": 9, "malignant": 5}),
            {"n_shot": 5, "classes": EITHER},
            "1-way episodes of malignant: busi, class malignant: 5 patients, 6 needed (5 support + 1 query)",
        ),
        (
            made_dataset("busi", {"benign": 1}, 30) + made_dataset("udiat", {"normal": 30}),
            {"n_shot": 1},
            (
                "1-way episodes of lesion: busi, class lesion: 1 patient, 2 needed (1 support + 1 query); "
                "udiat, class lesion: 0 patients, 2 needed (1 support + 1 query)"
            ),
        ),
        (
            made_dataset("busi", {"benign": 9, "unknown": 9}),
            {"n_shot": 2, "n_query": 3, "classes": BOTH},
            (
                "2-way episodes of benign and malignant: "
                "busi, class malignant: 0 patients, 4 needed (2 support + 2 query)"
            ),
        ),
        (
            MIXED
            + [made_record("uclm", name, "benign", name) for name in "xy"]
            + [made_record("uclm", "z", "malignant", "z")],
            {"n_shot": 1, "classes": BOTH},
            (
                "2-way episodes of benign and malignant: uclm, class malignant: 3 patients, "
                "4 needed (1 support + 1 query + 2 shared with the other class)"
            ),
        ),
        (
            made_dataset("a", {"benign": 2}) + made_dataset("b", {"benign": 3}),
            {"n_shot": 3, "pairing": "across", "n_query": 3},
            (
                "1-way episodes of lesion: a, class lesion: 2 patients, 3 needed (3 support); "
                "a, class lesion: 2 patients, 3 needed (3 query)"
            ),
        ),
    ],
)
def test_an_impossible_request_is_counted_out(records: list[Record], request_: dict[str, object], reason: str) -> None:
    message = f"no dataset can serve {reason}. Lower n_shot or n_query, or add records"
    with pytest.raises(SamplingError, match=f"^{re.escape(message)}$"):
        EpisodeSampler(records, **request_)  # type: ignore[arg-type]


def test_patients_with_both_classes_are_asked_for_no_more_often_than_a_way_can_take_them() -> None:
    """An episode takes two of benign's four patients for malignant at most: support and query are two more."""
    both = [made_record("uclm", f"{kind}{name}", kind, name) for name in "abcd" for kind in ("benign", "malignant")]
    spec = EpisodeSampler(both, n_shot=1, classes=BOTH)[0]
    assert len({name[-1] for name in (*spec.support[0], *spec.support[1], *spec.query)}) == 3


def test_ways_come_in_the_order_asked_for() -> None:
    records = made_dataset("busi", {"benign": 4, "malignant": 4})
    spec = EpisodeSampler(records, n_shot=1, classes=(("malignant", "benign"),))[0]
    assert [name.removeprefix("busi/")[0] for way in spec.support for name in way] == ["m", "b"]


def test_a_sampler_has_seed_0_unless_told_otherwise() -> None:
    records = made_dataset("busi", {"benign": 9})
    unseeded, seeded = (EpisodeSampler(records, n_shot=2, **given) for given in ({}, {"seed": 0}))
    assert list(unseeded.specs(0, 9)) == list(seeded.specs(0, 9))
    assert unseeded.parameters == seeded.parameters


def test_across_needs_two_datasets() -> None:
    records = made_dataset("busi", {"benign": 9})
    with pytest.raises(SamplingError, match=r"needs two datasets and there is only busi$"):
        EpisodeSampler(records, n_shot=1, pairing="across")


def test_no_records_serve_nothing() -> None:
    with pytest.raises(SamplingError, match=r"lesion: there are no records$"):
        EpisodeSampler([], n_shot=1)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"n_shot": 0}, "n_shot is 0; it must be at least 1"),
        ({"n_shot": 1, "n_query": -1}, "n_query is -1; it must be at least 1"),
        ({"n_shot": 1, "pairing": "beside"}, "pairing is 'beside'; choose one of within, across"),
        ({"n_shot": 1, "classes": ()}, 'classes is empty; name at least one task, such as ("lesion",)'),
        (
            {"n_shot": 1, "classes": [("lesion", "benign")]},
            ("classes has ('lesion', 'benign'); a task is lesion, benign, malignant, or benign and malignant together"),
        ),
    ],
)
def test_a_meaningless_request_is_refused(request_: dict[str, object], message: str) -> None:
    with pytest.raises(SamplingError, match=f"^{re.escape(message)}$"):
        EpisodeSampler(made_dataset("a", {"benign": 9}), **request_)  # type: ignore[arg-type]


def test_records_that_share_an_id_are_refused() -> None:
    record = made_record("a", "x", "benign", "p")
    with pytest.raises(DatasetError, match="a/x"):
        EpisodeSampler([record, record], n_shot=1)


def test_negative_indices_are_refused() -> None:
    sampler = EpisodeSampler(made_dataset("a", {"benign": 5}), n_shot=1)
    with pytest.raises(IndexError, match="start at 0"):
        sampler[-1]
    with pytest.raises(IndexError, match="start at 0"):
        sampler.specs(-1, 3)


def test_a_spec_has_a_support_set_per_class() -> None:
    with pytest.raises(ValueError, match="1 support sets for 2 classes"):
        EpisodeSpec(0, ("benign", "malignant"), (("a/x",),), ("a/y",))
