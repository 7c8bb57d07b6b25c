"""The layers of a breast in front of the chest wall: skin, fat, gland, pectoral muscle, ribs."""

from dataclasses import dataclass

import numpy as np

from episodes.phantoms.imaging import Tissue
from episodes.phantoms.textures import FloatArray, Grid, curve, field, ramp, sheared, sheets


@dataclass(frozen=True, slots=True)
class Breast:
    """What the images of one patient share.

    Attributes:
        skin: thickness of the skin, mm.
        fat: depth at which fat ends and gland begins, mm.
        fascia: depth of the fascia in front of the pectoral muscle, mm.
        muscle: thickness of the muscle, mm.
        fat_level: backscatter of fat, dB relative to glandular tissue.
        muscle_level: backscatter of muscle, likewise.
        fattiness: share of the gland that fat has replaced, 0 to 1.
        fibrosis: strength of the gland's texture, dB.
        ligaments: distance between Cooper's ligaments, mm.
        rib: lateral position of the nearest rib, mm from the middle.
    """

    skin: float
    fat: float
    fascia: float
    muscle: float
    fat_level: float
    muscle_level: float
    fattiness: float
    fibrosis: float
    ligaments: float
    rib: float


def draw_breast(rng: np.random.Generator, depth: float) -> Breast:
    """Draw a patient; the operator has set the image's depth (mm) to suit her, so the layers scale with it."""
    return Breast(
        skin=rng.uniform(1.0, 1.8),
        fat=depth * rng.uniform(0.13, 0.32),
        fascia=depth * rng.uniform(0.62, 0.85),
        muscle=rng.uniform(6, 10),
        fat_level=rng.uniform(-15, -9),
        muscle_level=rng.uniform(-13, -8),
        fattiness=rng.uniform(0.05, 0.45),
        fibrosis=rng.uniform(2.0, 4.0),
        ligaments=rng.uniform(7, 13),
        rib=rng.uniform(-14, 14),
    )


def build(breast: Breast, grid: Grid, rng: np.random.Generator) -> Tissue:
    """Fill the image with layers.

    Args:
        breast: what the patient's images share.
        grid: the image.
        rng: draws what differs from section to section: boundaries and textures.

    Returns:
        The tissue without any inclusion.
    """
    waves = curve(rng, grid.x, 18, 0.8)
    phase = (
        np.pi * grid.x / np.float32(breast.ligaments)
        + np.float32(rng.uniform(0, np.pi))
        + curve(rng, grid.x, 14, 0.5)
    )
    lobes = np.abs(np.sin(phase))  # fat lobules bulge down between the ligaments that hold them
    fat_end = breast.fat + waves + 2.2 * (lobes - np.float32(0.6)) + curve(rng, grid.x, 4, 0.25)
    fat_end = np.maximum(fat_end, np.float32(breast.skin + 1))
    fascia = breast.fascia + curve(rng, grid.x, 40, 1.2) + grid.x * np.float32(rng.normal(0, 0.06))
    tissue = _fat(breast, grid, rng)
    _ligaments(tissue, breast, grid, fat_end, rng)
    _gland(tissue, breast, grid, fat_end, fascia, rng)
    _muscle(tissue, breast, grid, fascia, rng)
    _ribs(tissue, breast, grid, fascia)
    _skin(tissue, breast, grid, rng)
    _contact(tissue, grid, rng)
    return tissue


def _fat(breast: Breast, grid: Grid, rng: np.random.Generator) -> Tissue:
    texture = field(rng, grid, 0.7, 1.2)
    septa = sheets(field(rng, grid, 1.6, 4.0), grid, thickness=0.12, step=4.0, power=3)
    return Tissue(
        level=np.float32(breast.fat_level) + texture,
        specular=septa * np.abs(texture) * np.float32(0.9),
        attenuation=np.full((grid.size, grid.size), 0.5, dtype=np.float32),
    )


def _ligaments(
    tissue: Tissue, breast: Breast, grid: Grid, fat_end: FloatArray, rng: np.random.Generator
) -> None:
    """Cooper's ligaments: echogenic bands from the gland's peaks to the skin, each with a faint shadow."""
    lean = curve(rng, grid.z, 9, 1.0) + (grid.z - np.float32(breast.fat)) * np.float32(rng.normal(0, 0.5))
    spread = np.float32(breast.ligaments)
    at = grid.x + lean
    offset = at - spread * np.round(at / spread) + curve(rng, at, 8, 0.5)
    band = np.exp(-((offset / np.float32(0.3)) ** 2)) * ramp(fat_end - grid.z, 0.5)
    tissue.level += band * np.float32(7)
    tissue.attenuation += band * np.float32(0.4)


def _gland(
    tissue: Tissue,
    breast: Breast,
    grid: Grid,
    fat_end: FloatArray,
    fascia: FloatArray,
    rng: np.random.Generator,
) -> None:
    streaks = sheared(field(rng, grid, 0.35, 2.2), fat_end * np.float32(0.7), grid)
    patches = field(rng, grid, 1.6, 3.2)
    # Fat that has replaced gland: the highest values of a field, and a layer in front of the muscle.
    threshold = np.float32(1.9 - 2.2 * breast.fattiness)
    fatty = np.maximum(
        ramp(patches - threshold, 0.3),
        ramp(grid.z - fascia + np.float32(2.0 + 0.4 * breast.muscle * breast.fattiness), 0.8),
    )
    level = np.float32(breast.fibrosis) * (streaks * np.float32(0.8) - patches * np.float32(0.5))
    level += fatty * (np.float32(breast.fat_level) - level)
    inside = ramp(grid.z - fat_end, 0.4)
    fibres = sheets(streaks, grid, thickness=0.1, step=2.5, power=4) * np.maximum(
        patches + np.float32(0.3), 0
    )
    rim = np.exp(-(((grid.z - fat_end) / np.float32(0.25)) ** 2))
    tissue.level += inside * (level - tissue.level)
    tissue.specular *= 1 - inside
    tissue.specular += inside * (1 - fatty) * fibres * np.float32(1.6) + rim * np.maximum(
        streaks, 0
    ) * np.float32(1.5)
    tissue.attenuation += inside * (np.float32(0.75) - np.float32(0.2) * fatty - tissue.attenuation)


def _muscle(tissue: Tissue, breast: Breast, grid: Grid, fascia: FloatArray, rng: np.random.Generator) -> None:
    """Dark bundles of fibres between bright, nearly level sheets; a bright fascia in front and behind."""
    bundles = sheared(field(rng, grid, 0.45, 7.0), fascia, grid)
    below = grid.z - fascia
    inside = ramp(below, 0.4)
    fibres = sheets(bundles, grid, thickness=0.14, step=1.6, power=6)
    front = np.exp(-((below / np.float32(0.25)) ** 2))
    back = np.exp(-(((below - np.float32(breast.muscle)) / np.float32(0.35)) ** 2))
    tissue.level += inside * (np.float32(breast.muscle_level) + np.float32(2.0) * bundles - tissue.level)
    behind = ramp(below - np.float32(breast.muscle), 1.0)
    tissue.level -= behind * np.float32(6)
    tissue.specular *= 1 - inside
    tissue.specular += (
        inside * (1 - behind) * fibres * np.float32(1.1) * np.maximum(bundles + np.float32(1.2), 0)
    )
    tissue.specular += front * np.float32(2.0) + back * np.float32(1.6)
    tissue.attenuation += inside * (np.float32(0.85) - tissue.attenuation)


def _ribs(tissue: Tissue, breast: Breast, grid: Grid, fascia: FloatArray) -> None:
    """Ribs behind the muscle, 24 mm apart: a bright arc and nothing but shadow below."""
    across = grid.x - np.float32(breast.rib)
    across = across - np.float32(24) * np.round(across / np.float32(24))
    arc = fascia + np.float32(breast.muscle) - 3 * np.sqrt(np.maximum(1 - (across / np.float32(6)) ** 2, 0))
    below = grid.z - arc
    bone = np.where(np.abs(across) < 6, ramp(below, 0.4), np.float32(0))
    surface = np.where(np.abs(across) < 6, np.exp(-((below / np.float32(0.35)) ** 2)), np.float32(0))
    tissue.specular += surface * np.float32(5) * (1 - (across / np.float32(7)) ** 2)
    tissue.attenuation += bone * np.float32(6)


def _skin(tissue: Tissue, breast: Breast, grid: Grid, rng: np.random.Generator) -> None:
    depth = np.float32(breast.skin) + curve(rng, grid.x, 25, 0.1)
    inside = ramp(depth - grid.z, 0.2)
    tissue.level += inside * (np.float32(1) - tissue.level)
    tissue.specular *= 1 - inside
    for at, strength in (
        (np.float32(0.25), 4.0),
        (depth, 2.0),
        (depth * np.float32(2), 0.25),
    ):  # the last: reverberation
        tissue.specular += np.exp(-(((grid.z - at) / np.float32(0.12)) ** 2)) * np.float32(strength)


def _contact(tissue: Tissue, grid: Grid, rng: np.random.Generator) -> None:
    """Loss in the first millimetres: uneven coupling everywhere, and sometimes a probe that lifts off at one side."""
    loss = np.maximum(curve(rng, grid.x, 5, 1.0), 0) * np.float32(0.8)
    if rng.random() < 0.3:
        side = rng.choice((-1, 1))
        edge = np.float32(grid.size * grid.spacing / 2 * rng.uniform(0.75, 1.0))
        loss = loss + np.float32(rng.uniform(2, 8)) * ramp(side * grid.x - edge, 4.0)
    tissue.attenuation += loss * np.exp(-(((grid.z - 2) / np.float32(1)) ** 2))
