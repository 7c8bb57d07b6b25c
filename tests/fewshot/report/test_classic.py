"""The classic protocol's scores against PANet's own, counted pixel by pixel."""

import math
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from episodes.scoring.mask_scores import score
from fewshot.report.classic import NOTE, ClassicRow, classic_rows
from fewshot.report.collect import content_of
from fewshot.report.tables import CLASSIC_HEADINGS, target_classic_table
from fewshot.results.index import ResultsIndex
from fewshot.results.run_files import RunFiles
from tests.fewshot.made_results import normal, scored, table

SIZE = 24
CLASSES = ("benign", "malignant")


def episode(
    run: int, number: int, query: str, class_: str, pixels: tuple[int, int, int], **facts: Any
) -> dict[str, Any]:
    """A query of an episode; pixels are those of the lesion, predicted, and both."""
    lesion, predicted, overlap = pixels
    counts = {"lesion_pixels": lesion, "predicted_pixels": predicted, "overlap_pixels": overlap}
    facts = {"image_pixels": SIZE**2, "class": class_, "draw": run, "episode": number, **counts, **facts}
    return scored(query, 0.5, **facts) if lesion else normal(query, 0.0, 0.0, **facts)


class PooledIoU:
    """PANet's own: intersection and union summed pixel by pixel, of a class only in the images that hold it."""

    def __init__(self) -> None:
        self.pixels: dict[str | None, list[int]] = {}

    def add(self, prediction: NDArray[np.bool_], truth: NDArray[np.bool_], class_: str) -> None:
        for name, ours, theirs in ((None, ~prediction, ~truth), (class_, prediction, truth)):
            if theirs.any():
                both, either = self.pixels.get(name, [0, 0])
                self.pixels[name] = [both + int((ours & theirs).sum()), either + int((ours | theirs).sum())]

    @property
    def mean_iou(self) -> float:
        return statistics.fmean(both / either for name, (both, either) in self.pixels.items() if name)

    @property
    def binary_iou(self) -> float:
        lesions = [pixels for name, pixels in self.pixels.items() if name]
        background = self.pixels[None]
        return (background[0] / background[1] + sum(one[0] for one in lesions) / sum(one[1] for one in lesions)) / 2


def only(content: pa.Table) -> ClassicRow:
    (row,) = classic_rows(ResultsIndex(content), "ours")
    return row


def test_scores_are_those_of_masks_compared_pixel_by_pixel() -> None:
    """Random masks of two classes, some images without the class asked for, in three runs of eight episodes."""
    rng = np.random.default_rng(0)
    rows, pooled, singles = (
        [],
        [PooledIoU() for _ in range(3)],
        [dict[int, list[tuple[float, float]]]() for _ in range(3)],
    )
    for run, number, query in np.ndindex(3, 8, 2):
        truth = rng.random((SIZE, SIZE)) < rng.choice([0.0, 0.1, 0.4], p=[0.3, 0.4, 0.3])
        prediction = truth ^ (rng.random((SIZE, SIZE)) < 0.2)
        class_ = CLASSES[number % 2]
        pooled[run].add(prediction, truth, class_)
        if truth.any():
            scores = score(prediction, truth)
            singles[run].setdefault(number, []).append((scores.dice, scores.iou))
        pixels = (int(truth.sum()), int(prediction.sum()), int((prediction & truth).sum()))
        rows.append(episode(run, number, f"q{run}{number}{query}", class_, pixels))
    row = only(table(*rows, protocol="classic"))

    mean_ious = [one.mean_iou for one in pooled]
    assert row.pooled_mean_iou.mean == pytest.approx(statistics.fmean(mean_ious))
    assert row.pooled_mean_iou.deviation == pytest.approx(statistics.stdev(mean_ious))
    binary_ious = [one.binary_iou for one in pooled]
    assert row.pooled_binary_iou.mean == pytest.approx(statistics.fmean(binary_ious))
    assert row.pooled_binary_iou.deviation == pytest.approx(statistics.stdev(binary_ious))
    for place, found in enumerate((row.episode_dice, row.episode_iou)):
        runs = [
            statistics.fmean(statistics.fmean(both[place] for both in queries) for queries in run.values())
            for run in singles
        ]
        assert found.mean == pytest.approx(statistics.fmean(runs))
        assert found.deviation == pytest.approx(statistics.stdev(runs))
    assert (row.n_runs, row.n_episodes) == (3, 8)


def test_pooled_and_per_episode_means_differ_where_lesions_differ_in_size() -> None:
    """A large lesion found and a small one missed: 90 of 100 pixels, and 0.5 on average."""
    rows = [episode(0, 0, "a", "lesion", (90, 90, 90)), episode(0, 1, "b", "lesion", (10, 0, 0))]
    row = only(table(*rows))
    assert row.pooled_mean_iou.mean == pytest.approx(0.9)
    assert row.episode_iou.mean == row.episode_dice.mean == 0.5
    # background: of 2 * 576 - 100 pixels all are found, and 10 more are called so
    assert row.pooled_binary_iou.mean == pytest.approx((0.9 + (1152 - 100) / (1152 - 90)) / 2)


def test_episodes_count_once_each_however_many_queries_they_have() -> None:
    rows = [episode(0, 0, f"a{i}", "lesion", (10, 10, 10)) for i in range(3)]
    row = only(table(*rows, episode(0, 1, "b", "lesion", (10, 0, 0))))
    assert row.episode_dice.mean == 0.5


def test_training_seeds_are_averaged_run_by_run() -> None:
    rows = [
        episode(run, 0, "a", "lesion", (10, 10, overlap), seed=seed)
        for run, seed, overlap in ((0, 0, 10), (0, 1, 0), (1, 0, 0), (1, 1, 10))
    ]
    row = only(table(*rows))
    assert (row.episode_dice.mean, row.episode_dice.deviation) == (0.5, 0.0)


def test_one_run_has_no_spread_and_no_lesion_no_score() -> None:
    row = only(table(episode(0, 0, "a", "lesion", (10, 10, 5))))
    assert math.isnan(row.pooled_mean_iou.deviation)
    assert str(row.episode_dice) == "0.500"
    none = only(table(episode(0, 0, "a", "lesion", (0, 10, 0))))
    assert math.isnan(none.pooled_mean_iou.mean)
    assert math.isnan(none.pooled_binary_iou.mean)
    assert math.isnan(none.episode_iou.mean)


def test_the_table_names_pooled_and_per_episode_scores() -> None:
    rows = [
        episode(run, 0, "a", "lesion", (10, 10, overlap), method=method)
        for method, overlaps in (("worse", (0, 2)), ("better", (9, 10)))
        for run, overlap in enumerate(overlaps)
    ]
    content = content_of(ResultsIndex(table(*rows, protocol="classic")), "run", RunFiles())
    lines = target_classic_table(content.targets[0]).markdown(raw=True).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["K", "method", *CLASSIC_HEADINGS]
    assert [line.split("|")[2].strip() for line in lines[2:4]] == ["better", "worse"]
    assert "0.950 ± 0.071" in lines[2]  # mean Dice of 0.9 and 1
    assert lines[2].endswith("| 2 x 1 |")
    assert "no interval for new patients" in NOTE
