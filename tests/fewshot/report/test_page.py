import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from episodes.scoring.statistics import Difference, Interval
from fewshot.report.content import Answer, ReportContent, TargetContent
from fewshot.report.drawings import draw
from fewshot.report.page import render, write_report
from fewshot.report.sentences import describe_lead, describe_value_of_annotating
from fewshot.report.tables import best_methods
from fewshot.results.comparison import Comparison
from fewshot.results.run_files import mean_costs
from tests.fewshot.report.made_content import made_content, made_target
from tests.fewshot.report.made_rows import MADE, made_row

NASTY = "<b>&\"'{{ 7 * 6 }}$x_1$</b>"


class Page(HTMLParser):
    """What tests ask of a page: its elements with their attributes, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def named(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def rendered(content: ReportContent) -> str:
    return render(content, draw(content))


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return made_content()


@pytest.fixture(scope="module")
def html(content: ReportContent) -> str:
    return rendered(content)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_answer_comes_first_then_a_card_for_each_dataset_and_number_of_images(
    content: ReportContent, html: str
) -> None:
    assert f"<h1>{content.headline}</h1>" in html
    cards = re.findall(r'<li class="card">.*?</li>', html, re.DOTALL)
    answers = [answer for target in content.targets for answer in target.answers]
    assert len(cards) == len(answers) == 6
    for card, answer in zip(cards, answers, strict=True):
        assert f'<p class="method">{answer.best.method}</p>' in card
        assert f"<strong>{answer.best.dice.estimate:.2f}</strong>" in card
        assert f"[{answer.best.dice.low:.2f}, {answer.best.dice.high:.2f}]" in card
        assert describe_lead(answer) in card


def test_every_row_is_in_the_tables_with_all_its_numbers_in_full(content: ReportContent, page: Page) -> None:
    shown = {
        tuple(cell[f"data-{name}"] for name in ("target", "method", "shot", "score")): float(cell["data-value"])
        for cell in page.named("td")
        if "data-value" in cell
    }
    rows = [row for target in content.targets for row in target.rows]
    assert len({key[:3] for key in shown}) == len(rows)
    for row in rows:
        key = (row.target, row.method, str(row.shot))
        assert shown[*key, "dice"] == row.dice.estimate
        assert shown[*key, "patient_dice"] == row.patient_dice.estimate
        assert shown[*key, "seed_spread"] == pytest.approx(row.seed_spread, nan_ok=True)
        for score in ("iou", "detected", "hd95", "nsd", "false_positive"):
            assert shown[*key, score] == row.scores[score]


def test_the_best_of_each_number_of_images_is_marked_and_is_no_control_floor_or_oracle(
    content: ReportContent, page: Page
) -> None:
    marked = {
        (cell["data-target"], cell["data-method"], cell["data-shot"])
        for cell in page.named("td")
        if cell.get("class") == "best"
    }
    assert marked == {
        (target.target, method, shot)
        for target in content.targets
        for method, shot in (("U-Net", "0"), ("PANet complete", "1"), ("U-Net fine-tuned", "5"))
    }


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: Page, html: str) -> None:
    policies = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not page.named("script", "iframe", "object", "embed", "base")
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\((?!#)", html)


def test_every_reference_inside_the_page_has_one_target(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["href"][1:] for _, attributes in page.elements if attributes.get("href", "").startswith("#")}
    used |= {attributes["clip-path"][5:-1] for _, attributes in page.elements if "clip-path" in attributes}
    assert used <= set(ids)


def test_pictures_and_figures_say_what_they_show_and_headings_come_in_order(page: Page) -> None:
    assert all(attributes.get("aria-label") for _, attributes in page.elements if attributes.get("role") == "img")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for attributes in page.named("th"))
    assert page.elements[0] == ("html", {"lang": "en"})


def test_names_are_shown_as_they_are_and_never_become_markup() -> None:
    made = made_target("busi")
    rows = [replace(row, target=NASTY, method=NASTY if row.method == "U-Net" else row.method) for row in made.rows]
    answer = replace(made.answers[0], best=rows[1])
    assert answer.best.method == NASTY
    target = replace(
        made,
        target=NASTY,
        rows=rows,
        answers=[answer],
        comparisons=[replace(made.comparisons[0], row=answer.best)],
        controls=[],
        patients={(NASTY, 0): made.patients["U-Net", 0]},
        sizes=[replace(made.sizes[0], row=answer.best, group=NASTY)],
        labels=[],
        reliability={(NASTY, 0): made.reliability["U-Net", 0]},
        costs=[replace(made.costs[0], method=NASTY, device=NASTY)],
        cases=[replace(made.cases[0], method=NASTY, label=NASTY, query=replace(made.cases[0].query, id=NASTY))],
    )
    html = rendered(
        replace(
            made_content(["busi"]),
            title=NASTY,
            headline=NASTY,
            targets=[target],
            warnings=[NASTY],
            facts={NASTY: NASTY},
            config={NASTY: NASTY},
            environment={NASTY: {NASTY: {NASTY: NASTY}}},
        )
    )
    page = Page(html)
    assert not page.named("b")[3:]  # but for the whisker of a card's bar
    assert "{{ 7 * 6 }}" in html
    assert any(cell.get("data-method") == NASTY for cell in page.named("td"))
    text = re.sub(r"<[^>]*>", "", html)
    assert "&lt;b&gt;&amp;" in text


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    content = made_content(["busi"])
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert write_report(content, folder) == folder / "report.html"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert {"report.html", "figures/shot-curve-busi.svg", "figures/shot-curve-busi.png"} <= set(written[0])
    assert not [name for name in written[0] if "partial" in name]


def test_a_table_alone_still_makes_a_page() -> None:
    """Without gallery, costs, controls, probabilities, normal images, comparisons, configuration and warnings."""
    made = made_target("busi")
    rows = [replace(row, scores=row.scores | {"false_positive": math.nan}) for row in made.rows if not row.control]
    target = replace(
        made, rows=rows, comparisons=[], controls=[], patients={}, sizes=[], size_edges=(), labels=[], reliability={},
        costs=[], cases=[], n_normal=0,
    )  # fmt: skip
    html = rendered(ReportContent("busi", "Use U-Net.", [target], {}))
    sections = re.findall(r'<section id="(\w+)"', html)
    assert sections == ["shots", "methods", "settings"]
    assert re.findall(r'<a href="#(\w+)"', html) == sections


def test_without_any_score_the_page_says_so() -> None:
    empty = TargetContent("busi", 0, 3, 2, [], [], [], [], {}, [], (), [], {})
    assert "Nothing could be scored" in rendered(ReportContent("busi", "Nothing could be scored.", [empty], {}))


def test_a_number_that_is_unknown_is_a_dash() -> None:
    target = made_target("busi")
    rows = [replace(made_row("busi", MADE[4], 0, 0.6), dice=Interval(math.nan, math.nan, math.nan)), *target.rows]
    html = rendered(replace(made_content(["busi"]), targets=[replace(target, rows=rows)]))
    assert re.search(r'data-score="dice" data-value="nan"[^>]*>-</td>', html)
    assert best_methods(replace(target, rows=rows)) == best_methods(target)


def changed(answer: Answer, which: Literal["lead", "gain"], interval: Interval, p: float) -> Answer:
    """The same answer with another lead or gain."""
    one = answer.lead if which == "lead" else answer.gain
    assert one is not None
    turned = replace(one, difference=Difference(interval, p), corrected_p=p).turned()
    return replace(answer, others=[turned if other.row.key == turned.row.key else other for other in answer.others])


@pytest.mark.parametrize(
    ("lead", "p", "said"),
    [
        (Interval(0.031, 0.01, 0.05), 0.049, "Clearly better than PANet complete (by 0.03)."),
        (Interval(0.011, 0.001, 0.02), 0.01, "Clearly better than PANet complete (by 0.011, a small difference)."),
        (Interval(0.031, 0.01, 0.05), 0.05, "PANet complete may be as good: the difference (0.03) may be chance."),
        (Interval(0.031, -0.01, 0.07), 0.2, "PANet complete may be as good: the difference (0.03) may be chance."),
        (Interval(0.0, -0.02, 0.02), 0.9, "PANet complete is just as good."),
        (Interval(0.0, -0.02, 0.021), 0.9, "PANet complete may be as good: the difference (0.00) may be chance."),
        (
            Interval(0.031, math.nan, math.nan),
            math.nan,
            "Next is PANet complete; how sure that is cannot be told from so few patients.",
        ),
    ],
)
def test_how_sure_an_answer_is_stands_in_plain_words(lead: Interval, p: float, said: str) -> None:
    assert describe_lead(changed(made_target("busi").answers[-1], "lead", lead, p)) == said


def test_an_answer_without_a_rival_says_so() -> None:
    zero, *_, five = made_target("busi").answers
    alone = [(row, dice) for row, dice in five.ranked if row.method == five.best.method or not row.shot]
    assert describe_lead(replace(five, ranked=alone)) == (
        "No other method that reads annotated images was tried with so few."
    )
    assert describe_lead(replace(zero, ranked=zero.ranked[:1])) == (
        "No other method was tried without annotated images."
    )


def test_a_method_that_annotating_does_not_help_is_not_called_its_own_rival() -> None:
    one = made_target("busi").answers[1]
    assert one.best.shot == 0
    rival = replace(one.best, shot=1)
    same = Comparison(rival, one.best, Difference(Interval(-0.001, -0.01, 0.01), 0.9), 0.9)
    said = describe_lead(replace(one, ranked=[(one.best, 0.7), (rival, 0.699)], others=[same]))
    assert said == f"{one.best.method} with the image is just as good."


@pytest.mark.parametrize(
    ("gain", "p", "said"),
    [
        (Interval(0.05, 0.02, 0.08), 0.01, "Annotating the images brings +0.05 over U-Net without any."),
        (Interval(0.05, 0.02, 0.08), 0.06, "Whether annotating the images helps at all is unclear: U-Net"),
        (Interval(0.05, -0.02, 0.08), 0.2, "Whether annotating the images helps at all is unclear: U-Net"),
        (
            Interval(0.00, -0.02, 0.02),
            0.9,
            "Annotating the images brings nothing measurable: U-Net without",
        ),
        (
            Interval(0.05, math.nan, math.nan),
            math.nan,
            "Whether annotating the images helps cannot be told",
        ),
    ],
)
def test_what_annotating_brings_is_said_as_far_as_it_is_known(gain: Interval, p: float, said: str) -> None:
    assert describe_value_of_annotating(changed(made_target("busi").answers[-1], "gain", gain, p)).startswith(said)


def test_that_annotating_brings_nothing_is_said_only_where_every_method_shows_it() -> None:
    nothing, one, _ = made_target("busi").answers
    assert describe_value_of_annotating(nothing) == ""
    assert one.best.shot == 0
    assert "no method that reads annotated images did better" in describe_value_of_annotating(one)
    for high, said in ((0.02, "Annotating brings nothing here"), (0.021, "Whether annotating helps cannot be told")):
        loss = Difference(Interval(-0.01, -0.05, high), 0.5)
        others = [replace(other, difference=loss) if other.row.shot else other for other in one.others]
        assert describe_value_of_annotating(replace(one, others=others)).startswith(said)


def test_costs_are_means_over_seeds() -> None:
    costs = {(cost.method, cost.shot): cost for cost in mean_costs(made_target("busi").costs)}
    assert costs["PANet", 5].parameters == 11_400_000  # of 11.3, 11.4 and 11.5 million
    assert costs["PANet", 5].n_seeds == 3
    assert costs["empty", 0].parameters is None


COLOURS = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")


def _themes() -> list[dict[str, str]]:
    css = (Path(__file__).parents[3] / "fewshot/report/templates/report.css").read_text(encoding="utf-8")
    light, dark = css.split("@media screen and (prefers-color-scheme: dark)")
    return [dict(COLOURS.findall(part.split("}")[0])) for part in (light, dark)]


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.1, from 1 to 21."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_in_both_themes(place: int) -> None:
    theme = _themes()[place]
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for text in ("ink", "muted", "accent"):
        for ground in ("paper", "ground"):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    assert contrast(theme["ink"], theme["note"]) >= 4.5
    for series in range(1, 7):
        assert contrast(theme[f"series-{series}"], theme["paper"]) >= 3, series
