"""The layers of a breast in front of the chest wall: skin, fat, gland, pectoral muscle, ribs."""

from dataclasses import dataclass

import numpy as np

from episodes.phantoms.textures import FloatArray, Grid, Tissue, curve, field, ramp, ridge, sheared, sheets

RIB_SPACING = 30.0  # mm
RIB_HALF_WIDTH = 8.0  # mm


@dataclass(frozen=True, slots=True)
class Breast:
    """The layers of a breast, which the images of one patient share."""

    skin: float  # thickness of the skin, mm
    fat: float  # depth at which fat ends and gland begins, mm
    fascia: float  # depth of the fascia in front of the pectoral muscle, mm
    muscle: float  # thickness of the muscle, mm
    fat_level: float  # backscatter of fat, dB relative to glandular tissue
    muscle_level: float  # backscatter of muscle, likewise
    fattiness: float  # share of the gland that fat has replaced, 0 to 1
    fibrosis: float  # strength of the gland's texture, dB
    ligaments: float  # distance between Cooper's ligaments, mm
    rib: float | None  # lateral position of a rib, mm from the middle; none where the probe lies between the ribs


def draw_breast(rng: np.random.Generator, depth: float) -> Breast:
    """Draw a patient, whose layers scale with the depth of the image in mm: the operator set it to suit the patient."""
    return Breast(
        skin=rng.uniform(1.0, 1.8),
        fat=depth * rng.uniform(0.12, 0.32),
        fascia=depth * rng.uniform(0.6, 0.8),
        muscle=rng.uniform(6, 10),
        fat_level=rng.uniform(-15, -9),
        muscle_level=rng.uniform(-13, -8),
        fattiness=rng.uniform(0.05, 0.5),
        fibrosis=rng.uniform(2.5, 5.0),
        ligaments=rng.uniform(7, 13),
        rib=rng.uniform(-RIB_SPACING / 2, RIB_SPACING / 2) if rng.random() < 0.4 else None,
    )


def build(breast: Breast, grid: Grid, rng: np.random.Generator) -> Tissue:
    """Fill a section with the layers of a breast, without any inclusion; `rng` draws its boundaries and textures."""
    fat_end = _fat_end(breast, grid, rng)
    fascia = breast.fascia + curve(rng, grid.x, 60, 0.6) + grid.x * rng.normal(0, 0.05)
    tissue = Tissue.homogeneous(grid.size, breast.fat_level, attenuation=0.5)
    _add_septa(tissue, grid, rng)
    _add_ligaments(tissue, breast, grid, fat_end, rng)
    _add_gland(tissue, breast, grid, fat_end, fascia, rng)
    _add_muscle(tissue, breast, grid, fascia, rng)
    if breast.rib is not None:
        _add_ribs(tissue, grid, fascia + breast.muscle, breast.rib)
    _add_skin(tissue, breast, grid, rng)
    _loosen_contact(tissue, grid, rng)
    return tissue


def _fat_end(breast: Breast, grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Draw the depth at which fat ends, (1, W): its lobules bulge down between the ligaments that hold them."""
    phase = np.pi / breast.ligaments * grid.x + rng.uniform(0, np.pi) + curve(rng, grid.x, 14, 0.5)
    bulge = 2.2 * (np.abs(np.sin(phase)) - 0.6)
    depth = breast.fat + bulge + curve(rng, grid.x, 18, 0.8) + curve(rng, grid.x, 5, 0.2)
    return np.maximum(depth, breast.skin + 1)


def _add_septa(tissue: Tissue, grid: Grid, rng: np.random.Generator) -> None:
    """Add the texture of fat, and the thin walls between its lobules."""
    texture = field(rng, grid, 0.7, 1.2)
    septa = sheets(field(rng, grid, 1.4, 4.0), grid, thickness=0.1, step=2.5, power=3)
    tissue.level[...] += texture
    tissue.specular[...] += 0.9 * septa * np.abs(texture)


def _add_ligaments(tissue: Tissue, breast: Breast, grid: Grid, fat_end: FloatArray, rng: np.random.Generator) -> None:
    """Add Cooper's ligaments: echogenic bands that lean from the gland to the skin, each with a faint shadow."""
    at = grid.x + curve(rng, grid.z, 9, 1.0) + (grid.z - breast.fat) * rng.normal(0, 0.5)
    apart = at - breast.ligaments * np.round(at / breast.ligaments) + curve(rng, at, 8, 0.5)
    band = ridge(apart, 0.3) * ramp(fat_end - grid.z, 0.5)
    tissue.level[...] += 7 * band
    tissue.attenuation[...] += 0.4 * band


def _add_gland(
    tissue: Tissue, breast: Breast, grid: Grid, fat_end: FloatArray, fascia: FloatArray, rng: np.random.Generator
) -> None:
    """Add echogenic fibres that follow the layers, fat between them and in front of the muscle."""
    layering = 0.5 * fat_end + 0.5 * fascia
    fine = sheared(field(rng, grid, 0.3, 1.8), layering, grid)
    coarse = sheared(field(rng, grid, 0.9, 4.5), layering, grid)
    patches = field(rng, grid, 1.8, 3.5)
    below = grid.z - fascia
    fatty = np.maximum(
        ramp(patches + 0.3 * coarse - (1.9 - 2.2 * breast.fattiness), 0.35),
        ramp(below + 1.5 + 5 * breast.fattiness, 0.8),
    )
    fibrous = breast.fibrosis * (0.6 * fine + 0.8 * coarse) - 1.5 * patches - 2
    inside = ramp(grid.z - fat_end, 0.4)
    fibres = sheets(coarse, grid, thickness=0.09, step=1.1, power=4) * np.maximum(fine + 0.5, 0)
    tissue.fill(inside, fibrous + fatty * (breast.fat_level - fibrous), 0.75 - 0.2 * fatty)
    tissue.specular[...] += inside * (1 - 0.7 * fatty) * 1.2 * fibres
    tissue.specular[...] += 1.2 * ridge(grid.z - fat_end, 0.2) * np.maximum(fine + 0.3, 0)


def _add_muscle(tissue: Tissue, breast: Breast, grid: Grid, fascia: FloatArray, rng: np.random.Generator) -> None:
    """Add dark bundles between bright, nearly level sheets; fascia in front, a dark chest wall behind."""
    bundles = sheared(field(rng, grid, 0.4, 6.0), fascia, grid)
    broken = np.maximum(field(rng, grid, 0.8, 3.0) + 0.6, 0)
    below = grid.z - fascia
    behind = ramp(below - breast.muscle, 2.0)
    tissue.fill(ramp(below, 0.4), breast.muscle_level + 1.5 * bundles - 7 * behind, 0.85)
    fibres = ramp(below, 0.4) * sheets(bundles, grid, thickness=0.09, step=1.5, power=6)
    tissue.specular[...] += broken * (0.9 * (1 - behind) * fibres + 1.3 * ridge(below, 0.2))


def _add_ribs(tissue: Tissue, grid: Grid, depth: FloatArray, middle: float) -> None:
    """Add ribs behind the muscle: a bright arc, and nothing but shadow below; the pleura between them."""
    across = grid.x - middle
    across = (across - RIB_SPACING * np.round(across / RIB_SPACING)) / RIB_HALF_WIDTH
    bone = np.abs(across) < 1
    below = grid.z - depth - 1 + 3 * np.sqrt(np.maximum(1 - across**2, 0))
    surface = np.where(bone, 2.5 * (1 - across**2), 0.6) * ridge(below - np.where(bone, 0, 3), 0.3)
    tissue.specular[...] += surface
    tissue.attenuation[...] += np.where(bone, 5 * ramp(below, 0.4), 0)


def _add_skin(tissue: Tissue, breast: Breast, grid: Grid, rng: np.random.Generator) -> None:
    """Add an echogenic layer between two bright lines, and the faint reverberation of the deeper one."""
    depth = breast.skin + curve(rng, grid.x, 25, 0.1)
    tissue.fill(ramp(depth - grid.z, 0.2), 0.0, 0.5)
    for at, strength in ((0.25, 3.0), (depth, 1.5), (2 * depth, 0.2)):
        tissue.specular[...] += strength * ridge(grid.z - at, 0.12)


def _loosen_contact(tissue: Tissue, grid: Grid, rng: np.random.Generator) -> None:
    """Make coupling uneven everywhere, and sometimes lift the probe off at one side."""
    loss = 0.8 * np.maximum(curve(rng, grid.x, 5, 1.0), 0)
    if rng.random() < 0.3:
        side, edge = float(rng.choice((-1, 1))), grid.size * grid.spacing * rng.uniform(0.36, 0.5)
        loss = loss + rng.uniform(1, 4) * ramp(side * grid.x - edge, 6.0)
    tissue.attenuation[...] += loss * ridge(grid.z - 2, 1.0)
