"""What a reader should know before believing a number."""

from collections.abc import Iterator

from fewshot.report.content import Answer, ReportContent, TargetContent
from fewshot.report.controls import uses_support
from fewshot.report.phrases import is_clear, rounded

FEWEST_SEEDS = 3
FEWEST_DRAWS = 5
FEWEST_PATIENTS = 10
MOST_MARKED_NORMALS = 0.5


def warnings_of(content: ReportContent, n_draws: int) -> list[str]:
    """The warnings about a report, a sentence each.

    Args:
        content: all that it says.
        n_draws: support draws, the fewest of any row; 0 where there are none, or episodes draw anew.
    """
    return [*_about_the_run(content, n_draws), *(line for part in content.targets for line in _about(part))]


def _about_the_run(content: ReportContent, n_draws: int) -> Iterator[str]:
    trained = [len(row.seed_means) for row in content.rows if row.trained_on is not None]
    if trained and min(trained) < FEWEST_SEEDS:
        times = "once" if min(trained) == 1 else "twice"
        yield (
            f"Models were trained {times} only: how much another training would change the numbers is not known"
            f" from fewer than {FEWEST_SEEDS} training seeds."
        )
    if 0 < n_draws < FEWEST_DRAWS:
        draws = "One draw" if n_draws == 1 else f"{n_draws} draws"
        yield (
            f"{draws} of support images only: that shows poorly how much depends on which images are annotated;"
            f" take {FEWEST_DRAWS} draws or more."
        )


def _about(part: TargetContent) -> Iterator[str]:
    n_patients = max(map(len, part.patients.values()), default=0)
    if n_patients < FEWEST_PATIENTS:
        yield f"{part.target} has lesion images of {_patients(n_patients)} only: its intervals are rough."
    yield from _about_controls(part)
    if part.answers:
        yield from _about_floors(part, part.answers[-1])
        yield from _about_the_answer(part.target, part.answers[-1])


def _about_controls(part: TargetContent) -> Iterator[str]:
    for control in part.controls:
        if uses_support(control.controlled) is False:
            yield f"On {part.target}: {control.sentence}"


def _about_floors(part: TargetContent, answer: Answer) -> Iterator[str]:
    floors = [row for row in part.rows if row.role == "floor" and row.dice.estimate >= answer.best.dice.estimate]
    if floors and answer.best.role != "floor":
        floor, best = max(floors, key=lambda row: row.dice.estimate), answer.best
        yield (
            f"On {part.target}, no method is any good: {floor.method}, which does not look at the image, has"
            f" {rounded(floor.dice.estimate)} lesion Dice, and {best.method} {rounded(best.dice.estimate)}."
        )


def _about_the_answer(target: str, answer: Answer) -> Iterator[str]:
    best = answer.best
    marked = best.scores["false_positive"]
    if marked > MOST_MARKED_NORMALS:
        yield f"On {target}, {best.method} marks a lesion on {marked:.0%} of the images without one."
    if answer.shot and not best.shot:
        yield f"On {target}, no method gains anything from annotated images over {best.method} without any."
    elif answer.gain is not None and answer.without is not None and not is_clear(answer.gain):
        yield (
            f"On {target}, it may be chance that {best.method} is better with annotated images than"
            f" {answer.without.method} without any."
        )


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count or 'no'} patients"
