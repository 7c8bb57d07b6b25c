from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.scoring.curves import Reliability
from fewshot.plots.curves import reliability_figure
from fewshot.plots.style import BLUE
from tests.fewshot.plots.pictures import coloured, pixels

MIDDLES = np.linspace(0.1, 0.9, 5)
COUNTS = np.array([40, 12, 5, 9, 31])


def draw(path: Path, observed: NDArray[np.float64] = MIDDLES, counts: NDArray[np.int64] = COUNTS) -> Path:
    return reliability_figure(path, Reliability(tuple(MIDDLES), tuple(observed), tuple(counts.tolist()), 0.05))


def curve_height(path: Path) -> float:
    """Mean row of the plot's line; the histogram below is of a paler blue."""
    return float(np.nonzero(coloured(path, BLUE))[0].mean())


def bar_heights(path: Path) -> NDArray[np.int64]:
    """Pixels of the histogram's blue in each fifth of its width."""
    colours = pixels(path)
    pale = (np.abs(colours - [140, 192, 221]) < 6).all(axis=2)
    columns = np.nonzero(pale.any(axis=0))[0]
    within = pale[:, columns.min() : columns.max() + 1]
    return np.array([part.sum(axis=0).max() for part in np.array_split(within, 5, axis=1)])


def test_overconfident_predictions_lie_lower(tmp_path: Path) -> None:
    assert curve_height(draw(tmp_path / "a.png")) < curve_height(draw(tmp_path / "b.png", observed=MIDDLES**3)) - 20


def test_bars_are_as_high_as_their_counts(tmp_path: Path) -> None:
    heights = bar_heights(draw(tmp_path / "bars.png"))
    assert heights / heights.max() == pytest.approx(COUNTS / COUNTS.max(), abs=0.05)


def test_counts_of_many_magnitudes_are_all_seen(tmp_path: Path) -> None:
    heights = bar_heights(draw(tmp_path / "bars.png", counts=np.array([4_000_000, 900, 150, 3_000, 200_000])))
    assert (heights >= 8).all()
    assert heights.argsort().tolist() == [2, 1, 3, 4, 0]


def test_what_is_said_of_an_empty_bin_does_not_matter(tmp_path: Path) -> None:
    counts = np.array([40, 0, 5, 9, 0])
    observed = MIDDLES.copy()
    observed[1] = np.nan
    first = draw(tmp_path / "nan.png", observed=observed, counts=counts)
    observed[1] = 0.9
    assert draw(tmp_path / "number.png", observed=observed, counts=counts).read_bytes() == first.read_bytes()
    assert draw(tmp_path / "full.png", observed=observed).read_bytes() != first.read_bytes()


def test_a_single_filled_bin_is_enough(tmp_path: Path) -> None:
    assert coloured(draw(tmp_path / "one.png", counts=np.array([0, 0, 7, 0, 0])), BLUE).sum() > 20


def test_there_has_to_be_a_prediction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without any prediction"):
        draw(tmp_path / "reliability.png", counts=np.zeros(5, int))
    assert not list(tmp_path.iterdir())
