"""Who is imaged: patients, their labels, and the images of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from episodes.errors import SamplingError
from episodes.phantoms.anatomy import Breast, build, draw_breast
from episodes.phantoms.imaging import b_mode
from episodes.phantoms.inclusions import Inclusion, insert
from episodes.phantoms.lesions import another_view, draw_distractors, draw_lesion
from episodes.phantoms.scanners import scanner_named
from episodes.phantoms.textures import Grid
from episodes.records import LABEL_VALUES, Label

IMAGES_PER_PATIENT = (3, 2, 4, 3)  # of four patients in turn
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class PhantomSpec:
    """What is generated; the dataset is a pure function of it.

    Attributes:
        scanner: a key of `SCANNERS`.
        n_images: how many; the first n of a longer dataset are the dataset of length n.
        seed: another one gives other patients.
        size: pixels along each side of the square images.
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
    """One image and the truth about it.

    Attributes:
        name: unique within its dataset.
        patient: images of a patient share it.
        label: of the image and of its patient.
        image: grey levels, (H, W).
        label_map: 0, or the label's value from `LABEL_VALUES` on the lesion, (H, W).
        spacing: mm per pixel (row, column).
    """

    name: str
    patient: str
    label: Label
    image: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    spacing: tuple[float, float]


def patient_of(index: int) -> int:
    """Number of the patient that image `index` shows.

    >>> [patient_of(i) for i in range(14)]
    [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4]
    """
    rounds, place = divmod(index, sum(IMAGES_PER_PATIENT))
    return rounds * len(IMAGES_PER_PATIENT) + int(np.searchsorted(np.cumsum(IMAGES_PER_PATIENT), place, side="right"))


def label_of(patient: int) -> Label:
    """Label of a patient: 45 % benign, 30 % malignant, 25 % normal.

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
    """Image `index` of a dataset, a pure function of the specification (without its length) and the index."""
    scanner = scanner_named(spec.scanner)
    grid = Grid(spec.size, scanner.depth / spec.size)
    patient = patient_of(index)
    label = label_of(patient)
    breast, lesion = _patient(_stream(spec, 0, patient), label, scanner.depth)
    rng = _stream(spec, 1, index)
    tissue = build(breast, grid, rng)
    count = rng.integers(2, 6) if lesion is None else rng.integers(0, 4)
    for distractor in draw_distractors(rng, int(count), breast, scanner.depth):
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
