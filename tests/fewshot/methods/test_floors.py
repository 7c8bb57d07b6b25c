"""Floors against brute force and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from episodes.records import Record
from episodes.scoring.mask_scores import dice
from episodes.storage.store import Collection
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.floors import CentreEllipse, Empty, average_lesion


class LabelMaps:
    """Stands for a collection of images whose pixels do not matter."""

    def __init__(self, label_maps: list[NDArray[np.uint8]]) -> None:
        self.label_maps = label_maps
        self.records = [
            Record("made", Path(f"{number}.png"), (), "benign" if label_map.any() else "normal", str(number))
            for number, label_map in enumerate(label_maps)
        ]

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        return self.label_maps[int(record_id.removeprefix("made/"))]


def made_sources(*label_maps: Any) -> Sources:
    maps = LabelMaps([np.array(label_map, np.uint8) for label_map in label_maps])
    return Sources(maps, maps.records)  # type: ignore[arg-type]


def ingredients(sources: Sources) -> Ingredients:
    return Ingredients(None, sources, torch.device("cpu"))


def test_empty_predicts_nothing_anywhere() -> None:
    method = Empty(ingredients(made_sources([[1]])))
    logits = method.segment(torch.rand(3, 3, 8, 6), method.adapt(None))
    assert logits.shape == (3, 2, 8, 6)
    assert not logits.argmax(1).any()


def test_the_average_lesion_by_hand() -> None:
    """A pixel of three lesions, two of two, one of one; normals and kinds of lesion do not count.

    Dice of the cut at 3 of 3, one pixel: 2/2, 2/4, 2/5; at 2 of 3, three pixels: 2/4, 6/6, 6/7; at 1 of 3, four
    pixels: 2/5, 6/7, 8/8. The means are 0.63, 0.79 and 0.75.
    """
    sources = made_sources([[1, 0, 0, 0, 0]], [[2, 2, 2, 0, 0]], [[3, 3, 3, 3, 0]], [[0, 0, 0, 0, 0]])
    assert average_lesion(sources).tolist() == [[True, True, True, False, False]]


def test_lesions_that_never_meet_are_all_taken() -> None:
    sources = made_sources([[1, 0, 0]], [[0, 1, 0]])
    assert average_lesion(sources).tolist() == [[True, True, False]]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_level_overlaps_better(seed: int) -> None:
    masks = np.random.default_rng(seed).random((6, 8, 8)) < np.linspace(0.1, 0.9, 8)
    best = average_lesion(made_sources(*masks))
    overlaps = [np.mean([dice(masks.sum(0) >= count, mask) for mask in masks]) for count in range(1, 7)]
    assert np.mean([dice(best, mask) for mask in masks]) == pytest.approx(max(overlaps))


def test_more_lesions_than_are_held_at_once_give_the_same() -> None:
    """Of 600 lesions, all masks in one array; 20 levels, as they are cut."""
    masks = np.random.default_rng(0).random((600, 5, 7)) < np.linspace(0.1, 0.9, 7)
    average = masks.mean(0)
    cuts = [average >= level for level in np.linspace(average.max(), 0, 20, endpoint=False)]
    expected = max(cuts, key=lambda cut: np.mean([dice(cut, mask) for mask in masks]))
    np.testing.assert_array_equal(average_lesion(made_sources(*masks)), expected)


def test_the_centre_ellipse_is_the_same_for_every_image(linear_phantoms: Collection) -> None:
    sources = Sources(linear_phantoms, linear_phantoms.records)
    method = CentreEllipse(ingredients(sources))
    predicted = method.segment(torch.rand(4, 3, 64, 64), method.adapt(None)).argmax(1)
    assert predicted.shape == (4, 64, 64)
    assert all(np.array_equal(mask, average_lesion(sources)) for mask in predicted.bool().numpy())
    assert 0 < predicted[0].float().mean() < 0.5
