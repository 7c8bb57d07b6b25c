import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from episodes.scoring.curves import RocCurve
from fewshot.plots.curves import roc_figure
from fewshot.plots.images import Case, cases_figure
from fewshot.plots.style import new_page, page_at, shorten
from tests.fewshot.plots.pictures import size_in_inches

PACKAGE = Path(__file__).parents[3] / "fewshot"
CURVES = {"benign": RocCurve((0.0, 0.2, 1.0), (0.0, 0.9, 1.0), 0.85, 0)}


def test_a_figure_has_the_size_asked_for(tmp_path: Path) -> None:
    for constrained in (False, True):
        with page_at(tmp_path / "new" / "figure.png", 4, 3, constrained=constrained) as page:
            page.figure.add_subplot()
        assert size_in_inches(tmp_path / "new" / "figure.png") == (4, 3)


def test_a_figure_that_fails_leaves_the_earlier_file_and_no_other(tmp_path: Path) -> None:
    path = roc_figure(tmp_path / "roc.png", CURVES)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stopped"), page_at(path, 4, 3):
        raise RuntimeError("stopped")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_settings_of_the_user_change_nothing_and_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = roc_figure(tmp_path / "plain.png", CURVES).read_bytes()
    for name, value in (("font.size", 30.0), ("lines.linewidth", 9.0), ("savefig.bbox", "tight"), ("savefig.dpi", 40)):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    assert roc_figure(tmp_path / "other.png", CURVES).read_bytes() == plain
    assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("name", ["short", "x" * 100, "x" * 3000, "i"])
@pytest.mark.parametrize("width", [0.3, 2.0])
def test_a_long_text_loses_its_middle_and_no_more_than_it_must(name: str, width: float) -> None:
    with new_page(4, 3) as page:
        text = page.text(0, 1.5, name)
        whole = text.get_window_extent().width <= width * 150
        shorten(text, width)
        shown = text.get_text()
        assert text.get_window_extent().width <= width * 150
        assert (shown == name) == whole
        if not whole:
            text.set_text(name[0] + shown)
            assert text.get_window_extent().width > width * 150
            start, end = shown.split("…")
            assert name.startswith(start)
            assert name.endswith(end)


@pytest.mark.parametrize("name", ["a$b$c_{", "乳腺超声.png", ""])
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    mask = np.zeros((8, 8), bool)
    case = Case("best 0.94", name, np.zeros((8, 8), np.uint8), mask, mask)
    short = Case("best 0.94", "short", case.image, mask, mask)
    sizes = [size_in_inches(cases_figure(tmp_path / f"{place}.png", [one])) for place, one in enumerate((case, short))]
    assert sizes[0] == sizes[1]


def test_pyplot_is_never_imported() -> None:
    modules = [f"fewshot.plots.{path.stem}" for path in (PACKAGE / "plots").glob("[a-z]*.py")]
    assert len(modules) >= 4
    program = f"import sys, {', '.join(modules)}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, check=False).returncode == 0  # noqa: S603


def test_matplotlib_is_imported_by_figures_alone() -> None:
    using = {
        path
        for path in PACKAGE.rglob("*.py")
        if "import matplotlib" in (text := path.read_text("utf-8")) or "from matplotlib" in text
    }
    assert {path for path in using if path.parent != PACKAGE / "plots"} == {
        PACKAGE / "report" / name for name in ("drawings.py", "forest_plots.py")
    }
