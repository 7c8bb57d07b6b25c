"""The methods in Python: the numbers of the benchmark, on pictures of any size, and errors of one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.errors import UserError
from episodes.sampling.episode import image_tensor
from episodes.sampling.manifest import DRAWS
from episodes.scoring.mask_scores import dice
from episodes.storage.store import Collection, Store
from fewshot.api import Adaptable, build, load
from fewshot.benchmark.run import run_benchmark
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.config.training import ModelConfig
from fewshot.networks import seeded_network
from fewshot.results.rows import read_table
from fewshot.stores import open_store
from tests.fewshot.scarce_memory import Scarce, room_for_images
from tests.fewshot.small_networks import ENCODER, MODELS
from tests.fewshot.tiny_runs import METHODS, silent, tiny_benchmark

ROWS = ("PANet", "U-Net", "U-Net fine-tuned")
PRIOR = {"levels": [2], "output_stride": 8, "options": {"prior": True}}
CHECKPOINTS = {name: MODELS[name] for name in ("panet", "unet")} | {"prior": ModelConfig(**PRIOR)}
SMALL: dict[str, Any] = {"encoder": {"name": "test_efficientnet"}, "image_size": 64, "device": "cpu"}


class Run:
    """A finished benchmark of checkpoints: its draws and its scores."""

    def __init__(self, folder: Path, networks: dict[str, Any]) -> None:
        self.checkpoints = {name: folder / f"{name}.safetensors" for name in networks}
        for name, network in networks.items():
            model = CHECKPOINTS[name].model_dump(mode="json")
            facts = {"encoder": ENCODER.model_dump(mode="json"), "model": model, "image_size": 64}
            save_checkpoint(self.checkpoints[name], network_tensors(network), facts)
        config = tiny_benchmark(
            folder,
            models={name: {"checkpoint": str(path)} for name, path in self.checkpoints.items()},
            methods={row: METHODS[row] for row in ROWS} | {"prior": {"method": "prototypes", "model": "prior"}},
            shots=[0, 2],
        )
        self.folder = run_benchmark(config, silent())
        self.rows = read_table(self.folder / "results.parquet").to_pylist()
        self.store: Store = open_store(config, "portable", silent())
        self.draw = DRAWS.read(self.folder / "draws-portable.jsonl", self.store.records)[1]

    def places(self, ids: tuple[str, ...]) -> list[int]:
        known = [record.id for record in self.store.records]
        return [known.index(record_id) for record_id in ids]

    def dice(self, row: str, shot: int) -> dict[str, float]:
        return {
            found["query"]: found["dice"]
            for found in self.rows
            if found["method"] == row and found["shot"] == shot and found["draw"] in (-1, 1) and found["lesion"]
        }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, portable_phantoms: Collection) -> Run:
    # This seed's random networks mark something, but the U-Net: it is made to mark half of all pixels.
    networks = {name: seeded_network(ENCODER, model, seed=4).eval() for name, model in CHECKPOINTS.items()}
    with torch.inference_mode():
        logits = networks["unet"](image_tensor(np.array(portable_phantoms.stores[0].images[:])))
        networks["unet"].head.bias -= logits.median()
    return Run(tmp_path_factory.mktemp("api"), networks)


@pytest.fixture(scope="module")
def panet() -> Adaptable:
    return build("panet", model={"levels": [2], "output_stride": 8}, **SMALL)


@pytest.fixture(scope="module")
def prior() -> Adaptable:
    return build("panet", model=PRIOR, **SMALL)


# The benchmark's numbers


CASES: list[tuple[str, str, int, dict[str, Any]]] = [
    ("PANet", "panet", 2, {}),
    ("prior", "prior", 0, {}),
    ("prior", "prior", 2, {}),
    ("U-Net", "unet", 0, {}),
    ("U-Net fine-tuned", "unet", 2, {"method": "fine-tuned", "steps": 2}),
]


@pytest.mark.parametrize(("row", "model", "shot", "options"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("form", ["paths", "arrays", "Pillow"])
def test_masks_have_the_dice_of_the_benchmark_s_row(
    run: Run, row: str, model: str, shot: int, options: dict[str, Any], form: str
) -> None:
    records, maps = run.store.records, run.store.label_maps
    forms: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
        "paths": (lambda place: str(records[place].image), lambda place: records[place].masks[0]),
        "arrays": (lambda place: run.store.images[place], lambda place: maps[place] > 0),
        "Pillow": (lambda place: Image.open(records[place].image), lambda place: Image.open(records[place].masks[0])),
    }
    image, mask = forms[form]
    support, queries = run.places(run.draw.support[:shot]), list(range(len(records)))
    method = load(run.checkpoints[model], device="cpu", **options)
    segmenter = method.adapt([image(place) for place in support], [mask(place) for place in support])
    masks = dict(zip((record.id for record in records), segmenter.masks(map(image, queries)), strict=True))
    expected = run.dice(row, shot)
    assert np.mean(list(expected.values())) > 0.05  # something was found, so that the masks are put to the test
    found = {record.id: dice(masks[record.id], label_map > 0) for record, label_map in zip(records, maps, strict=True)}
    assert {query: found[query] for query in expected} == pytest.approx(expected, abs=1e-4)


# Sizes, order, state


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def annotated(*sizes: tuple[int, int]) -> tuple[list[Any], list[Any]]:
    masks = [np.zeros(size, bool) for size in sizes]
    for mask in masks:
        mask[: len(mask) // 2, 5:20] = True
    return pictures(*sizes), masks


SIZES = ((64, 64), (50, 80), (200, 131), (64, 64), (33, 40), (90, 90))


def test_masks_and_probabilities_have_the_size_of_each_image(panet: Adaptable) -> None:
    segmenter = panet.adapt(*annotated((70, 50), (64, 64)))
    images = pictures(*SIZES, seed=1)
    masks, probabilities = segmenter.masks(images), segmenter.probabilities(images)
    assert [mask.shape for mask in masks] == [part.shape for part in probabilities] == list(SIZES)
    for mask, probability in zip(masks, probabilities, strict=True):
        assert mask.dtype == bool
        assert probability.dtype == np.float32
        assert 0 <= probability.min() <= probability.max() <= 1
        unsure = np.abs(probability - 0.5) < 1e-5
        assert ((mask == (probability > 0.5)) | unsure).all()
    assert 0 < np.mean([mask.mean() for mask in masks]) < 1


def test_an_image_is_segmented_alike_whatever_stands_beside_it(panet: Adaptable) -> None:
    segmenter = panet.adapt(*annotated((64, 64)))
    images = pictures(*SIZES, seed=1)
    together = segmenter.probabilities(images)
    alone = [segmenter.probabilities([image])[0] for image in images]
    for left, right in zip(together, alone, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)
    assert segmenter.masks([]) == []


def test_fewer_images_are_segmented_at_once_where_memory_is_scarce(panet: Adaptable) -> None:
    images, scarce = pictures(*SIZES[:6], seed=1), Scarce(2)
    expected = panet.adapt(*annotated((64, 64))).probabilities(images)
    segmenter = panet.adapt(*annotated((64, 64)))
    with room_for_images(panet.method.network.encoder, scarce):  # type: ignore[attr-defined]
        found = segmenter.probabilities(images)
        assert scarce.tried == [4, 2, 2, 2]
        segmenter.masks(images)
        assert scarce.tried[4:] == [2, 2, 2]  # what was learned is kept
        scarce.room = 0
        with pytest.raises(UserError, match=r"^out of memory: cpu, one image at a time; set a smaller image_size"):
            segmenter.masks(images)
        with pytest.raises(UserError, match=r"^out of memory: cpu, adapting to 1 images; set a smaller image_size"):
            panet.adapt(*annotated((64, 64)))
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_images_of_another_size_are_segmented_about_alike(panet: Adaptable) -> None:
    support = annotated((64, 64))
    smooth = np.asarray(Image.fromarray(pictures((8, 8))[0]).resize((64, 64), Image.Resampling.BICUBIC))
    large = np.asarray(Image.fromarray(smooth).resize((256, 128), Image.Resampling.BICUBIC))
    segmenter = panet.adapt(*support)
    small_mask, large_mask = segmenter.masks([smooth, large])
    again = np.asarray(Image.fromarray(large_mask).resize((64, 64), Image.Resampling.NEAREST))
    assert (small_mask == again).mean() > 0.95


def test_a_method_serves_any_number_of_support_sets(panet: Adaptable) -> None:
    image = pictures((64, 64), seed=3)
    first = panet.adapt(*annotated((64, 64)))
    before = first.probabilities(image)[0]
    images, masks = annotated((64, 64))
    other = panet.adapt(images, [np.roll(masks[0], 20, axis=1)])
    assert not np.allclose(other.probabilities(image)[0], before)
    np.testing.assert_array_equal(first.probabilities(image)[0], before)


def test_no_gradients_are_kept_and_inference_mode_is_left(panet: Adaptable) -> None:
    panet.adapt(*annotated((64, 64))).masks(pictures((64, 64)))
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_a_built_network_depends_on_its_seed_alone() -> None:
    one, same, other = (
        build("panet", model={"levels": [2], "output_stride": 8}, seed=seed, **SMALL)
        .adapt(*annotated((64, 64)))
        .probabilities(pictures((64, 64), seed=5))[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


# Mistakes


def test_what_a_method_cannot_do_with_its_support_is_told(panet: Adaptable, prior: Adaptable) -> None:
    unet = build("unet", model={"levels": [1, 2], "options": {"decoder_channels": [16]}}, **SMALL)
    with pytest.raises(UserError, match=r"^the method needs annotated images; give them as adapt\(images, masks\)$"):
        panet.adapt()
    with pytest.raises(UserError, match=r'^the method cannot use annotated images; try load\(..., "fine-tuned"\)'):
        unet.adapt(*annotated((64, 64)))
    assert prior.adapt().masks(pictures((40, 30)))[0].shape == (40, 30)
    assert unet.adapt().masks(pictures((40, 30)))[0].shape == (40, 30)


EMPTY = np.zeros((64, 64), bool)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (pictures((64, 64), (64, 64)), [~EMPTY], r"^2 images and 1 masks; give every image its mask$"),
        (pictures((64, 60)), [EMPTY], r"^masks\[0\]: is 64x64, but images\[0\] is 64x60; give them one size$"),
        (pictures((64, 64)), [EMPTY], r"^masks\[0\]: the mask is empty; outline the lesion, or leave the image out$"),
        (pictures((64, 64)), [~EMPTY], r"^masks\[0\]: every pixel is True: nothing tells lesion from background; "),
        (["none.png"], [~EMPTY], r"^none\.png is missing; restore the original file$"),
        ("one.png", ["mask.png"], r"^images: found a single picture; give a list"),
        (pictures((64, 64)), ~EMPTY, r"^masks: found a single picture; give a list"),
        ([np.zeros((64, 64)) - 1], [~EMPTY], r"^images\[0\]: expected integers from 0 to 255 or floats"),
    ],
)
def test_a_support_set_that_cannot_be_used_is_named(panet: Adaptable, images: Any, masks: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        panet.adapt(images, masks)
    assert "\n" not in str(caught.value)


def test_a_query_that_cannot_be_read_is_named(panet: Adaptable, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    segmenter = panet.adapt(*annotated((64, 64)))
    with pytest.raises(UserError, match=r"broken\.png cannot be decoded"):
        segmenter.masks([*pictures((64, 64)), tmp_path / "broken.png"])
    with pytest.raises(UserError, match=r"^images\[5\]: has the shape"):
        segmenter.masks([*pictures(*SIZES[:5]), np.zeros(7)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fine-tunde"}, r"method 'fine-tunde' is unknown; did you mean 'fine-tuned'"),
        ({"method": "prototypes"}, r"needs a model of kind PANet, and was given UNet"),
        ({"method": "fine-tuned", "step": 3}, r"fine-tuned options: step: unknown key; did you mean 'steps'"),
        ({"steps": 3}, r"zero-shot options: steps: unknown key"),
        ({"device": "abacus"}, r"device: 'abacus' is not available"),
    ],
)
def test_a_method_that_does_not_fit_its_checkpoint_is_told(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(run.checkpoints["unet"], **{"device": "cpu", **options})


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(UserError, match=r"^none\.safetensors: no such checkpoint; `fewshot train` writes one$"):
        load("none.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": {"nmae": "resnet18"}}, "encoder: nmae: unknown key; did you mean 'name'"),
        ({"model": {"level": [2]}}, "model: level: unknown key; did you mean 'levels'"),
        ({"network": "panett"}, "network 'panett' is unknown; did you mean 'panet'"),
        (
            {"network": "fewshot.panet.network:PANet"},
            r"no method goes with the network 'fewshot\.panet\.network:PANet' by itself",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**{"network": "panet", "model": {"levels": [2]}, **SMALL, **options})


# The package itself


def test_importing_the_package_stays_light() -> None:
    program = "import sys, fewshot; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603
