"""Random tables of scores with a literal estimate on lists, and studies of which the true mean is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np

from episodes.scoring.bootstrap import FloatArray, IntArray, Unit


def study(seed: int, n_draws: int = 4, n_queries: int = 12, n_patients: int = 5) -> tuple[FloatArray, list[str]]:
    """Random scores, a fifth of them missing, one query without any; patients in no order."""
    rng = np.random.default_rng(seed)
    values = rng.random((n_draws, n_queries))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 0] = np.nan
    values[0, 1] = 0.5
    return values, [f"patient {i}" for i in rng.integers(n_patients, size=n_queries)]


def literal_mean(
    values: FloatArray, patients: Sequence[str], held: Sequence[str], draws: Sequence[int], unit: Unit = "image"
) -> float:
    """The estimate on lists of patients and draws, in which both may appear several times."""
    means = []
    for patient in held:
        of_patient = []
        for query in range(values.shape[1]):
            scores = [values[draw, query] for draw in draws if not isnan(values[draw, query])]
            if patients[query] == patient and scores:
                of_patient.append(sum(scores) / len(scores))
        if unit == "patient":
            of_patient = [sum(of_patient) / len(of_patient)] if of_patient else []
        means += of_patient
    return float(sum(means) / len(means)) if means else nan


Sizes = Callable[[np.random.Generator, int], IntArray]
Sample = tuple[FloatArray, list[str]]


@dataclass(frozen=True, slots=True)
class Population:
    """Scores about a true mean of 0: normal effects of patients, draws and single scores, some of these missing.

    Attributes:
        n_patients: in a study.
        images: of each patient.
        n_draws: in a study.
        draw_spread: standard deviation of what all scores of a draw share.
        patient_spread: of what all scores of a patient share.
    """

    n_patients: int
    images: int | Sizes
    n_draws: int
    draw_spread: float
    patient_spread: float = 0.2
    missing: float = 0.05
    truth: float = 0.0

    def sample(self, rng: np.random.Generator) -> Sample:
        owners = self.owners(rng)
        of_patients = rng.normal(0, self.patient_spread, self.n_patients)[owners]
        of_draws = rng.normal(0, self.draw_spread, (self.n_draws, 1))
        values = of_patients + of_draws + rng.normal(0, 0.1, (self.n_draws, len(owners)))
        values[rng.random(values.shape) < self.missing] = np.nan
        return values, [str(owner) for owner in owners]

    def owners(self, rng: np.random.Generator) -> IntArray:
        sizes = self.images(rng, self.n_patients) if callable(self.images) else self.images
        return np.repeat(np.arange(self.n_patients), sizes)


@dataclass(frozen=True, slots=True)
class DicePopulation:
    """Scores like Dice: below 1, skewed, an eighth of them 0, and more of these in some patients.

    A score is the product of independent factors, one of them a lesion found or missed, so that its mean is that of
    the factors' means.
    """

    n_patients: int = 38
    images: int = 7
    n_draws: int = 5
    truth: float = 0.85 * 0.95 * 0.95 * 0.875

    def sample(self, rng: np.random.Generator) -> Sample:
        owners = np.repeat(np.arange(self.n_patients), self.images)
        cells = (self.n_draws, len(owners))
        of_patients = rng.beta(8.5, 1.5, self.n_patients)[owners]
        of_draws = rng.uniform(0.9, 1, (self.n_draws, 1))
        found = rng.random(cells) < rng.beta(1.75, 0.25, self.n_patients)[owners]
        return of_patients * of_draws * rng.beta(19, 1, cells) * found, [str(owner) for owner in owners]


@dataclass(frozen=True, slots=True)
class BoundedPopulation:
    """Scores in [0, 1] about a true mean near either end: most patients are at that end, and a few far from it.

    Attributes:
        n_patients: in a study.
        truth: the mean.
        whether: the scores are 0 or 1, such as found or not; else shares, such as precision.
        images: of each patient.
    """

    n_patients: int
    truth: float
    whether: bool = False
    images: int = 3

    def sample(self, rng: np.random.Generator) -> Sample:
        of_patients = rng.beta(4 * self.truth, 4 * (1 - self.truth), self.n_patients).clip(1e-9, 1 - 1e-9)
        chances = np.repeat(of_patients, self.images)
        values = rng.random(chances.shape) < chances if self.whether else rng.beta(20 * chances, 20 * (1 - chances))
        owners = np.repeat(np.arange(self.n_patients), self.images)
        return values[None].astype(np.float64), [str(owner) for owner in owners]


def between_1_and_30(rng: np.random.Generator, n: int) -> IntArray:
    """Numbers of images, most patients with few: geometric, 7 on average."""
    return rng.geometric(1 / 7, n).clip(1, 30)
