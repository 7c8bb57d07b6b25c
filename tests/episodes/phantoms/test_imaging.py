"""The physics: speckle, resolution, attenuation and compression against textbook values."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.phantoms.anatomy import Inclusion, ellipse, insert
from episodes.phantoms.imaging import SCANNERS, b_mode, compress, envelope, resolution, travel_loss
from episodes.phantoms.textures import Grid, Tissue

scanners = pytest.mark.parametrize("scanner", SCANNERS)


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
    axial, lateral = (sigma * size / physics.depth for sigma in resolution(physics, physics.focus * physics.depth))
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
