"""What phantoms are: deterministic, labelled as drawn, and with the signs that radiology relies on."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.errors import SamplingError
from episodes.phantoms.imaging import SCANNERS
from episodes.phantoms.population import Phantom, PhantomSpec, generate, label_of, patient_of, phantom
from episodes.records import LABEL_VALUES, Label

scanners = pytest.mark.parametrize("scanner", SCANNERS)


@pytest.fixture(scope="module")
def images() -> dict[str, list[Phantom]]:
    return {scanner: list(generate(PhantomSpec(scanner, n_images=48, size=128))) for scanner in SCANNERS}


@scanners
def test_same_specification_gives_the_same_bytes(scanner: str, images: dict[str, list[Phantom]]) -> None:
    again = list(generate(PhantomSpec(scanner, n_images=2, size=128)))
    for one, other in zip(again, images[scanner], strict=False):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.label_map.tobytes() == other.label_map.tobytes()
        assert (one.name, one.patient, one.label, one.spacing) == (
            other.name,
            other.patient,
            other.label,
            other.spacing,
        )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 5000))
def test_an_image_depends_on_its_index_alone(seed: int, index: int) -> None:
    alone = phantom(PhantomSpec("linear", n_images=1, seed=seed, size=32), index)
    within = phantom(PhantomSpec("linear", n_images=9999, seed=seed, size=32), index)
    assert alone.image.tobytes() == within.image.tobytes()
    assert alone.name == within.name


def test_seeds_and_scanners_give_other_images() -> None:
    specs = [PhantomSpec(name, 1, seed, 64) for name in SCANNERS for seed in (0, 1)]
    assert len({next(generate(spec)).image.tobytes() for spec in specs}) == len(specs)


@scanners
def test_label_maps_agree_with_labels(scanner: str, images: dict[str, list[Phantom]]) -> None:
    for one in images[scanner]:
        assert one.image.shape == one.label_map.shape == (128, 128)
        assert one.image.dtype == one.label_map.dtype == np.uint8
        expected = {0} if one.label == "normal" else {0, LABEL_VALUES[one.label]}
        assert set(np.unique(one.label_map).tolist()) == expected
        assert one.spacing == (SCANNERS[scanner].depth / 128,) * 2


def test_patients_have_several_images_and_one_label(images: dict[str, list[Phantom]]) -> None:
    for dataset in images.values():
        counts = Counter(one.patient for one in dataset)
        assert set(counts.values()) == {2, 3, 4}
        assert len({(one.patient, one.label) for one in dataset}) == len(counts)
        assert len({one.name for one in dataset}) == len(dataset)


def test_labels_are_mixed_in_every_prefix() -> None:
    expected: dict[Label, float] = {"benign": 0.45, "malignant": 0.30, "normal": 0.25}
    labels = [label_of(patient_of(index)) for index in range(1200)]
    assert set(labels[:12]) == expected.keys()
    for length in range(24, 1201):
        shares = Counter(labels[:length])
        for label, share in expected.items():
            assert shares[label] / length == pytest.approx(share, abs=10 / length)


def test_images_of_a_patient_are_alike_but_not_equal(images: dict[str, list[Phantom]]) -> None:
    for dataset in images.values():
        lesions = [one for one in dataset if one.label != "normal"]
        areas: dict[str, list[float]] = {}
        for one in lesions:
            areas.setdefault(one.patient, []).append(float(np.count_nonzero(one.label_map)))
        within = np.mean([np.std(np.log(values)) for values in areas.values()])
        assert 0 < within < np.std([np.mean(np.log(values)) for values in areas.values()])


@scanners
def test_benign_lesions_enhance_and_malignant_ones_shadow(scanner: str, images: dict[str, list[Phantom]]) -> None:
    behind = {label: _behind(images[scanner], label) for label in ("benign", "malignant")}
    assert np.mean(behind["benign"]) > 8
    assert np.mean(behind["malignant"]) < -8


def _behind(dataset: list[Phantom], label: str) -> list[float]:
    """Mean grey level behind each lesion minus that beside, at the same depth."""
    differences = []
    for one in dataset:
        rows, columns = np.nonzero(one.label_map)
        if one.label != label or rows.max() > 105:
            continue
        strip = one.image[rows.max() + 2 : rows.max() + 18].astype(float)
        left, right = np.percentile(columns, [25, 75]).astype(int)
        beside = np.ones(128, dtype=bool)
        beside[max(columns.min() - 5, 0) : columns.max() + 6] = False
        if beside.sum() > 16:
            differences.append(strip[:, left:right].mean() - strip[:, beside].mean())
    assert len(differences) >= 5
    return differences


def test_lesions_are_darker_than_what_surrounds_them_but_a_threshold_does_not_find_them(
    images: dict[str, list[Phantom]],
) -> None:
    for dataset in images.values():
        lesions = [one for one in dataset if one.label != "normal"]
        darker = [one.image[one.label_map > 0].mean() < one.image[one.label_map == 0].mean() for one in lesions]
        assert np.mean(darker) > 0.9

        def dice(threshold: int, lesions: list[Phantom] = lesions) -> float:
            scores = []
            for one in lesions:
                found, lesion = one.image < threshold, one.label_map > 0
                scores.append(2 * np.count_nonzero(found & lesion) / (found.sum() + lesion.sum()))
            return float(np.mean(scores))

        assert max(map(dice, range(5, 160, 5))) < 0.5


def test_scanners_differ(images: dict[str, list[Phantom]]) -> None:
    measures: tuple[Callable[[NDArray[np.uint8]], float], ...] = (
        lambda image: float(image.mean()) / 10,
        lambda image: float(image.std()) / 5,
        lambda image: _neighbours_alike(image) * 20,
        lambda image: _neighbours_alike(image.T) * 20,
    )
    typical = {
        name: np.array([np.mean([measure(one.image) for one in dataset]) for measure in measures])
        for name, dataset in images.items()
    }
    for one, other in combinations(typical, 2):
        assert np.linalg.norm(typical[one] - typical[other]) > 1.5, (one, other, typical)


def _neighbours_alike(image: NDArray[np.uint8]) -> float:
    """Correlation of pixels two columns apart: large where speckle is coarse."""
    return float(np.corrcoef(image[:, 2:].ravel(), image[:, :-2].ravel())[0, 1])


def test_unknown_scanner_names_the_known_ones() -> None:
    with pytest.raises(SamplingError, match=r"'liner'.*linear, highfreq, portable"):
        PhantomSpec("liner")


@pytest.mark.parametrize("wrong", [{"n_images": 0}, {"seed": -1}, {"size": 16}])
def test_wrong_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SamplingError, match=f"{next(iter(wrong))}.*at least"):
        PhantomSpec("linear", **wrong)
