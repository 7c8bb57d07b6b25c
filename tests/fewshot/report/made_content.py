"""A report's content with numbers made up: two datasets, ten methods, pictures from phantoms."""

import math
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from episodes.phantoms.population import PhantomSpec, generate
from episodes.scoring.curves import ProbabilityHistogram, Reliability
from episodes.scoring.statistics import Difference, Interval
from fewshot.report.content import Answer, ReportContent, Share, TargetContent
from fewshot.results.comparison import Comparison
from fewshot.results.run_files import Annotated, Cost, GalleryCase, Why
from fewshot.results.summary import MethodResult
from tests.fewshot.report.made_rows import SHOTS, made_rows

N_PATIENTS = 38


def made_content(targets: Iterable[str] = ("bus_uclm", "busi")) -> ReportContent:
    contents = [made_target(target) for target in targets]
    best = contents[0].answers[-1].best
    return ReportContent(
        title="phantoms",
        headline=(
            f"With 5 annotated images, {best.method} gives {best.dice.estimate:.2f} lesion Dice"
            f" [{best.dice.low:.2f}, {best.dice.high:.2f}] on {contents[0].target};"
            " U-Net, which needs none, is 0.02 lower [−0.01, 0.06], which may be chance."  # noqa: RUF001
        ),
        targets=contents,
        facts={"protocol": "support-draws", "draws": 5, "image_size": 192, "nsd_tolerance": 2.0},
        config={"phantoms": "name: phantoms\nshots: [0, 1, 5]\ndraws: 5\nmethods:\n  U-Net: {method: zero-shot}\n"},
        environment={
            "phantoms": {"python": "3.11.2", "packages": {"torch": "2.9.0", "numpy": "2.3.1"}, "device": "cpu"}
        },
        warnings=("Only 3 training seeds: what other seeds would give is known roughly.",),
    )


def made_target(target: str) -> TargetContent:
    rows = made_rows(target)
    answers = [_answer(rows, shot) for shot in SHOTS]
    return TargetContent(
        target=target,
        n_lesion=264,
        n_normal=419,
        n_patients=N_PATIENTS,
        rows=rows,
        answers=answers,
        comparisons=answers[-1].others,
        controls=[_control(rows, row) for row in rows if row.control is not None],
        patients={(row.method, row.shot): _patient_means(row) for row in _candidates(rows)},
        sizes=_shares(rows, ("small", "medium", "large"), (-0.18, 0.01, 0.09)),
        size_edges=(0.021, 0.058),
        labels=_shares(rows, ("benign", "malignant"), (0.04, -0.07)),
        reliability={(row.method, row.shot): _reliability(row) for row in _candidates(rows)[:5]},
        costs=[_cost(row, seed) for row in rows for seed in row.seed_means],
        cases=made_cases(target),
    )


def _candidates(rows: Iterable[MethodResult]) -> list[MethodResult]:
    return [row for row in rows if row.role == "method" and row.shot in (0, SHOTS[-1])]


def made_difference(first: MethodResult, second: MethodResult) -> Difference:
    gap = first.dice.estimate - second.dice.estimate
    wide = 0.035
    p = math.erfc(abs(gap) / (wide / 1.96) / 2**0.5)
    return Difference(Interval(gap, gap - wide, gap + wide), max(p, 1 / 2001))


def _p(difference: Difference) -> float:
    return min(1.0, 4 * difference.p_value)


def _answer(rows: list[MethodResult], shot: int) -> Answer:
    able = sorted(
        (row for row in rows if row.role == "method" and row.shot <= shot), key=lambda row: -row.dice.estimate
    )
    best = able[0]
    others = [row for row in rows if row.shot <= shot and row is not best]
    return Answer(
        shot=shot,
        best=best,
        dice=best.dice,
        n_lesion=264,
        n_patients=N_PATIENTS,
        ranked=[(row, row.dice.estimate) for row in able],
        others=[Comparison(row, best, made_difference(row, best), _p(made_difference(row, best))) for row in others],
        sentence=f"With {shot} annotated images, use {best.method}.",
    )


def _control(rows: list[MethodResult], row: MethodResult) -> Comparison:
    method = next(one for one in rows if one.method == row.control_of and one.shot == row.shot)
    difference = made_difference(method, row)
    return Comparison(method, row, difference, difference.p_value)


def _patient_means(row: MethodResult) -> NDArray[np.float64]:
    rng = np.random.default_rng(7)  # the same patients are hard for every row
    hardness = rng.beta(5, 2, N_PATIENTS) - 5 / 7
    means: NDArray[np.float64] = np.clip(row.patient_dice.estimate + hardness, 0, 1)
    return means


def _shares(rows: list[MethodResult], names: tuple[str, ...], shifts: tuple[float, ...]) -> list[Share]:
    return [
        Share(row, name, 264 // len(names), _around(row.dice.estimate + shift, 0.05))
        for name, shift in zip(names, shifts, strict=True)
        for row in _candidates(rows)[:4]
    ]


def _around(value: float, wide: float) -> Interval:
    return Interval(value, value - wide, value + wide)


def _reliability(row: MethodResult) -> Reliability:
    rng = np.random.default_rng(row.shot)
    histogram = ProbabilityHistogram()
    probabilities = rng.beta(0.3, 0.9, 20_000)
    histogram.add(probabilities, rng.random(20_000) < probabilities**1.4)
    return histogram.reliability()


def _cost(row: MethodResult, seed: int) -> Cost:
    trained = row.model is not None and row.method != "PANet untrained"
    return Cost(
        target=row.target,
        method=row.method,
        seed=seed,
        shot=row.shot,
        adapt_seconds=38.5 if "fine-tuned" in row.method else 0.02 * row.shot,
        image_seconds=0.0003 if row.model is None else 0.021,
        peak_bytes=None if row.model is None else 734_003_200,
        parameters=None if row.model is None else 11_300_000 + 100_000 * seed,
        training_seconds=754.0 if trained else None,
        device="cpu (1 thread)",
    )


@cache
def _phantoms(scanner: str) -> list[Annotated]:
    spec = PhantomSpec(scanner, n_images=16, seed=1, size=96)
    return [Annotated(one.name, one.image, one.label_map > 0) for one in generate(spec)]


def made_cases(target: str) -> list[GalleryCase]:
    """Worst and median of two methods, and a false lesion."""
    phantoms = _phantoms("linear")
    lesions = [one for one in phantoms if one.mask.any()]
    normal = next(one for one in phantoms if not one.mask.any())
    wanted: list[tuple[str, int, Why, Annotated, int]] = [
        ("U-Net fine-tuned", 5, "worst", lesions[0], 14),
        ("U-Net fine-tuned", 5, "median", lesions[3], 3),
        ("U-Net", 0, "worst", lesions[5], 20),
        ("PANet complete", 1, "median", lesions[6], 4),
        ("PANet complete", 5, "false lesion", normal, 0),
    ]
    return [
        _case(target, method, shot, why, query, lesions[-shot:] if shot else [], moved)
        for method, shot, why, query, moved in wanted
    ]


def _case(
    target: str, method: str, shot: int, why: Why, query: Annotated, supports: list[Annotated], moved: int
) -> GalleryCase:
    prediction = np.roll(query.mask, moved, axis=1)
    if not query.mask.any():
        prediction[30:44, 50:66] = True
    total = int(query.mask.sum() + prediction.sum())
    dice = 2 * float((query.mask & prediction).sum()) / total if query.mask.any() else None
    label = "benign" if query.mask.any() else "normal"
    return GalleryCase(target, method, 0, shot, 0 if shot else -1, why, label, dice, query, prediction, tuple(supports))
