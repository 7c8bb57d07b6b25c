"""The layers of a breast in front of the chest wall, and what is embedded in them: lesions, fat lobules, ducts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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


ANGLES = np.linspace(-np.pi, np.pi, 720, endpoint=False, dtype=np.float32)


def ellipse(aspect: float, tilt: float) -> FloatArray:
    """Return the radius, at each of `ANGLES`, of an ellipse of unit mean square radius, tilted by so many radians.

    `aspect` is its width over its height before the tilt.
    """
    wide, high = np.cos(ANGLES - tilt), np.sin(ANGLES - tilt)
    return normalised(1 / np.sqrt(wide**2 / aspect + high**2 * aspect))


def normalised(radius: FloatArray) -> FloatArray:
    """Scale an outline so that it encloses the area of the unit circle."""
    return np.asarray(radius / np.sqrt(np.mean(radius**2)), dtype=np.float32)


def lobulation(rng: np.random.Generator, strength: float, lowest: int, highest: int) -> FloatArray:
    """Draw waves, `lowest` to `highest` per turn, faster ones weaker; mean 0, standard deviation `strength`."""
    orders = np.arange(lowest, highest + 1)
    weights = rng.standard_normal(len(orders)) / np.sqrt(orders)
    waves = np.cos(orders[:, None] * ANGLES + rng.uniform(0, 2 * np.pi, (len(orders), 1)))
    total = weights @ waves
    return np.asarray(strength * total / max(float(total.std()), 1e-9), dtype=np.float32)


def corners(rng: np.random.Generator, count: int, strength: float) -> FloatArray:
    """Draw straight runs between `count` corners of random radius; mean 0, standard deviation `strength`."""
    at = np.sort(rng.uniform(-np.pi, np.pi, count))
    values = np.interp(ANGLES, at, rng.standard_normal(count), period=2 * np.pi)
    values -= values.mean()
    return np.asarray(strength * values / max(float(values.std()), 1e-9), dtype=np.float32)


def spicules(rng: np.random.Generator, count: int, length: float) -> FloatArray:
    """Draw spikes of random place, width and length (up to `length` of the radius) that grow outwards."""
    at, width = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(0.05, 0.14, (count, 1))
    apart = np.abs((ANGLES - at + np.pi) % (2 * np.pi) - np.pi)
    heights = rng.uniform(0.3, 1.0, (count, 1)) * length
    return np.asarray(np.max(heights * np.maximum(1 - apart / (2 * width), 0), axis=0), dtype=np.float32)


REACH = 5.0  # mm around an inclusion within which it changes the tissue
CALCIFICATION = 0.12  # mm, radius


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One inclusion."""

    outline: FloatArray  # radius in mm at each of `ANGLES`
    level: float  # backscatter, dB relative to glandular tissue
    heterogeneity: float  # standard deviation of the level within, dB
    attenuation: float  # one way, dB / cm / MHz. Below its surroundings it brightens what lies behind, above it shadows
    margin: float  # width of the transition to the surroundings, mm
    x: float = 0.0  # lateral position of its centre, mm from the middle
    z: float = 0.0  # depth of its centre, mm
    capsule: float = 0.0  # amplitude of the mirror-like echo where the margin faces the probe
    halo: float = 0.0  # rise of the level around the margin, dB
    streaks: float = 0.0  # strength of the lines that radiate from the margin, dB
    edge_shadow: float = 0.0  # attenuation at the lateral edges, where the beam is refracted away
    calcifications: int = 0  # number of point echoes within

    @property
    def half_width(self) -> float:
        """Return half its extent from left to right, mm."""
        return float(np.ptp(self.outline * np.cos(ANGLES))) / 2

    @property
    def half_height(self) -> float:
        """Return half its extent from top to bottom, mm."""
        return float(np.ptp(self.outline * np.sin(ANGLES))) / 2


@dataclass(frozen=True, slots=True)
class _Frame:
    """The pixels of a window as seen from an inclusion: each (h, w), or broadcast to it; in mm."""

    right: FloatArray
    down: FloatArray
    outside: FloatArray  # along the radius, beyond the outline; negative within
    angle: NDArray[np.int64]  # index into ANGLES


def insert(tissue: Tissue, grid: Grid, inclusion: Inclusion, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put an inclusion into the tissue, in place, and return its pixels, (H, W); `rng` draws its texture."""
    mask = np.zeros((grid.size, grid.size), dtype=np.bool_)
    window = _window(inclusion, grid)
    if mask[window].size:
        frame = _frame(inclusion, grid, window)
        part = tissue.within(window)
        mask[window] = frame.outside < 0
        _disturb(part, inclusion, frame, rng)
        _fill(part, inclusion, frame, grid, rng)
        facing = np.abs(frame.down) / (np.hypot(frame.down, frame.right) + 1e-3)
        part.specular[...] += inclusion.capsule * facing**3 * ridge(frame.outside, 0.2)
        beside = ridge(np.abs(frame.right) - inclusion.half_width, 0.5)
        part.attenuation[...] += inclusion.edge_shadow * beside * ridge(frame.down, 0.35 * inclusion.half_height)
    return mask


def _window(inclusion: Inclusion, grid: Grid) -> tuple[slice, slice]:
    reach = float(inclusion.outline.max()) + REACH

    def around(centre: float) -> slice:
        first, last = (round((centre + r) / grid.spacing) for r in (-reach, reach))
        return slice(max(first, 0), max(last, 0))

    return around(inclusion.z), around(inclusion.x + grid.size * grid.spacing / 2)


def _frame(inclusion: Inclusion, grid: Grid, window: tuple[slice, slice]) -> _Frame:
    right, down = grid.x[:, window[1]] - inclusion.x, grid.z[window[0]] - inclusion.z
    count = len(ANGLES)
    angle = ((np.arctan2(down, right) / (2 * np.pi) + 0.5) * count).astype(np.int64) % count
    return _Frame(right, down, np.hypot(down, right) - inclusion.outline[angle], angle)


def _disturb(tissue: Tissue, inclusion: Inclusion, frame: _Frame, rng: np.random.Generator) -> None:
    """Add an uneven echogenic halo, and rays that pull the surroundings towards the lesion."""
    if not inclusion.halo and not inclusion.streaks:
        return
    uneven = np.maximum(1 + lobulation(rng, 0.5, 2, 7), 0)
    rays = lobulation(rng, 1.0, 18, 60)
    fall = np.exp(-np.maximum(frame.outside, 0) / 1.5)
    change = inclusion.halo * uneven[frame.angle] * fall + inclusion.streaks * rays[frame.angle] * np.sqrt(fall)
    tissue.level[...] += change * ramp(REACH - 1 - frame.outside, 2.0)


def _fill(tissue: Tissue, inclusion: Inclusion, frame: _Frame, grid: Grid, rng: np.random.Generator) -> None:
    texture = rng.standard_normal(frame.outside.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(texture, (0.5 / grid.spacing, 0.8 / grid.spacing), truncate=2.5)
    texture *= inclusion.heterogeneity / max(float(texture.std()), 1e-9)
    tissue.fill(ramp(-frame.outside, inclusion.margin), inclusion.level + texture, inclusion.attenuation)
    for _ in range(inclusion.calcifications):
        place = int(rng.integers(len(ANGLES)))
        radius = inclusion.outline[place] * 0.8 * rng.random() ** 0.5
        right = frame.right - radius * np.cos(ANGLES[place])
        down = frame.down - radius * np.sin(ANGLES[place])
        tissue.specular[...] += rng.uniform(1, 4) * ridge(np.hypot(down, right), CALCIFICATION)
