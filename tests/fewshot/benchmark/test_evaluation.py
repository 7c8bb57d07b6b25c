"""Evaluation of one method: which pixels and features it is given, how often, and in which order it is scored."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from episodes.errors import DatasetError
from episodes.sampling.episode import Support, image_tensor, load_support
from episodes.storage.store import Collection, Store
from fewshot.config.parsing import parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.features import Features
from fewshot.inference.predictor import lesion_masks
from fewshot.inference.target import EncodedTarget, Seconds, Task, evaluate, segment_queries
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SourcePrototypes, SupportPrototypes
from fewshot.networks import seeded_network
from fewshot.stores import open_store
from tests.fewshot.tiny_runs import PANET, silent, tiny_benchmark

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tiny_benchmark(tmp_path_factory.mktemp("evaluation")), "portable", silent())


class Spy:
    """Has an encoder, and notes what it is given."""

    uses_support = True

    def __init__(self) -> None:
        self.encoded = 0
        self.supports: list[Support | None] = []
        self.support_features: list[Features | None] = []
        self.segmented: list[Tensor | Features] = []

    def encode(self, images: Tensor) -> Features:
        self.encoded += len(images)
        return Features((images[:, :1, ::4, ::4],), (images.shape[-2], images.shape[-1]))

    def adapt(self, support: Support | None, features: Features | None = None) -> str:
        self.supports.append(support)
        self.support_features.append(features)
        return "adapted"

    def segment(self, images: Tensor | Features, adapted: str) -> Tensor:
        assert adapted == "adapted"
        self.segmented.append(images)
        n, size = (
            (len(images.deepest), images.size) if isinstance(images, Features) else (len(images), images.shape[-2:])
        )
        logits = torch.zeros(n, 2, *size)
        logits[:, 1, : size[0] // 2] = 1
        return logits


def ids(store: Store, *rows: int) -> tuple[str, ...]:
    return tuple(store.records[row].id for row in rows)


def prototypes(store: Store, kind: type = SupportPrototypes, seed: int = 0) -> Any:
    network = seeded_network(EncoderConfig(name="test_efficientnet"), parse_config(PANET, ModelConfig, "panet"), seed)
    return kind(Ingredients(network.eval(), Sources(Collection([store]), store.records), CPU))


def lesion_rows(store: Store, count: int) -> list[int]:
    return [row for row, record in enumerate(store.records) if record.has_lesion][:count]


# What a method is given


def test_a_method_adapts_once_and_sees_the_pixels_of_its_support_and_queries(store: Store) -> None:
    spy = Spy()
    evaluate(spy, EncodedTarget(store, CPU, batch_size=2), Task(ids(store, 3, 1), ids(store, 5, 0, 4)), cached=False)
    (support,) = spy.supports
    assert support is not None
    assert support.ids == (tuple(ids(store, 3, 1)),)
    expected = torch.from_numpy(store.images[[3, 1]]).float() / 255
    assert torch.equal(support.images, expected[None, :, None].expand(1, 2, 3, 64, 64))
    assert torch.equal(support.masks, torch.from_numpy(store.label_maps[[3, 1]] > 0).float()[None])
    assert [len(images) for images in spy.segmented if isinstance(images, Tensor)] == [2, 1]
    given = torch.cat([images for images in spy.segmented if isinstance(images, Tensor)])
    assert torch.equal(given[:, 0], torch.from_numpy(store.images[[5, 0, 4]]).float() / 255)
    assert spy.encoded == 0


@pytest.mark.parametrize("cached", [True, False])
def test_masks_can_be_shown_in_place_of_the_supports_own(store: Store, cached: bool) -> None:
    spy = Spy()
    masks = torch.from_numpy(store.label_maps[[1, 3]] > 0).float()[None]
    evaluate(spy, EncodedTarget(store, CPU), Task(ids(store, 3, 1), ids(store, 5), masks), cached=cached)
    (support,) = spy.supports
    assert support is not None
    assert support.ids == (tuple(ids(store, 3, 1)),)
    assert torch.equal(support.images[0, :, 0], torch.from_numpy(store.images[[3, 1]]).float() / 255)
    assert torch.equal(support.masks, masks)


def test_a_method_with_an_encoder_is_given_the_features_of_the_same_images(store: Store) -> None:
    spy = Spy()
    target = EncodedTarget(store, CPU, batch_size=5)
    for _ in range(2):
        evaluate(spy, target, Task(ids(store, 3, 1), ids(store, 5, 0)))
    assert spy.encoded == len(store.records)  # once for both calls
    maps = torch.from_numpy(np.array(store.images[:])).float()[:, None, ::4, ::4] / 255
    (support, queries) = spy.support_features[0], spy.segmented[0]
    assert isinstance(support, Features)
    assert isinstance(queries, Features)
    assert torch.equal(support.deepest, maps[[3, 1]][None])
    assert torch.equal(queries.deepest, maps[[5, 0]])
    assert support.size == queries.size == (64, 64)


def test_support_images_are_adapted_to_once_for_all_support_sets_that_show_their_own_masks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, target, learned = prototypes(store), EncodedTarget(store, CPU), []
    adapt = method.network.adapt
    monkeypatch.setattr(
        method.network,
        "adapt",
        lambda support, features=None: [learned.append(*support.ids), adapt(support, features)][1],
    )
    first, second, third = lesion_rows(store, 3)
    swapped = load_support(target.collection, [ids(store, second, third)]).masks
    tasks = [
        Task(ids(store, first, second), ids(store, 5, 0)),
        Task(ids(store, second, third), ids(store, 5)),
        Task(ids(store, first, second), ids(store, 5, 0), swapped),
        Task(ids(store, first, second), ids(store, 5, 0)),
    ]
    found = [list(segment_queries(method, target, task)) for task in tasks]
    assert learned == [*(ids(store, row) for row in (first, second, third)), ids(store, first, second)]
    for answers, task in zip(found, tasks, strict=True):
        for left, right in zip(answers, segment_queries(method, target, task, cached=False), strict=True):
            np.testing.assert_allclose(left.probability, right.probability, atol=1e-5)
    for left, right in zip(found[0], found[3], strict=True):
        np.testing.assert_array_equal(left.probability, right.probability)
    target.forget_features()
    learned.clear()
    list(segment_queries(method, target, tasks[1]))
    list(segment_queries(prototypes(store), target, tasks[1]))  # another method's are its own
    list(segment_queries(method, target, tasks[1]))
    assert learned == [ids(store, row) for row in (second, third)] * 2


def test_what_is_asked_decides_what_is_learned(store: Store) -> None:
    method, target = prototypes(store), EncodedTarget(store, CPU)
    kinds = [[r for r in lesion_rows(store, 99) if store.records[r].label == kind] for kind in ("benign", "malignant")]
    both = Task(ids(store, kinds[0][0]), ids(store, 5))
    list(segment_queries(method, target, both))
    with pytest.raises(DatasetError, match=f"support set {both.support[0]}: a mask is empty"):
        list(segment_queries(method, target, Task(both.support, both.queries, asked="malignant")))


def test_a_method_without_a_support_set_is_given_none(store: Store) -> None:
    spy = Spy()
    evaluate(spy, EncodedTarget(store, CPU), Task((), ids(store, 0)))
    assert spy.supports == [None]
    assert spy.support_features == [None]


def test_features_are_shared_by_methods_of_one_network_and_computed_again_for_another(store: Store) -> None:
    target = EncodedTarget(store, CPU)
    first = prototypes(store)
    features = target.features(first.encode)
    network = first.network
    sharing = SourcePrototypes(Ingredients(network, Sources(Collection([store]), store.records), CPU))
    assert target.features(sharing.encode) is features
    other = target.features(prototypes(store, seed=1).encode)
    assert other is not features
    assert not torch.allclose(other.deepest, features.deepest)


def test_progress_counts_images(store: Store) -> None:
    seen: list[tuple[int, int]] = []
    EncodedTarget(store, CPU, batch_size=10).features(Spy().encode, lambda done, total: seen.append((done, total)))
    assert seen == [(10, 24), (20, 24), (24, 24)]


# Scores


def test_scores_come_in_the_order_of_the_queries(store: Store) -> None:
    lesions = lesion_rows(store, 4)
    found = evaluate(Spy(), EncodedTarget(store, CPU, batch_size=3), Task((), ids(store, *lesions[::-1])))
    upper = np.zeros((64, 64), bool)
    upper[:32] = True
    expected = []
    for row in lesions[::-1]:
        truth = store.label_maps[row] > 0
        expected.append(2 * (truth & upper).sum() / (truth.sum() + upper.sum()))
    assert [one.scores.dice for one in found] == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_scores_do_not_depend_on_the_batch_size_or_on_the_other_queries(store: Store, batch_size: int) -> None:
    method = prototypes(store)
    support, queries = ids(store, *lesion_rows(store, 2)), ids(store, *range(8, 20))
    together = evaluate(method, EncodedTarget(store, CPU, batch_size=batch_size), Task(support, queries))
    alone = [evaluate(method, EncodedTarget(store, CPU), Task(support, (query,)), cached=False)[0] for query in queries]
    assert_equal_scores(together, alone)


def assert_equal_scores(first: Sequence[Any], second: Sequence[Any]) -> None:
    for left, right in zip(first, second, strict=True):
        assert astuple(left.scores) == pytest.approx(astuple(right.scores), abs=1e-4, nan_ok=True)


def test_evaluation_keeps_no_gradients(store: Store) -> None:
    method = prototypes(store)
    target = EncodedTarget(store, CPU)
    evaluate(method, target, Task(ids(store, *lesion_rows(store, 1)), ids(store, 5)))
    assert target.features(method.encode).deepest.grad_fn is None
    assert all(parameter.grad is None for parameter in method.network.parameters())


def test_a_pixel_is_lesion_where_any_way_beats_background_and_ties_are_background() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-2, 3, (5, 3, 16, 16), generator=generator).float()  # many ties
    assert torch.equal(lesion_masks(logits), logits.argmax(1) > 0)


def test_probabilities_are_those_of_the_logits_and_lie_above_a_half_in_the_mask(store: Store) -> None:
    method = prototypes(store)
    task = Task(ids(store, *lesion_rows(store, 2)), ids(store, 8, 9))
    adapted = None
    for place, query in enumerate(segment_queries(method, EncodedTarget(store, CPU), task)):
        assert (query.id, query.row) == (task.queries[place], 8 + place)
        np.testing.assert_array_equal(query.probability > 0.5, query.mask)
        with torch.inference_mode():
            adapted = adapted or method.adapt(load_support(Collection([store]), [task.support]))
            logits = method.segment(image_tensor(store.images[[query.row]]), adapted)
        np.testing.assert_allclose(query.probability, logits.softmax(1)[0, 1], atol=1e-4)


def test_seconds_add_up_over_tasks(store: Store) -> None:
    seconds, task = Seconds(), Task((), ids(store, 0, 1))
    evaluate(Spy(), EncodedTarget(store, CPU), task, seconds=seconds)
    first = seconds.segment
    evaluate(Spy(), EncodedTarget(store, CPU), task, seconds=seconds)
    assert seconds.segment > first > 0
    assert seconds.adapt > 0
