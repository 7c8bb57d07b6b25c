"""What every registered method keeps to, and what sets the single ones apart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from episodes.errors import DatasetError
from episodes.records import Record
from episodes.sampling.episode import Support, load_support
from episodes.storage.store import Collection
from fewshot.config.parsing import ConfigError
from fewshot.config.training import ModelConfig
from fewshot.methods.contract import (
    METHODS,
    EncodingMethod,
    Ingredients,
    Method,
    Sources,
    build_method,
    find_method,
    needs_support,
)
from fewshot.networks import seeded_network
from tests.fewshot.conftest import Trained
from tests.fewshot.small_networks import CPU, ENCODER, assert_same_weights, weights

every_method = pytest.mark.parametrize("name", list(METHODS))
NEEDS = {
    "empty": None,
    "centre-ellipse": None,
    "prototypes": "panet",
    "source-prototypes": "panet",
    "tuned-prototypes": "panet",
    "zero-shot": "unet",
    "fine-tuned": "unet",
    "maml": "maml",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "fine-tuned": {"steps": 3},
    "tuned-prototypes": {"steps": 3},
    "source-prototypes": {"n_images": 5},
}

Build = Callable[[str], Method]


@pytest.fixture
def sources(linear_phantoms: Collection) -> Sources:
    return Sources(linear_phantoms, linear_phantoms.records)


@pytest.fixture
def networks(trained_panet: Trained, trained_unet: Trained, trained_maml: Trained) -> dict[str | None, Any]:
    trained = {"panet": trained_panet, "unet": trained_unet, "maml": trained_maml}
    return {None: None} | {name: case.network for name, case in trained.items()}


@pytest.fixture
def build(networks: dict[str | None, Any], sources: Sources) -> Build:
    def from_name(name: str) -> Method:
        return build_method(name, OPTIONS.get(name, {}), Ingredients(networks[NEEDS[name]], sources, CPU))

    return from_name


@pytest.fixture
def supports(portable_phantoms: Collection) -> tuple[Support, Support]:
    """Two support sets of two shots each."""
    ids = [record.id for record in portable_phantoms.records if record.has_lesion]
    return load_support(portable_phantoms, [ids[0:8:4]]), load_support(portable_phantoms, [ids[8:16:4]])


@pytest.fixture
def queries(portable_phantoms: Collection) -> Tensor:
    return load_support(portable_phantoms, [[record.id for record in portable_phantoms.records[-6:]]]).images[0]


# The contract


def test_every_method_is_tested() -> None:
    assert NEEDS.keys() == METHODS.keys()


@every_method
def test_logits_have_a_channel_per_class_and_image_size(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    method = build(name)
    with torch.inference_mode():
        logits = method.segment(queries, method.adapt(supports[0]))
    assert logits.shape == (6, 2, 64, 64)
    assert logits.is_floating_point()
    assert bool(logits.isfinite().all())


@every_method
def test_methods_without_support_do_without_and_the_others_say_so(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    method = build(name)
    assert method.uses_support == find_method(name).uses_support
    if needs_support(method):
        with pytest.raises(ValueError, match="support set"):
            method.adapt(None)
        return
    with torch.inference_mode():
        without, *others = [method.segment(queries, method.adapt(support)) for support in (None, *supports)]
    assert all(torch.equal(without, logits) != method.uses_support for logits in others)


@every_method
def test_another_support_set_gives_other_logits_where_it_is_used(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    method = build(name)
    with torch.inference_mode():
        first, second = [method.segment(queries, method.adapt(support)) for support in supports]
    assert torch.equal(first, second) != method.uses_support


@every_method
def test_the_same_support_set_gives_the_same_whatever_came_before(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    method = build(name)
    with torch.inference_mode():
        adapted = method.adapt(supports[0])
        first = method.segment(queries, adapted)
        method.segment(queries, method.adapt(supports[1]))
        torch.manual_seed(8)  # nothing global may matter
        assert torch.equal(method.segment(queries, adapted), first)
        assert torch.equal(method.segment(queries, method.adapt(supports[0])), first)
        assert torch.equal(build(name).segment(queries, method.adapt(supports[0])), first)


@pytest.mark.parametrize("name", [name for name, network in NEEDS.items() if network])
def test_adapting_does_not_change_the_network(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor, networks: dict[str | None, Any]
) -> None:
    network = networks[NEEDS[name]]
    before = weights(network)
    method = build(name)
    for support in supports:
        method.segment(queries, method.adapt(support))
    assert_same_weights(weights(network), before)
    assert not network.training


# Tuned prototypes have an encoder of their own after every support set.
ENCODING = [name for name, network in NEEDS.items() if network == "panet" and name != "tuned-prototypes"]


@pytest.mark.parametrize("name", ENCODING)
def test_features_give_what_images_give(
    name: str, build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    method = build(name)
    assert isinstance(method, EncodingMethod)
    with torch.inference_mode():
        from_images = method.segment(queries, method.adapt(supports[0]))
        adapted = method.adapt(supports[0], method.encode(supports[0].images))
        from_features = method.segment(method.encode(queries), adapted)
    torch.testing.assert_close(from_features, from_images, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NEEDS if name not in ENCODING])
def test_methods_whose_features_depend_on_the_support_do_not_pretend_otherwise(name: str, build: Build) -> None:
    assert not isinstance(build(name), EncodingMethod)


# The single methods


@pytest.mark.parametrize("name", ["prototypes", "source-prototypes", "zero-shot", "fine-tuned", "maml"])
def test_channel_one_is_the_lesion(name: str, build: Build, linear_phantoms: Collection) -> None:
    """On images like those it was trained on, a method prefers lesion inside lesions more than outside."""
    ids = [record.id for record in linear_phantoms.records if record.has_lesion]
    support = load_support(linear_phantoms, [ids[::4]])
    method = build(name)
    with torch.inference_mode():
        logits = method.segment(support.images[0], method.adapt(support))
    margin, inside = logits[:, 1] - logits[:, 0], support.masks[0].bool()
    assert margin[inside].mean() > margin[~inside].mean() + 0.5


def test_prototypes_of_two_ways_have_three_channels(
    build: Build, supports: tuple[Support, Support], queries: Tensor
) -> None:
    one, other = supports
    both = Support(torch.cat([one.images, other.images]), torch.cat([one.masks, other.masks]))
    method = build("prototypes")
    with torch.inference_mode():
        assert method.segment(queries, method.adapt(both)).shape == (6, 3, 64, 64)


def test_prototypes_do_without_a_support_set_where_the_network_has_a_prior(sources: Sources, queries: Tensor) -> None:
    model = ModelConfig(network="panet", levels=(2,), output_stride=8, options={"prior": True})
    network = seeded_network(ENCODER, model, seed=0).eval()
    method = build_method("prototypes", {}, Ingredients(network, sources, CPU))
    assert method.uses_support
    assert not needs_support(method)
    with torch.inference_mode():
        from_images = method.segment(queries, method.adapt(None))
        assert isinstance(method, EncodingMethod)
        from_features = method.segment(method.encode(queries), method.adapt(None))
    assert from_images.shape == (6, 2, 64, 64)
    torch.testing.assert_close(from_features, from_images, rtol=1e-5, atol=1e-4)


def test_a_method_that_does_not_say_so_needs_the_support_set_it_uses() -> None:
    class Own:
        def __init__(self, uses_support: bool) -> None:
            self.uses_support = uses_support

        def adapt(self, support: Support | None) -> None: ...

        def segment(self, images: Tensor, adapted: None) -> Tensor:
            return images[:, :2]

    assert [needs_support(Own(uses)) for uses in (True, False)] == [True, False]


@pytest.mark.parametrize("name", ["prototypes", "tuned-prototypes"])
def test_an_empty_support_mask_names_its_record(name: str, build: Build, supports: tuple[Support, Support]) -> None:
    support = Support(supports[0].images, torch.zeros_like(supports[0].masks), supports[0].ids)
    with pytest.raises(DatasetError, match=f"support set {support.ids[0][0]}, .*: a mask is empty"):
        build(name).adapt(support)


def test_source_prototypes_are_the_mean_over_evenly_spread_source_images(
    networks: dict[str | None, Any], sources: Sources
) -> None:
    network, lesions = networks["panet"], sources.lesions()[:12]
    ingredients = Ingredients(network, Sources(sources.collection, lesions), CPU)
    for n_images, places in ((3, (0, 4, 8)), (5, (0, 2, 4, 7, 9)), (8, (0, 1, 3, 4, 6, 7, 9, 10)), (200, range(12))):
        method = build_method("source-prototypes", {"n_images": n_images}, ingredients)
        with torch.inference_mode():
            vectors = [
                network.adapt(load_support(sources.collection, [[lesions[place].id]]))[0].vectors for place in places
            ]
            torch.testing.assert_close(method.adapt(None)[0].vectors, torch.stack(vectors).mean(0))


# Sources and construction


def test_lesions_of_the_sources_are_sorted_and_drawn_in(sources: Sources) -> None:
    lesions = sources.lesions()
    assert lesions == sorted(lesions, key=lambda record: record.id)
    assert {record.label for record in lesions} == {"benign", "malignant"}
    assert len(lesions) == sum(bool(sources.collection.label_map(record.id).any()) for record in sources.records)


def test_sources_without_a_lesion_are_told(sources: Sources) -> None:
    normals: list[Record] = [record for record in sources.records if not record.has_lesion]
    assert normals
    with pytest.raises(DatasetError, match="none of their images has a lesion"):
        Sources(sources.collection, normals).lesions()


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("prototypes", "unet", "needs a model of kind PANet, and was given UNet; set `model`"),
        ("source-prototypes", None, "needs a model of kind PANet, and was given no model; set `model`"),
        ("zero-shot", None, "and was given no model; set `model`"),
        ("maml", "unet", "needs a model of kind MAML, and was given UNet; set `model`"),
        ("fine-tuned", "panet", "needs a supervised model, and was given PANet; set `model`"),
    ],
)
def test_a_method_says_which_model_it_needs(
    name: str, network: str | None, message: str, networks: dict[str | None, Any], sources: Sources
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_method(name, {}, Ingredients(networks[network], sources, CPU))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "prototype"}, "method 'prototype' is unknown; did you mean 'prototypes'?"),
        ({"method": "pathlib:Path"}, "method 'pathlib:Path': has no attribute uses_support"),
        ({"method": "empty", "options": {"steps": 3}}, "empty options: steps: unknown key"),
        (
            {"method": "fine-tuned", "options": {"step": 3}},
            "fine-tuned options: step: unknown key; did you mean 'steps'",
        ),
        ({"method": "fine-tuned", "options": {"steps": "few"}}, "fine-tuned options: steps: Input should be"),
        ({"method": "fine-tuned", "options": {"steps": 0}}, "fine-tuned options: "),
        (
            {"method": "fine-tuned", "options": {"parts": "head"}},
            "fine-tuned options: parts: Input should be 'all', 'decoder' or 'norm'",
        ),
    ],
)
def test_what_is_no_method_is_explained(
    config: dict[str, Any], message: str, networks: dict[str | None, Any], sources: Sources
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_method(config["method"], config.get("options", {}), Ingredients(networks["unet"], sources, CPU))
    assert message in str(caught.value)


def test_a_method_of_one_s_own(sources: Sources) -> None:
    method = build_method("fewshot.methods.floors:Empty", {}, Ingredients(None, sources, CPU))
    assert not method.uses_support
