"""Pooled IoU: the score of the `classic` protocol, for comparison with papers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class PooledIoU:
    """IoU over many episodes as PANet's code defines it (Wang et al. 2019, its `util/metric.py`).

    Pixels are summed over all episodes before the division, so large lesions dominate, and a class is counted
    only in the images that hold it, so its false positives elsewhere go unseen. Hence never a headline.

    >>> truth = np.array([[0, 0, 1, 1]])
    >>> pooled = PooledIoU()
    >>> pooled.add(np.array([[0, 1, 1, 1]]), truth, ["lesion"])
    >>> pooled.add(np.array([[0, 0, 0, 1]]), truth, ["lesion"])
    >>> pooled.mean_iou
    0.6
    >>> pooled.binary_iou  # the mean of background 3 / 5 and foreground 3 / 5
    0.6
    """

    # Intersection and union in pixels, of the background (None) and of each class by its name.
    _pixels: dict[str | None, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, prediction: NDArray[np.integer], truth: NDArray[np.integer], classes: Sequence[str]) -> None:
        """Count one query.

        Args:
            prediction: the episode's class indices, (H, W), 0 background, 1 to n_way.
            truth: the same for the annotation.
            classes: the names of classes 1 to n_way in this episode.

        Raises:
            ValueError: if the shapes differ.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
        for index, name in enumerate([None, *classes]):
            ours, theirs = prediction == index, truth == index
            if theirs.any():
                pixels = np.array([np.count_nonzero(ours & theirs), np.count_nonzero(ours | theirs)])
                self._pixels[name] = self._pixels.get(name, 0) + pixels

    @property
    def mean_iou(self) -> float:
        """Mean over the foreground classes; NaN where none was ever present."""
        ratios = [float(both / either) for both, either in self._foreground]
        return sum(ratios) / len(ratios) if ratios else nan

    @property
    def binary_iou(self) -> float:
        """Mean of background and foreground, all classes as one; NaN where either was never present."""
        if None not in self._pixels or not self._foreground:
            return nan
        background, foreground = self._pixels[None], np.sum(self._foreground, axis=0)
        return float(background[0] / background[1] + foreground[0] / foreground[1]) / 2

    @property
    def _foreground(self) -> list[NDArray[np.int64]]:
        return [pixels for name, pixels in self._pixels.items() if name is not None]
