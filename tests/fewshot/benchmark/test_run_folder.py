"""A run's folder: made, found again, and never shared by two runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from episodes.errors import UserError
from fewshot.benchmark.run import environment, open_run
from fewshot.config.benchmark import BenchmarkConfig
from tests.fewshot.tiny_runs import tiny_benchmark

INPUTS = {"datasets.portable": "portable-64x64-0123", "encoder.weights": "abcd"}


def config(folder: Path, **changes: Any) -> BenchmarkConfig:
    return tiny_benchmark(folder, **changes)


def test_a_run_s_folder_holds_configuration_inputs_and_environment(tmp_path: Path) -> None:
    folder = open_run(config(tmp_path), INPUTS, overwrite=False)
    assert folder == tmp_path / "runs" / "tiny"
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert BenchmarkConfig.model_validate(saved) == config(tmp_path)
    assert saved["training_seeds"] == [0]  # what the user left out is there as well
    assert json.loads((folder / "inputs.json").read_text()) == INPUTS
    assert set(json.loads((folder / "environment.json").read_text())) == set(environment())


def test_the_same_run_is_continued(tmp_path: Path) -> None:
    folder = open_run(config(tmp_path), INPUTS, overwrite=False)
    (folder / "cells").mkdir()
    assert open_run(config(tmp_path), INPUTS, overwrite=False) == folder
    assert open_run(config(tmp_path), INPUTS, overwrite=True) == folder
    assert (folder / "cells").is_dir()  # nothing differs, so there is nothing to replace


@pytest.mark.parametrize(
    ("changes", "inputs", "named"),
    [
        ({"draws": 3}, INPUTS, "draws"),
        ({"draws": 3, "shots": [1]}, INPUTS, "shots, draws"),
        ({}, {**INPUTS, "datasets.portable": "portable-64x64-9999"}, r"the content of datasets\.portable"),
        ({"seed": 4}, {**INPUTS, "encoder.weights": "efgh"}, r"seed, the content of encoder\.weights"),
    ],
)
def test_another_run_is_refused_by_what_differs_and_replaced_if_asked_for(
    tmp_path: Path, changes: dict[str, Any], inputs: dict[str, str], named: str
) -> None:
    folder = open_run(config(tmp_path), INPUTS, overwrite=False)
    (folder / "cells").mkdir()
    with pytest.raises(UserError, match=rf"tiny: the run there differs in {named}; .*another name, or add --overwrite"):
        open_run(config(tmp_path, **changes), inputs, overwrite=False)
    assert (folder / "cells").is_dir()
    assert open_run(config(tmp_path, **changes), inputs, overwrite=True) == folder
    assert not (folder / "cells").exists()
    assert json.loads((folder / "inputs.json").read_text()) == inputs


def test_where_things_lie_and_compute_may_differ(tmp_path: Path) -> None:
    folder = open_run(config(tmp_path), INPUTS, overwrite=False)
    elsewhere = config(tmp_path, data_root="/elsewhere", cache="/elsewhere", device="auto", feature_memory_gib=0.1)
    assert open_run(elsewhere, INPUTS, overwrite=False) == folder


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="tiny: holds files that are no run's"):
        open_run(config(tmp_path), INPUTS, overwrite=overwrite)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    assert open_run(config(tmp_path), INPUTS, overwrite=False) == folder
    assert (folder / "config.yaml").is_file()


def test_the_environment_names_versions_and_where_it_computed() -> None:
    found = environment()
    assert found["packages"]["torch"]
    assert found["packages"]["numpy"]
    assert found["threads"] >= 1
    assert found["commit"] is None or len(found["commit"]) == 40
