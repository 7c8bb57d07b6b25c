"""Cases to look at: which are chosen, what is shown of them, and how they are kept."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.errors import UserError
from episodes.sampling.draws import SupportDraw
from episodes.sampling.episode import image_tensor, load_support
from episodes.sampling.manifest import DRAWS
from episodes.storage.store import Collection
from fewshot.benchmark.gallery import choose_queries
from fewshot.benchmark.run import run_benchmark
from fewshot.checkpoints import load_network
from fewshot.results.rows import read_table
from fewshot.results.run_files import Annotated, GalleryCase, read_gallery, write_gallery
from fewshot.stores import open_store
from tests.fewshot.made_results import FLOOR, ORACLE, normal, scored, table
from tests.fewshot.tiny_runs import METHODS, MODELS, silent, tiny_benchmark

QUERIES = "abcdefghij"


def ranked(method: str = "A", shift: float = 0.0, **facts: Any) -> list[dict[str, Any]]:
    """Ten lesions, each better than the one before, in two draws and two seeds, and two normals."""
    rows = []
    for seed in (0, 1):
        for draw, luck in ((0, 0.0), (1, 0.04)):
            cell = {"method": method, "seed": seed, "draw": draw, **facts}
            for place, query in enumerate(QUERIES):
                rows.append(scored(query, place / 10 + shift + luck + 0.02 * seed, **cell))
            rows += [normal("n1", 1.0, 0.02 + luck, **cell), normal("n2", 0.0, 0.0, **cell)]
    return rows


def test_the_worst_the_median_and_the_worst_false_lesion_are_chosen() -> None:
    chosen = choose_queries(table(*ranked()), "ours")
    assert [(choice.why, choice.query) for choice in chosen] == [
        *(("worst", query) for query in "abc"),
        *(("median", query) for query in "ef"),
        ("false lesion", "n1"),
    ]
    assert [choice.dice for choice in chosen][-1] is None


def test_each_is_shown_as_the_first_seed_s_draw_nearest_to_its_mean() -> None:
    # The mean of 0, 0.04, 0.02 and 0.06 is 0.03: of the first seed's draws, 0 and 0.04, the second is nearer.
    first = choose_queries(table(*ranked()), "ours")[0]
    assert (first.cell.seed, first.cell.draw, first.dice) == (0, 1, pytest.approx(0.04))


def test_the_best_method_is_shown_at_every_number_of_shots() -> None:
    rows = [
        *ranked("better", 0.01, shot=1),
        *ranked("worse", shot=1),
        *ranked("worse", 0.1, shot=5),
        *ranked("better", shot=5),
        *ranked("floor", 0.3, shot=1, **FLOOR),
        *ranked("oracle", 0.3, shot=1, **ORACLE),
        *ranked("control", 0.3, shot=1, control="swapped"),
        *ranked("better", 0.5, shot=1, target="theirs"),
    ]
    chosen = choose_queries(table(*rows), "ours")
    assert {(choice.cell.shot, choice.cell.method) for choice in chosen} == {(1, "better"), (5, "worse")}


def test_models_of_the_target_are_shown_where_there_are_no_others() -> None:
    rows = [*ranked("floor", 0.3, **FLOOR), *ranked("own", **ORACLE)]
    assert {choice.cell.method for choice in choose_queries(table(*rows), "ours")} == {"own"}


def test_few_queries_are_shown_once_each() -> None:
    rows = [row for row in ranked() if row["query"] in "abcd"]
    assert [choice.query for choice in choose_queries(table(*rows), "ours")] == ["a", "b", "c", "d"]


# A run's gallery


def test_a_run_shows_the_masks_that_its_method_gives(tmp_path: Path) -> None:
    methods = {"PANet": METHODS["PANet"]}
    config = tiny_benchmark(tmp_path, methods=methods, models={"panet": MODELS["panet"]}, shots=[2], draws=1)
    folder = run_benchmark(config, silent())
    store = open_store(config, "portable", silent())
    collection = Collection([store])
    (draw,) = DRAWS.read(folder / "draws-portable.jsonl", store.records)
    cases = read_gallery(folder)
    scores = {row["query"]: row["dice"] for row in read_table(folder / "results.parquet").to_pylist()}
    assert len(cases) == 6
    worst = sorted(score for score in scores.values() if not math.isnan(score))[:3]
    assert [case.dice for case in cases if case.why == "worst"] == worst
    network = load_network(folder / "models" / "panet-seed0" / "checkpoint.safetensors")[0]
    with torch.inference_mode():
        adapted = network.adapt(load_support(collection, [draw.support[:2]]))
        for case in cases:
            logits = network.segment(image_tensor(case.query.image[None]), adapted)
            np.testing.assert_array_equal(case.prediction, logits[0].argmax(0).numpy() > 0)
            assert_same_image(case, draw, collection, scores)


def assert_same_image(case: GalleryCase, draw: SupportDraw, collection: Collection, scores: dict[str, float]) -> None:
    np.testing.assert_array_equal(case.query.image, collection.image(case.query.id))
    np.testing.assert_array_equal(case.query.mask, np.asarray(collection.label_map(case.query.id)) > 0)
    assert [support.id for support in case.supports] == list(draw.support[:2])
    np.testing.assert_array_equal(case.supports[1].image, collection.image(draw.support[1]))
    if case.dice is not None:
        overlap = 2 * (case.prediction & case.query.mask).sum() / (case.prediction.sum() + case.query.mask.sum())
        assert case.dice == scores[case.query.id] == pytest.approx(overlap)


def test_controls_are_not_what_a_gallery_shows_but_their_masks_would_be(tmp_path: Path) -> None:
    methods = {"PANet": METHODS["PANet"], "swapped": {**METHODS["PANet"], "control": "swapped"}}
    config = tiny_benchmark(tmp_path, methods=methods, models={"panet": MODELS["panet"]}, shots=[1], draws=1)
    assert {case.method for case in read_gallery(run_benchmark(config, silent()))} == {"PANet"}


# On disk


def made_case(number: int) -> GalleryCase:
    rng = np.random.default_rng(number)

    def annotated(name: str) -> Annotated:
        return Annotated(name, rng.integers(0, 256, (8, 6), np.uint8), rng.random((8, 6)) > 0.5)

    shared = Annotated("t/s", np.full((8, 6), 7, np.uint8), np.eye(8, 6, dtype=bool))
    prediction = rng.random((8, 6)) > 0.5
    query = annotated(f"t/{number}")
    return GalleryCase("t", "A", 0, 1, 2, "worst", "benign", 0.5, query, prediction, (shared, annotated("t/o")))


def test_cases_come_back_as_they_were_written(tmp_path: Path) -> None:
    cases = [made_case(0), made_case(1)]
    write_gallery(tmp_path, cases)
    for found, made in zip(read_gallery(tmp_path), cases, strict=True):
        facts = ("target", "method", "seed", "shot", "draw", "why", "label", "dice")
        assert [getattr(found, name) for name in facts] == [getattr(made, name) for name in facts]
        np.testing.assert_array_equal(found.prediction, made.prediction)
        for ours, theirs in zip((found.query, *found.supports), (made.query, *made.supports), strict=True):
            assert ours.id == theirs.id
            np.testing.assert_array_equal(ours.image, theirs.image)
            np.testing.assert_array_equal(ours.mask, theirs.mask)


def test_an_image_that_serves_many_cases_is_written_once(tmp_path: Path) -> None:
    write_gallery(tmp_path, [made_case(0), made_case(1)])
    entries = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert entries[0]["supports"][0] == entries[1]["supports"][0]
    assert len(list((tmp_path / "gallery").glob("image-*-mask.png"))) == 5


def test_no_gallery_is_an_empty_one_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_gallery(tmp_path) == []
    write_gallery(tmp_path, [made_case(0)])
    (tmp_path / "gallery" / "000-prediction.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"gallery\.json: damaged"):
        read_gallery(tmp_path)
