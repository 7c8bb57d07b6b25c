"""Cautions for the reader of a report: too little data, and the questions that it leaves open."""

from collections.abc import Iterator

from episodes.scoring.statistics import FEW_PATIENTS
from fewshot.report.content import Answer, ReportContent, TargetContent
from fewshot.report.sentences import brings_nothing, describe_control, describe_floor
from fewshot.results.comparison import EQUIVALENT
from fewshot.results.numbers import PLAIN, annotated_images, counted

FEWEST_SEEDS = 3
FEWEST_DRAWS = 5
FEWEST_PATIENTS = 10
MOST_MARKED_NORMALS = 0.5


def cautions_of(content: ReportContent, n_draws: int) -> list[str]:
    """Return the warnings about a report, a sentence each.

    The fewest support draws of any row are `n_draws`, 0 where there are none, or episodes draw anew.
    """
    return [*_about_the_run(content, n_draws), *(line for part in content.targets for line in _about(part))]


def _about_the_run(content: ReportContent, n_draws: int) -> Iterator[str]:
    fewest = min((row.n_seeds for row in content.rows if row.trained_on is not None), default=FEWEST_SEEDS)
    if fewest < FEWEST_SEEDS:
        times = "once" if fewest == 1 else "twice"
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
    if not part.answers:
        yield f"{part.target} has no scored lesion image among the queries: nothing can be compared there."
        return
    answer = part.answers[-1]
    if answer.n_patients < FEWEST_PATIENTS:
        patients = f"{part.target} has lesion images of {counted(answer.n_patients, 'patient')} only"
        few = "too few for its intervals to be relied on, and to call any difference clear"
        rough = few if answer.n_patients < FEW_PATIENTS else "its intervals are rough"
        yield f"{patients} to compare methods on: {rough}."
    for row in answer.left_out:
        yield (
            f"On {part.target}, {row.method} with {annotated_images(row.shot)} has no lesion image in common with the"
            " rows above: it is compared with none."
        )
    doubted = (describe_control(one) for one in part.controls if one.verdict != "higher")
    yield from (f"On {part.target}, {said[0].lower()}{said[1:]}" for said in doubted)
    poor = "no method is any good" if answer.no_better_than_a_floor else "it is not shown that any is good"
    if said := describe_floor(answer, f"On {part.target}, {poor}: beside {answer.best.method}, the best method,"):
        yield said
    yield from _about_the_answer(answer)


def _about_the_answer(answer: Answer) -> Iterator[str]:
    best, gain = answer.best, answer.gain
    marked = best.scores["false_positive"]
    if marked > MOST_MARKED_NORMALS:
        yield f"On {best.target}, {best.method} marks a lesion on {PLAIN.share(marked)} of the images without one."
    if answer.shot and not best.shot and answer.with_images:
        if brings_nothing(answer):
            yield f"On {best.target}, no method gains anything from annotated images over {best.method} without any."
        else:
            yield (
                f"On {best.target}, whether any method gains from annotated images over {best.method} without any"
                " cannot be told."
            )
    elif gain is not None and gain.verdict != "higher":
        without = f"{gain.other.method} without any"
        yield {
            "alike": f"On {best.target}, {best.method} with annotated images is just as good as {without},"
            f" within {EQUIVALENT}.",
            "lower": f"On {best.target}, {best.method} with annotated images is clearly worse than {without}.",
            "unknown": f"On {best.target}, whether {best.method} is better with annotated images than {without} cannot"
            " be told.",
        }.get(
            gain.verdict,
            f"On {best.target}, it may be chance that {best.method} is better with annotated images than {without}.",
        )
