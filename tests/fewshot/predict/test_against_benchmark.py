"""`fewshot predict` gives every query the Dice that a benchmark gives it, of the same model and the same draw."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.images.decoding import read_size
from episodes.records import Record
from episodes.sampling.manifest import DRAWS
from fewshot.benchmark.run import run_benchmark
from fewshot.predict.run import PredictionRequest, predict_folder
from fewshot.results.rows import read_table
from fewshot.stores import open_store
from tests.episodes.made_pictures import read_label_map
from tests.fewshot.predict.conftest import write_checkpoint
from tests.fewshot.tiny_runs import PHANTOMS, silent, tiny_benchmark

SHOT = 2


@pytest.fixture(params=["portable", pytest.param("bus_uclm", marks=pytest.mark.slow)])
def dataset(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    """A target: phantoms, or real images with masks in colours, some of which are not of their image's size."""
    if request.param in PHANTOMS:
        return request.param, PHANTOMS[request.param]
    root = request.getfixturevalue("shared_data") / "BUS-UCLM"
    return request.param, {"reader": "bus_uclm", "root": str(root)}


def write_support(folder: Path, records: Sequence[Record]) -> Path:
    """A user's folder with these images, in this order, and binary masks."""
    for place, record in enumerate(records):
        lesion = read_label_map(record, read_size(record.image)) > 0
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{place}{record.image.suffix}").write_bytes(record.image.read_bytes())
        Image.fromarray(lesion.astype(np.uint8) * np.uint8(255)).save(folder / "masks" / f"{place}.png")
    return folder


def test_every_query_has_the_dice_of_the_benchmark(
    dataset: tuple[str, Mapping[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    name, described = dataset
    checkpoint = write_checkpoint(tmp_path / "panet.safetensors", "panet")
    config = tiny_benchmark(
        tmp_path,
        datasets=PHANTOMS | {name: described},
        targets=[name],
        models={"panet": {"checkpoint": str(checkpoint)}},
        methods={"PANet": {"method": "prototypes", "model": "panet"}},
        shots=[SHOT],
        draws=1,
    )
    folder = run_benchmark(config, silent())
    store = open_store(config, name, silent())
    draw = DRAWS.read(folder / f"draws-{name}.jsonl", store.records)[0]
    records = {record.id: record for record in store.records}
    images = {record.image.parent for record in store.records}
    request = PredictionRequest(
        checkpoint,
        str(images.pop()),
        write_support(tmp_path / "support", [records[one] for one in draw.support[:SHOT]]),
        masks=next(record for record in store.records if record.masks).masks[0].parent,
        device="cpu",
    )
    assert not images
    assert not predict_folder(request, tmp_path / "out", silent()).failed
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        found = {f"{name}/{Path(row['image']).stem}": row["dice"] for row in csv.DictReader(file)}
    expected = {
        row["query"]: row["dice"] for row in read_table(folder / "results.parquet").to_pylist() if row["lesion"]
    }
    assert len(expected) >= 4
    assert np.mean(list(expected.values())) > 0.02  # something was found, so that the masks are put to the test
    # Features computed once lie otherwise in memory, so sums are rounded otherwise: a pixel at 0.5 may fall either way.
    assert {query: float(found[query]) for query in expected} == pytest.approx(expected, abs=1e-3)
    normal = {record.id for record in store.records if not record.has_lesion}
    assert all(found[query] == "" for query in normal)
    assert found.keys() == records.keys() - set(draw.support[:SHOT])
