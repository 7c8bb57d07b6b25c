from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.plots.style import BLUE, GREY, VERMILLION
from fewshot.plots.training import history_figure, smooth
from fewshot.results.history import History
from tests.fewshot.plots.pictures import coloured, size_in_inches


def history(count: int, *names: str) -> History:
    """A loss that falls with noise and scores that rise, validated at every tenth step."""
    steps = np.arange(1, count + 1)
    noise = np.random.default_rng(0).normal(0, 0.05, count)
    columns = {}
    for name in names:
        values = np.exp(-steps / count) + noise
        columns[name] = np.where(steps % 10 == 0, values, np.nan) if name.startswith("validation") else values
    return History(steps, columns)


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (("loss",), (5.6, 3.8)),
        (("loss", "validation", "alignment"), (5.6, 3.8)),
        (("validation",), (5.6, 3.8)),
        (("loss", "dice"), (8.4, 3.8)),
        (("loss", "validation_dice"), (8.4, 3.8)),
        (("loss", "dice", "validation_dice", "accuracy", "label_accuracy"), (8.4, 7.1)),
    ],
)
def test_the_loss_and_every_score_have_a_panel(tmp_path: Path, names: tuple[str, ...], size: tuple[float, ...]) -> None:
    path = history_figure(tmp_path / "history.png", history(100, *names))
    assert size_in_inches(path) == pytest.approx(size, abs=0.01)


def test_training_and_validation_have_colours_of_their_own(tmp_path: Path) -> None:
    both = history_figure(tmp_path / "both.png", history(100, "loss", "validation"))
    train = history_figure(tmp_path / "train.png", history(100, "loss"))
    assert coloured(both, BLUE).any()
    assert coloured(both, VERMILLION).any()
    assert coloured(train, BLUE).any()
    assert not coloured(train, VERMILLION).any()


def test_the_kept_step_is_marked_where_it_is(tmp_path: Path) -> None:
    places = []
    for step in (20, 50, 80):
        found = coloured(history_figure(tmp_path / "history.png", history(100, "loss"), kept_step=step), GREY)
        places.append(int(found.sum(axis=0).argmax()))
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=2)
    assert places[1] - places[0] > 100


def test_other_columns_change_nothing(tmp_path: Path) -> None:
    plain, more = history(60, "loss", "dice"), history(60, "loss", "dice", "segmentation", "unaligned")
    first, second = (history_figure(tmp_path / f"{one}.png", of) for one, of in enumerate((plain, more)))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3, 49, 51])
def test_short_histories_are_drawn_without_a_warning(tmp_path: Path, count: int) -> None:
    path = history_figure(tmp_path / "history.png", history(count, "loss", "dice"), kept_step=count)
    assert coloured(path, BLUE).any()


def test_a_loss_that_falls_far_is_seen_to_its_end(tmp_path: Path) -> None:
    steps = np.arange(1, 41)
    falling = History(steps, {"loss": 100.0 * np.exp(-steps / 2.0) + 0.01})
    rows = np.nonzero(coloured(history_figure(tmp_path / "log.png", falling), BLUE).any(axis=1))[0]
    linear = History(steps, {"loss": 100.0 - steps})
    straight = np.nonzero(coloured(history_figure(tmp_path / "linear.png", linear), BLUE).any(axis=1))[0]
    assert len(rows) == pytest.approx(len(straight), rel=0.1)  # no row is jumped over: a line, not a step


@pytest.mark.parametrize("names", [(), ("segmentation",), ("validation",)])
def test_a_history_without_numbers_to_draw_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected a loss or a score"):
        history_figure(tmp_path / "history.png", history(5, *names))  # too short to have been validated
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.sampled_from([1, 3, 7, 31]))
def test_smoothing_is_the_mean_of_the_neighbours(values: list[float], window: int) -> None:
    half = window // 2
    expected = [np.mean(values[max(0, place - half) : place + half + 1]) for place in range(len(values))]
    np.testing.assert_allclose(smooth(np.array(values), window), expected, atol=1e-9)
