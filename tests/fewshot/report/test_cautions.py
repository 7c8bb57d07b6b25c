"""What a reader is warned of."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from episodes.scoring.statistics import crossed_bootstrap, paired_difference
from fewshot.report.collect import content_of
from fewshot.results import comparison, summary
from fewshot.results.index import ResultsIndex
from fewshot.results.run_files import RunFiles
from tests.fewshot.made_results import STUDY, MadeMethod, normal, study, table

FINE: dict[str, Any] = {"patients": 12, "draws": 5, "per_patient": 1, "normals": 4}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is clear here is so with few resamples as well."""
    monkeypatch.setattr(summary, "crossed_bootstrap", partial(crossed_bootstrap, n_resamples=200))
    monkeypatch.setattr(comparison, "paired_difference", partial(paired_difference, n_resamples=1000))


def warned(**changes: Any) -> Sequence[str]:
    return content_of(ResultsIndex(study(**(FINE | changes))), "run", RunFiles()).warnings


def test_a_careful_run_is_not_warned_of() -> None:
    assert warned() == []


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"seeds": (0,)}, "Models were trained once only: "),
        ({"seeds": (0, 1)}, "Models were trained twice only: "),
        ({"draws": 3}, "3 draws of support images only: "),
        ({"draws": 1}, "One draw of support images only: "),
        ({"patients": 7}, "alpha has lesion images of 7 patients only to compare methods on: "),
    ],
)
def test_too_little_of_something_is_warned_of(changes: dict[str, Any], warning: str) -> None:
    (found,) = warned(**changes)
    assert found.startswith(warning)


def changed(name: str, **changes: Any) -> list[MadeMethod]:
    return [replace(method, **changes) if method.name == name else method for method in STUDY]


def test_a_control_that_does_not_fall_is_warned_of() -> None:
    found = warned(methods=changed("PANet swapped", dice=0.5, gain={1: 0.0}))
    assert [
        line.startswith("On alpha, with 1 annotated image, whether PANet uses its support set cannot") for line in found
    ] == [True]


def test_an_answer_that_marks_normals_is_warned_of() -> None:
    found = warned(methods=changed("U-Net fine-tuned", false_positives=1.0))
    assert found == ["On alpha, U-Net fine-tuned marks a lesion on 100% of the images without one."]


def test_methods_worse_than_a_floor_are_warned_of() -> None:
    (found,) = warned(methods=changed("empty", dice=0.95))
    assert found.startswith(
        "On alpha, no method is any good: beside U-Net fine-tuned, the best method, empty, which does not look at the"
        " image, is 0.2"
    )
    assert found.endswith("]: a clear difference.")


def test_methods_that_may_be_no_better_than_a_floor_are_warned_of() -> None:
    found = warned(methods=changed("empty", dice=0.68), noise=0.3)
    start = "On alpha, it is not shown that any is good: beside U-Net fine-tuned, the best method, empty, which does"
    assert any(line.startswith(start) for line in found)


def test_images_that_bring_nothing_are_warned_of() -> None:
    worse = changed("U-Net fine-tuned", gain={1: -0.1, 5: -0.1})
    assert warned(methods=worse) == ["On alpha, no method gains anything from annotated images over U-Net without any."]
    same = changed("U-Net fine-tuned", gain={1: 0.0, 5: 0.004})
    (found,) = warned(methods=same, noise=0.1)
    assert found == "On alpha, whether any method gains from annotated images over U-Net without any cannot be told."
    better = changed("U-Net fine-tuned", gain={1: 0.0, 5: 0.05})
    (found,) = warned(methods=better, noise=0.2)
    assert found.startswith(
        "On alpha, it may be chance that U-Net fine-tuned is better with annotated images than U-Net"
    )


def test_without_a_lesion_nothing_is_said_of_trainings_that_were_enough() -> None:
    rows = [normal(f"n{place}", 0.0, 0.0, seed=seed) for place in range(2) for seed in range(3)]
    content = content_of(ResultsIndex(table(*rows)), "run", RunFiles())
    draws, nothing = content.warnings
    assert draws.startswith("One draw")
    assert nothing == "ours has no scored lesion image among the queries: nothing can be compared there."
