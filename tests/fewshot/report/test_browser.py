"""The page as a reader's browser shows it: Debian's Chromium, driven by playwright."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fewshot.report.content import ReportContent
from fewshot.report.page import write_report
from tests.fewshot.report.made_content import made_content

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@dataclass
class Seen:
    """What happened while a page was open."""

    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return made_content(("bus_uclm", "busi", "bus_bra"))  # the more datasets, the wider the table


@pytest.fixture(scope="module")
def address(content: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(content, tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(scope="module", params=[(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def seen(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Seen]:
    viewport, scheme = request.param
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    seen = Seen(page)

    def only_the_file(route: Any) -> None:
        seen.requests.append(route.request.url)
        if route.request.url == address:
            route.continue_()
        else:
            route.abort()

    context.route("**/*", only_the_file)
    page.on("request", lambda asked: seen.requests.append(asked.url))
    page.on("console", lambda message: seen.messages.append(message.text))
    page.on("pageerror", lambda error: seen.messages.append(str(error)))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    yield seen
    context.close()


def test_it_asks_for_nothing_but_itself_and_complains_of_nothing(seen: Seen, address: str) -> None:
    assert {url for url in seen.requests if not url.startswith("data:")} == {address}
    assert seen.messages == []


def test_it_is_no_wider_than_the_window(seen: Seen) -> None:
    assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_its_numbers_are_those_of_the_results(seen: Seen, content: ReportContent) -> None:
    rows = {(row.target, row.method, str(row.shot)): row for target in content.targets for row in target.rows}
    cells = seen.page.eval_on_selector_all(
        "[data-value]", "cells => cells.map(cell => ({...cell.dataset, text: cell.textContent}))"
    )
    assert {(cell["target"], cell["method"], cell["shot"]) for cell in cells} == set(rows)
    for cell in cells:
        row = rows[cell["target"], cell["method"], cell["shot"]]
        expected = {
            "dice": row.dice.estimate,
            "shared_dice": row.shared.estimate,
            "patient_dice": row.patient_dice.estimate,
            "seed_spread": row.seed_spread,
        }
        value = float(cell["value"])
        assert value == pytest.approx({**row.scores, **expected}[cell["score"]], abs=0, nan_ok=True)
        if cell["score"] in ("dice", "patient_dice"):
            assert f"{value:.3f}" in cell["text"] or f"{value:.2f}" in cell["text"]


def test_the_answer_for_most_images_is_on_the_first_screen(seen: Seen, content: ReportContent) -> None:
    last = seen.page.locator(".answers").first.locator(".card").last
    box = last.locator(".dice").bounding_box()
    assert box["y"] + box["height"] <= seen.page.viewport_size["height"]
    assert content.targets[0].answers[-1].best.method in last.inner_text()


def test_the_theme_follows_the_reader(seen: Seen) -> None:
    dark = seen.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    scale = seen.page.evaluate("getComputedStyle(document.querySelector('.drawing text')).fill")
    expected = ("rgb(15, 18, 22)", "rgb(163, 173, 186)") if dark else ("rgb(246, 247, 249)", "rgb(91, 100, 114)")
    assert (ground, scale) == expected


def test_pictures_and_figures_are_really_drawn(seen: Seen, content: ReportContent) -> None:
    sizes = seen.page.eval_on_selector_all(
        ".drawing svg, .cases:first-of-type .picture svg",
        "all => all.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect())"
        ".map(box => [box.width, box.height])",
    )
    assert len(sizes) > 8 * len(content.targets)
    assert all(width > 20 and height > 20 for width, height in sizes)
    decoded = seen.page.evaluate(
        "Promise.all([...document.querySelectorAll('image')].map(one => {"
        " const picture = new Image(); picture.src = one.getAttribute('href');"
        " return picture.decode().then(() => 1); }))"
    )
    assert len(decoded) == 10


def test_letters_in_figures_are_large_enough_to_read(seen: Seen) -> None:
    heights = seen.page.eval_on_selector_all(
        ".drawing svg text",
        "all => all.map(one => parseFloat(getComputedStyle(one).fontSize)"
        " * one.ownerSVGElement.getBoundingClientRect().width / one.ownerSVGElement.viewBox.baseVal.width)",
    )
    assert min(heights) >= 8


def test_a_wide_table_scrolls_inside_its_frame(seen: Seen) -> None:
    seen.page.locator("#methods details summary").first.click()
    wide = seen.page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(one => one.checkVisibility())"
        ".some(one => one.scrollWidth > one.clientWidth)"
    )
    assert wide or seen.page.viewport_size["width"] > 1000
    assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
