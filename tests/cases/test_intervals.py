"""Intervals of an evaluation of few patients, as `fewshot evaluate` prints and writes them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewshot.evaluate import run as run_module
from tests.cli.conftest import Fewshot
from tests.fewshot.evaluate.conftest import write_checkpoint

N_IMAGES = 3


@pytest.fixture
def few_images(tmp_path: Path) -> Path:
    """Three images with a lesion each, patients unknown: each is of its own."""
    root = tmp_path / "few"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for place in range(N_IMAGES):
        mask = np.zeros((64, 64), np.uint8)
        mask[8 : 40 + 8 * place, 8:50] = 255
        image = rng.integers(0, 60, mask.shape).astype(np.uint8) + (mask == 0) * np.uint8(120)
        Image.fromarray(image).save(root / "images" / f"{place}.png")
        Image.fromarray(mask).save(root / "masks" / f"{place}.png")
    return root


def intervals(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, float]]]:
    """Every interval in `evaluation.json`, with where it stands."""
    if isinstance(tree, dict) and tree.keys() == {"estimate", "low", "high"}:
        yield path, tree
    elif isinstance(tree, dict | list):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from intervals(part, f"{path}.{key}")


def test_interval_outside_bounds(
    fewshot: Fewshot,
    few_images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recall came as [0.123, 1.003], the share found as [-0.557, 2.113], and Dice with two intervals."""
    for name in ("write_figures", "write_cases"):
        monkeypatch.setattr(run_module, name, lambda *_: None)
    checkpoint = write_checkpoint(tmp_path / "one.safetensors", "plain-multitask-unet", seed=1)
    ended = fewshot("evaluate", checkpoint, "--data", few_images, "-d", "folder", "--part", "all", "--out", "judged")
    assert ended.status == 0, ended.err
    assert f"Too few patients for these intervals to be relied on: {N_IMAGES} with lesion images." in ended.out
    numbers = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert (numbers["n_lesion_patients"], numbers["n_normal_patients"]) == (N_IMAGES, 0)
    found = dict(intervals(numbers))
    assert len(found) >= 15
    for name, interval in found.items():
        if interval["low"] is None:
            continue
        most = math.inf if name.endswith("hd95") else 1
        assert 0 <= interval["low"] <= interval["estimate"] <= interval["high"] <= most, name
    assert found[".pixels.dice"] == found[".lesion.dice"]
    assert found[".pixels.iou"] == found[".lesion.iou"]
    detected = found[".lesion.detected"]
    assert detected["high"] > detected["low"]
