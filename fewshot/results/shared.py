"""The lesion images that several rows of a table share: on others their scores cannot be compared."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray, IntArray
from fewshot.results.index import ScoreGrid, mean_of_known

WITHOUT_SUPPORT = [-1]
DECIMALS = 12  # of means that are ranked: sums of the same numbers in another order are equal


@dataclass(frozen=True, slots=True)
class SharedCells:
    """Draws and lesion images of one target that all of some rows have scores of.

    Rows with annotated images cover only patients outside their draws, rows without any cover every lesion image, so
    that their plain means are of different images. A row without support sets stands beside every draw of the others:
    its masks would be the same in each.
    """

    draws: IntArray  # rising, (n_draws,); -1 alone where no row has support sets
    present: NDArray[np.bool_]  # (n_draws, n_queries)

    @property
    def queries(self) -> NDArray[np.bool_]:
        """Return which images are shared in some draw, (n_queries,)."""
        return np.asarray(self.present.any(axis=0))

    def narrowed(self, grid: ScoreGrid) -> "SharedCells":
        """Return the part of the cells that one more row has as well."""
        draws, present, own = self.draws, self.present, ~np.isnan(grid.over_seeds("dice"))
        if draws.tolist() == WITHOUT_SUPPORT:
            return SharedCells(grid.draws, present & own)
        if grid.draws.tolist() == WITHOUT_SUPPORT:
            return SharedCells(draws, present & own)
        both, here, there = np.intersect1d(draws, grid.draws, return_indices=True)
        return SharedCells(both, present[here] & own[there])

    def dice(self, grid: ScoreGrid) -> FloatArray:
        """Return a row's lesion Dice on those of the cells that it has, averaged over seeds; NaN elsewhere.

        It is (n_draws, n_queries); a row without support sets has a single draw.
        """
        own, values = self.narrowed(grid), grid.over_seeds("dice")
        if grid.draws.tolist() == WITHOUT_SUPPORT:
            return np.where(own.queries, values, np.nan)
        return np.where(own.present, values[np.searchsorted(grid.draws, own.draws)], np.nan)

    def mean(self, grid: ScoreGrid) -> float:
        """Return a row's mean lesion Dice on those of the cells that it has; NaN where it has none."""
        return round(float(mean_of_known(mean_of_known(self.dice(grid), axis=0), axis=0)), DECIMALS)


def cells_of(grid: ScoreGrid) -> SharedCells:
    """Return the cells of one row."""
    return SharedCells(grid.draws, ~np.isnan(grid.over_seeds("dice")))
