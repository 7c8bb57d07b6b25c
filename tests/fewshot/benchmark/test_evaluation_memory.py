"""Evaluation where memory is scarce: smaller batches and features on disk give the same answers."""

import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from episodes.errors import StorageError, UserError
from episodes.storage.store import Store
from fewshot.benchmark.evaluation import CellEvaluation
from fewshot.features import Features, SpilledFeatures
from fewshot.inference.target import EncodedTarget, Segmented, Task, segment_queries
from fewshot.methods.prototypical import SourcePrototypes
from fewshot.results.rows import Cell
from fewshot.stores import open_store
from tests.fewshot.benchmark.test_evaluation import Spy, ids, lesion_rows, prototypes
from tests.fewshot.scarce_memory import ERRORS, Scarce, cuda_error
from tests.fewshot.tiny_runs import silent, tiny_benchmark

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tiny_benchmark(tmp_path_factory.mktemp("memory")), "portable", silent())


class ScarceSpy(Spy):
    """A method with an encoder that has room for so many images at once."""

    def __init__(self, scarce: Scarce) -> None:
        super().__init__()
        self.scarce = scarce

    def encode(self, images: Tensor) -> Features:
        features = super().encode(images)
        self.scarce.ask(len(images))
        return features

    def segment(self, images: Tensor | Features, adapted: str) -> Tensor:
        logits = super().segment(images, adapted)
        self.scarce.ask(len(logits))
        return logits


def task_of(store: Store) -> Task:
    return Task(ids(store, *lesion_rows(store, 2)), ids(store, *range(8, 21)))


def assert_same_answers(first: Sequence[Segmented], second: Sequence[Segmented]) -> None:
    """Bit for bit."""
    assert [(one.id, one.row) for one in first] == [(one.id, one.row) for one in second]
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left.mask, right.mask)
        np.testing.assert_array_equal(left.probability, right.probability)


# Smaller batches


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_batches_are_halved_until_they_fit(error: Callable[[], None], cached: bool, store: Store) -> None:
    scarce = Scarce(3, error)
    target = EncodedTarget(store, CPU, batch_size=8)
    found = list(segment_queries(ScarceSpy(scarce), target, task_of(store), cached=cached))
    expected = list(segment_queries(Spy(), EncodedTarget(store, CPU, batch_size=2), task_of(store), cached=cached))
    assert_same_answers(found, expected)
    assert scarce.tried[:4] == [8, 4, 2, 2]
    assert max(scarce.tried[2:]) == 2  # for good: also where queries follow what was encoded
    assert target.batching.size == 2


def test_answers_are_those_of_the_smaller_batch_size(store: Store) -> None:
    """Of a network, bit for bit: the batches are the same ones."""
    method, scarce = prototypes(store), Scarce(2)
    encode = method.encode

    def scarce_encode(images: Tensor) -> Features:
        scarce.ask(len(images))
        return encode(images)  # type: ignore[no-any-return]

    method.encode = scarce_encode
    found = list(segment_queries(method, EncodedTarget(store, CPU, batch_size=8), task_of(store)))
    expected = list(segment_queries(prototypes(store), EncodedTarget(store, CPU, batch_size=2), task_of(store)))
    assert_same_answers(found, expected)
    assert scarce.tried == [8, 4, *[2] * 12]


@pytest.mark.parametrize("cached", [True, False])
def test_no_room_for_a_single_image_is_an_error_that_says_what_to_do(cached: bool, store: Store) -> None:
    method = ScarceSpy(Scarce(0, cuda_error))
    with pytest.raises(UserError, match=r"^out of memory: cpu, one image at a time; set a smaller image_size, or"):
        list(segment_queries(method, EncodedTarget(store, CPU), task_of(store), cached=cached))


def test_no_room_to_adapt_is_an_error(store: Store) -> None:
    class Large(Spy):
        def adapt(self, support: object, features: Features | None = None) -> str:
            raise MemoryError

    with pytest.raises(UserError, match=r"^out of memory: cpu, adapting to 2 images; set a smaller image_size"):
        list(segment_queries(Large(), EncodedTarget(store, CPU), task_of(store)))


REALLY_SCARCE = """
import resource
import torch
from fewshot.devices import Batching

torch.set_num_threads(1)
network = torch.nn.Conv2d(3, 64, 3, padding=1).eval()
with torch.inference_mode():
    network(torch.rand(1, 3, 64, 64))  # whatever is allocated once
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, before[1]))
    images = torch.rand(16, 3, 256, 256)
    batching = Batching(torch.device("cpu"), 16)  # whose 16 maps of 16 MiB are all that there is
    found = torch.cat([maps.mean((2, 3)) for _, maps in batching.over(range(16), lambda rows: network(images[rows]))])
    resource.setrlimit(resource.RLIMIT_AS, before)
    expected = torch.cat([network(images[row : row + 1]).mean((2, 3)) for row in range(16)])
assert batching.size < 16
torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory by /proc and setrlimit")
def test_a_process_whose_memory_is_limited_goes_on() -> None:
    command = [sys.executable, "-c", REALLY_SCARCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr


# Features on disk


def test_spilled_features_give_the_same_answers(store: Store, tmp_path: Path) -> None:
    method = prototypes(store)
    held = EncodedTarget(store, CPU)
    spilled = EncodedTarget(store, CPU, memory=1, spill_folder=tmp_path)
    assert isinstance(held.features(method.encode), Features)
    assert isinstance(spilled.features(method.encode), SpilledFeatures)
    found, expected = (list(segment_queries(method, target, task_of(store))) for target in (spilled, held))
    assert_same_answers(found, expected)
    rows = [20, 3, 4]
    for left, right in zip(
        *(target.features(method.encode).take(rows).levels for target in (spilled, held)), strict=True
    ):
        assert torch.equal(left, right)
    assert list(tmp_path.iterdir()) == []


def test_spilled_features_are_shared_and_made_anew_like_others(store: Store, tmp_path: Path) -> None:
    target = EncodedTarget(store, CPU, memory=1, spill_folder=tmp_path)
    first, other = prototypes(store), prototypes(store, SourcePrototypes, seed=1)
    features = target.features(first.encode)
    assert target.features(first.encode) is features
    assert target.features(other.encode) is not features


def test_forgotten_features_are_freed_and_encoded_again_when_asked_for(store: Store) -> None:
    spy, target = Spy(), EncodedTarget(store, CPU)
    held = weakref.ref(target.features(spy.encode).deepest)
    assert held() is not None
    target.forget_features()
    assert held() is None
    target.features(spy.encode)
    assert spy.encoded == 2 * len(store.records)


def test_features_of_one_target_at_a_time_are_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_benchmark(tmp_path, targets=["portable", "linear"], sources=["highfreq"])
    stores = {name: open_store(config, name, silent()) for name in config.datasets}
    evaluation = CellEvaluation(config, tmp_path, CPU, stores, {})
    held = weakref.ref(evaluation.targets["linear"].features(Spy().encode).deepest)
    assert held() is not None
    monkeypatch.setattr(evaluation, "method", lambda cell: held() and pytest.fail("held while others are computed"))
    monkeypatch.setattr(evaluation, "_evaluate", lambda method, cell: 0.0)
    assert list(evaluation.evaluate([Cell("portable", "PANet untrained", 0, 1, 0)], silent()))
    assert held() is None


def test_features_spill_where_the_store_lies_unless_told_otherwise(store: Store) -> None:
    assert EncodedTarget(store, CPU).spill_folder == store.folder.parent


def test_a_benchmark_is_told_how_much_may_be_held(store: Store, tmp_path: Path) -> None:
    for changes, expected in (({}, 2**30), ({"feature_memory_gib": 0.5}, 2**29)):
        config = tiny_benchmark(tmp_path, **changes)
        evaluation = CellEvaluation(config, tmp_path, CPU, {"portable": store}, {})
        assert evaluation.targets["portable"].memory == expected


def test_a_folder_that_takes_no_features_is_an_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = EncodedTarget(store, CPU, memory=1, spill_folder=tmp_path / "file")
    with pytest.raises(StorageError, match=r"file: .* GiB of features cannot be written there"):
        target.features(prototypes(store).encode)


@pytest.mark.parametrize("memory", [2**30, 1], ids=["held", "spilled"])
def test_memory_that_runs_out_midway_keeps_what_was_encoded(memory: int, store: Store, tmp_path: Path) -> None:
    scarce = Scarce(8)
    spy = ScarceSpy(scarce)
    target = EncodedTarget(store, CPU, batch_size=8, memory=memory, spill_folder=tmp_path)

    def progress(done: int, total: int) -> None:
        scarce.room = 3 if done == 16 else scarce.room

    features = target.features(spy.encode, progress)
    assert scarce.tried == [8, 8, 8, 4, 2, 2, 2, 2]
    expected = torch.from_numpy(np.array(store.images[:])).float()[:, None, ::4, ::4] / 255
    assert torch.equal(features.take(range(24)).deepest, expected)
