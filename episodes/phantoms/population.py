"""Who is imaged: patients, their labels, and the images of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from episodes.errors import SamplingError
from episodes.phantoms.anatomy import (
    Breast,
    Inclusion,
    build,
    corners,
    draw_breast,
    ellipse,
    insert,
    lobulation,
    normalised,
    spicules,
)
from episodes.phantoms.imaging import b_mode, scanner_named
from episodes.phantoms.textures import Grid
from episodes.records import LABEL_VALUES, Label


def draw_lesion(rng: np.random.Generator, malignant: bool, breast: Breast, depth: float) -> Inclusion:
    """Draw a lesion of 3 to 25 % of an image `depth` mm wide and deep (one in ten: 1 to 3 %).

    It fits between skin and muscle where it can.
    """
    low, high = (0.01, 0.03) if rng.random() < 0.1 else (0.03, 0.16 if malignant else 0.25)
    radius = depth * (rng.uniform(low**0.5, high**0.5) / np.pi**0.5)
    lesion = (_malignant if malignant else _benign)(rng, breast, radius)
    highest = breast.skin + 1 + lesion.half_height
    lowest = max(highest, min(breast.fascia, 0.75 * depth) - 0.7 * lesion.half_height)
    sideways = max(depth / 2 - 1.05 * lesion.half_width, 0)
    return replace(lesion, x=rng.uniform(-sideways, sideways), z=rng.uniform(highest, lowest))


def _benign(rng: np.random.Generator, breast: Breast, radius: float) -> Inclusion:
    """Draw one that is oval, circumscribed, parallel to the skin, homogeneous; one in six is a cyst."""
    outline = ellipse(aspect=rng.uniform(1.25, 2.1), tilt=rng.normal(0, 0.12))
    outline = outline * (1 + lobulation(rng, rng.uniform(0.01, 0.06), 2, 4))
    cyst = rng.random() < 1 / 6
    return Inclusion(
        outline=normalised(outline) * radius,
        level=-34 if cyst else breast.fat_level + rng.uniform(-8, 1),
        heterogeneity=rng.uniform(0.5, 2.0),
        attenuation=0.1 if cyst else rng.uniform(0.2, 0.5),
        margin=rng.uniform(0.2, 0.8),
        capsule=rng.uniform(0.1, 1.5),
        edge_shadow=rng.uniform(0.2, 2.0),
    )


def _malignant(rng: np.random.Generator, breast: Breast, radius: float) -> Inclusion:
    """Draw one that is irregular, not parallel, with a halo and an angular, microlobulated or spiculated margin."""
    outline = ellipse(aspect=rng.uniform(0.55, 0.95), tilt=rng.normal(0, 0.2))
    outline = outline * (1 + lobulation(rng, rng.uniform(0.03, 0.1), 3, 9))
    kind = rng.integers(3)
    if kind == 0:
        margin = corners(rng, int(rng.integers(7, 12)), rng.uniform(0.08, 0.16))
    elif kind == 1:
        margin = spicules(rng, int(rng.integers(6, 14)), rng.uniform(0.2, 0.5))
    else:
        margin = lobulation(rng, rng.uniform(0.05, 0.1), 8, 18)
    outline = outline * (1 + margin)
    return Inclusion(
        outline=normalised(np.maximum(outline, 0.3)) * radius,
        level=breast.fat_level + rng.uniform(-7, 1),
        heterogeneity=rng.uniform(2.0, 5.0),
        attenuation=rng.uniform(0.9, 1.5),
        margin=rng.uniform(0.5, 1.8),
        halo=rng.uniform(1.0, 5.0),
        streaks=rng.uniform(1.0, 4.0),
        calcifications=int(rng.integers(2, 9)) if rng.random() < 1 / 3 else 0,
    )


def _fat_lobule(rng: np.random.Generator, breast: Breast, depth: float) -> Inclusion:
    """Draw what is as dark as fat because it is fat, with a septum around it, and without enhancement or shadow."""
    outline = ellipse(aspect=rng.uniform(1.4, 2.8), tilt=rng.normal(0, 0.2))
    outline = normalised(outline * (1 + lobulation(rng, 0.06, 2, 5)))
    return Inclusion(
        outline=outline * (depth * (rng.uniform(0.008, 0.08) / np.pi) ** 0.5),
        x=rng.uniform(-depth / 2, depth / 2),
        z=rng.uniform(breast.fat, breast.fascia),
        level=breast.fat_level + rng.normal(0, 1.5),
        heterogeneity=rng.uniform(0.5, 2.0),
        attenuation=0.6,
        margin=rng.uniform(0.3, 1.0),
        capsule=rng.uniform(0.1, 1.5),
    )


def _duct(rng: np.random.Generator, breast: Breast, depth: float) -> Inclusion:
    """Draw a thin dark tube."""
    outline = ellipse(aspect=rng.uniform(4, 7), tilt=rng.normal(0, 0.25))
    return Inclusion(
        outline=outline * rng.uniform(1.0, 1.8),
        x=rng.uniform(-depth / 2, depth / 2),
        z=rng.uniform(breast.fat + 1, breast.fascia - 2),
        level=-19,
        heterogeneity=0.5,
        attenuation=0.5,
        margin=0.4,
        capsule=0.8,
    )


def another_view(lesion: Inclusion, rng: np.random.Generator, depth: float) -> Inclusion:
    """Draw the same lesion in another section: moved, scaled, its outline and level a little different."""
    outline = lesion.outline * rng.uniform(0.85, 1.08) * (1 + lobulation(rng, 0.03, 2, 6))
    sideways = max(depth / 2 - lesion.half_width, 0)
    return replace(
        lesion,
        outline=outline,
        x=float(np.clip(lesion.x + rng.normal(0, 0.08 * depth), -sideways, sideways)),
        z=lesion.z + rng.uniform(-0.5, 1.5),
        level=lesion.level + rng.normal(0, 0.8),
    )


IMAGES_PER_PATIENT = (3, 2, 4, 3)  # of four patients in turn
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class PhantomSpec:
    """The specification of a dataset, which is a pure function of it.

    The first n of a longer dataset are the dataset of length n; another seed gives other patients. Images are square,
    of `size` pixels along each side.
    """

    scanner: str
    n_images: int = 100
    seed: int = 0
    size: int = 256

    def __post_init__(self) -> None:
        scanner_named(self.scanner)
        for name, least in (("n_images", 1), ("seed", 0), ("size", 32)):
            if getattr(self, name) < least:
                raise SamplingError(f"phantom {name} is {getattr(self, name)}: it must be at least {least}")


@dataclass(frozen=True, slots=True)
class Phantom:
    """One image and the truth about it; images of a patient share their name and label.

    The image is of grey levels, (H, W), the label map 0, or the label's value from `LABEL_VALUES` on the lesion, (H,
    W); the spacing is in mm per pixel (row, column).
    """

    name: str
    patient: str
    label: Label
    image: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    spacing: tuple[float, float]


def patient_of(index: int) -> int:
    """Return the number of the patient that image `index` shows.

    >>> [patient_of(i) for i in range(14)]
    [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4]
    """
    rounds, place = divmod(index, sum(IMAGES_PER_PATIENT))
    return rounds * len(IMAGES_PER_PATIENT) + int(np.searchsorted(np.cumsum(IMAGES_PER_PATIENT), place, side="right"))


def label_of(patient: int) -> Label:
    """Return the label of a patient: 45 % benign, 30 % malignant, 25 % normal.

    Multiples of the golden ratio spread evenly over [0, 1): the first four patients, and any five in a row,
    have all three labels.

    >>> [label_of(p) for p in range(5)]
    ['benign', 'malignant', 'benign', 'normal', 'malignant']
    """
    place = patient * GOLDEN_RATIO % 1
    return "benign" if place < 0.45 else "malignant" if place < 0.75 else "normal"


def generate(spec: PhantomSpec) -> Iterator[Phantom]:
    """Generate the dataset one image at a time.

    >>> for phantom in generate(PhantomSpec("linear", n_images=2, size=64)):
    ...     phantom.name, phantom.patient, phantom.label, phantom.image.shape
    ('linear_0000', 'p0000', 'benign', (64, 64))
    ('linear_0001', 'p0000', 'benign', (64, 64))
    """
    return (phantom(spec, index) for index in range(spec.n_images))


def phantom(spec: PhantomSpec, index: int) -> Phantom:
    """Generate image `index` of a dataset, a pure function of the specification (without its length) and the index."""
    scanner = scanner_named(spec.scanner)
    grid = Grid(spec.size, scanner.depth / spec.size)
    patient = patient_of(index)
    label = label_of(patient)
    breast, lesion = _patient(_stream(spec, 0, patient), label, scanner.depth)
    rng = _stream(spec, 1, index)
    tissue = build(breast, grid, rng)
    count = rng.integers(2, 6) if lesion is None else rng.integers(0, 4)
    # Fat lobules within the gland, and ducts: dark, often oval, and no lesions. All are drawn before any is put in.
    draws = [(_duct if rng.random() < 0.15 else _fat_lobule)(rng, breast, scanner.depth) for _ in range(int(count))]
    for distractor in draws:
        insert(tissue, grid, distractor, rng)
    label_map = np.zeros((spec.size, spec.size), dtype=np.uint8)
    if lesion is not None:
        label_map[insert(tissue, grid, another_view(lesion, rng, scanner.depth), rng)] = LABEL_VALUES[label]
    return Phantom(
        name=f"{spec.scanner}_{index:04d}",
        patient=f"p{patient:04d}",
        label=label,
        image=b_mode(tissue, scanner, rng),
        label_map=label_map,
        spacing=(grid.spacing, grid.spacing),
    )


def _stream(spec: PhantomSpec, kind: int, index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([spec.seed, crc32(spec.scanner.encode()), kind, index]))


def _patient(rng: np.random.Generator, label: Label, depth: float) -> tuple[Breast, Inclusion | None]:
    breast = draw_breast(rng, depth)
    if label == "normal":
        return breast, None
    lesion = draw_lesion(rng, label == "malignant", breast, depth)
    # A deep lesion pushes the muscle back.
    return replace(breast, fascia=max(breast.fascia, lesion.z + lesion.half_height + 1)), lesion
