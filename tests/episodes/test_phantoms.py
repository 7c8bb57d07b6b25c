"""What phantoms are: deterministic, labelled as drawn, and with the physics that radiology relies on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.errors import SamplingError
from episodes.phantoms import SCANNERS, Phantom, PhantomSpec, generate
from episodes.phantoms.anatomy import draw_breast
from episodes.phantoms.imaging import b_mode, compress, envelope, resolution, travel_loss
from episodes.phantoms.inclusions import Inclusion, insert
from episodes.phantoms.lesions import draw_lesion
from episodes.phantoms.outlines import ellipse
from episodes.phantoms.population import label_of, patient_of, phantom
from episodes.phantoms.textures import Grid
from episodes.phantoms.tissue import Tissue
from episodes.records import LABEL_VALUES

scanners = pytest.mark.parametrize("scanner", SCANNERS)


@pytest.fixture(scope="module")
def images() -> dict[str, list[Phantom]]:
    return {scanner: list(generate(PhantomSpec(scanner, n_images=48, size=128))) for scanner in SCANNERS}


# --- what is generated ------------------------------------------------------------------------------------


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
    labels = [label_of(patient_of(index)) for index in range(1200)]
    assert set(labels[:12]) == {"benign", "malignant", "normal"}
    for length in range(24, 1201):
        shares = Counter(labels[:length])
        for label, share in (("benign", 0.45), ("malignant", 0.30), ("normal", 0.25)):
            assert shares[label] / length == pytest.approx(share, abs=10 / length)


def test_images_of_a_patient_are_alike_but_not_equal(images: dict[str, list[Phantom]]) -> None:
    for dataset in images.values():
        lesions = [one for one in dataset if one.label != "normal"]
        areas: dict[str, list[float]] = {}
        for one in lesions:
            areas.setdefault(one.patient, []).append(float(np.count_nonzero(one.label_map)))
        within = np.mean([np.std(np.log(values)) for values in areas.values()])
        assert 0 < within < np.std([np.mean(np.log(values)) for values in areas.values()])


def test_lesions_have_the_sizes_and_shapes_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    aspects: dict[bool, list[float]] = {True: [], False: []}
    shares = []
    for index in range(300):
        malignant = index % 2 == 0
        lesion = draw_lesion(rng, malignant, draw_breast(rng, 40.0), depth=40.0)
        aspects[malignant].append(lesion.half_width / lesion.half_height)
        shares.append(np.pi * float(np.mean(lesion.outline**2)) / 40.0**2)
    assert np.mean(aspects[False]) > 1.3  # wider than tall
    assert np.mean(aspects[True]) < 0.9  # taller than wide
    assert min(shares) >= 0.01
    assert max(shares) <= 0.25
    assert np.mean(np.array(shares) < 0.03) == pytest.approx(0.1, abs=0.05)


def test_malignant_margins_are_rougher() -> None:
    rng = np.random.default_rng(1)
    breast = draw_breast(rng, 40.0)

    def roughness(malignant: bool) -> float:
        outlines = [draw_lesion(rng, malignant, breast, 40.0).outline for _ in range(50)]
        return float(np.mean([np.abs(np.diff(outline)).sum() / outline.mean() for outline in outlines]))

    assert roughness(malignant=True) > 1.5 * roughness(malignant=False)


# --- physics ----------------------------------------------------------------------------------------------


@scanners
def test_speckle_of_homogeneous_tissue_is_rayleigh(scanner: str) -> None:
    flat = np.ones((256, 256), dtype=np.float32)
    echoes = envelope(flat, 0 * flat, replace(SCANNERS[scanner], looks=1), np.random.default_rng(0))
    assert np.sqrt(np.mean(echoes**2)) == pytest.approx(1, rel=0.05)
    # sqrt(pi / (4 - pi)): Wagner et al. 1983
    assert echoes.mean() / echoes.std() == pytest.approx(1.913, rel=0.03)


def test_compounding_averages_speckle() -> None:
    flat = np.ones((256, 256), dtype=np.float32)
    single, compounded = (
        envelope(flat, 0 * flat, replace(SCANNERS["linear"], looks=looks), np.random.default_rng(0)) ** 2
        for looks in (1, 4)
    )
    gain = (compounded.mean() / compounded.std()) / (single.mean() / single.std())
    assert gain == pytest.approx(2, rel=0.1)  # the square root of the looks


@scanners
def test_speckle_has_the_size_of_the_point_spread_function(scanner: str) -> None:
    physics = replace(SCANNERS[scanner], looks=1)
    size = 320
    flat = np.ones((size, size), dtype=np.float32)
    intensity = envelope(flat, 0 * flat, physics, np.random.default_rng(0)) ** 2
    middle = round(size * physics.focus)
    band = intensity[middle - 30 : middle + 30]
    axial, lateral = (
        sigma * size / physics.depth for sigma in resolution(physics, physics.focus * physics.depth)
    )
    # The intensity of Gaussian-filtered complex noise correlates as exp(-shift^2 / (2 sigma^2)).
    for axis, sigma in ((0, axial), (1, lateral)):
        assert _correlation(band, axis, 1) == pytest.approx(np.exp(-1 / (2 * sigma**2)), abs=0.06)


def _correlation(values: NDArray[np.float32], axis: int, shift: int) -> float:
    length = values.shape[axis] - shift
    first, second = (np.take(values, range(start, start + length), axis).ravel() for start in (0, shift))
    return float(np.corrcoef(first, second)[0, 1])


@scanners
def test_the_beam_is_narrowest_at_its_focus(scanner: str) -> None:
    physics = SCANNERS[scanner]
    focus = physics.focus * physics.depth
    at_focus = resolution(physics, focus)[1]
    assert at_focus < resolution(physics, 0)[1]
    assert at_focus < resolution(physics, physics.depth)[1]
    assert at_focus == pytest.approx(physics.f_number * 1.54 / physics.frequency / 2.355)


def test_nothing_leaves_the_image_on_one_side_and_enters_on_the_other() -> None:
    mirror = np.zeros((128, 128), dtype=np.float32)
    mirror[0] = mirror[:, 0] = 1
    echoes = envelope(0 * mirror, mirror, SCANNERS["portable"], np.random.default_rng(0))
    assert echoes[0, 0] > 0.1
    assert echoes[64:, 64:].max() < 2e-3 * echoes.max()


def test_echo_of_a_mirror_does_not_depend_on_the_pixels() -> None:
    peaks = []
    for size in (128, 256):
        grid = Grid(size, 40.0 / size)
        mirror = np.exp(-(((grid.z - 20) / 2) ** 2)) + 0 * grid.x
        peaks.append(envelope(0 * mirror, mirror, SCANNERS["linear"], np.random.default_rng(0)).max())
    assert peaks[0] == pytest.approx(peaks[1], rel=0.05)


def test_travel_loss_by_hand() -> None:
    physics = replace(SCANNERS["linear"], frequency=10.0, depth=20.0)
    loss = travel_loss(np.full((20, 20), 0.5, dtype=np.float32), physics)
    # 1 cm there and back at 0.5 dB / cm / MHz and 10 MHz: 10 dB
    np.testing.assert_allclose(loss[9], 10, rtol=1e-5)


def test_compression_by_hand() -> None:
    physics = replace(SCANNERS["linear"], dynamic_range=40.0, gamma=2.0, smoothing=0.0, sharpening=0.0)
    echoes = np.array([[100.0, 1.0], [0.1, 0.01]], dtype=np.float32)  # 40, 0, -20, -40 dB
    # 10 dB below white: 3/4 of the range; then the square
    assert compress(echoes, physics, gain=10.0).tolist() == [[255, 143], [16, 0]]


def _image_of(inclusion: Inclusion, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    grid = Grid(128, 40.0 / 128)
    tissue = Tissue.homogeneous(128, level=0.0, attenuation=0.65)
    rng = np.random.default_rng(seed)
    mask = insert(tissue, grid, inclusion, rng)
    return b_mode(tissue, SCANNERS["linear"], rng), mask


@pytest.mark.parametrize(("attenuation", "sign"), [(0.2, 1), (0.65, 0), (1.3, -1)])
def test_attenuation_of_an_inclusion_enhances_or_shadows(attenuation: float, sign: int) -> None:
    inclusion = Inclusion(
        outline=6 * ellipse(1.0, 0.0), level=-12, heterogeneity=0, attenuation=attenuation, margin=0.3, z=14
    )
    image, mask = _image_of(inclusion, seed=0)
    assert mask.sum() * (40 / 128) ** 2 == pytest.approx(np.pi * 36, rel=0.02)
    difference = image[70:80, 58:70].mean() - image[70:80, 10:30].mean()
    # 1.2 cm there and back at 9 MHz, on a scale of 58 dB to 255 grey levels
    expected = 255 / 58 * 2 * 1.2 * 9 * (0.65 - attenuation)
    assert np.sign(round(difference / 20)) == sign
    assert abs(difference - expected) < 25


@scanners
def test_benign_lesions_enhance_and_malignant_ones_shadow(
    scanner: str, images: dict[str, list[Phantom]]
) -> None:
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
        darker = [
            one.image[one.label_map > 0].mean() < one.image[one.label_map == 0].mean() for one in lesions
        ]
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
        lambda image: _correlation(image.astype(np.float32), 1, 2) * 20,
        lambda image: _correlation(image.astype(np.float32), 0, 2) * 20,
    )
    typical = {
        name: np.array([np.mean([measure(one.image) for one in dataset]) for measure in measures])
        for name, dataset in images.items()
    }
    for one, other in combinations(typical, 2):
        assert np.linalg.norm(typical[one] - typical[other]) > 1.5, (one, other, typical)


# --- what a user can get wrong ----------------------------------------------------------------------------


def test_unknown_scanner_names_the_known_ones() -> None:
    with pytest.raises(SamplingError, match=r"'liner'.*linear, highfreq, portable"):
        PhantomSpec("liner")


@pytest.mark.parametrize("wrong", [{"n_images": 0}, {"seed": -1}, {"size": 16}])
def test_wrong_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SamplingError, match=f"{next(iter(wrong))}.*at least"):
        PhantomSpec("linear", **wrong)
