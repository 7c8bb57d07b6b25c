"""Every training configuration that users copy trains, on phantoms in place of its datasets."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fewshot.checkpoints import load_network
from fewshot.config.parsing import parse_config
from fewshot.config.training import TrainConfig
from fewshot.training.run import train
from tests.fewshot.tiny_runs import silent

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
RECIPES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))


def on_phantoms(recipe: dict[str, Any], cache: Path) -> dict[str, Any]:
    """The recipe for a moment on few and small phantoms: what it says of network and training stays."""
    phantom = {"phantom": {"scanner": "linear", "n_images": 60, "size": 64}}
    encoder: dict[str, Any] = {"name": "resnet10t"}
    if recipe["encoder"]["name"] == "plain":
        encoder = {**recipe["encoder"], "options": {**recipe["encoder"]["options"], "width": 8}}
    shorter = {"epochs": None, "steps": 2, "batch_size": 2, "warmup_steps": 0, "precision": "float32"}
    if "validation" in recipe["train"]:
        shorter["validation"] = {**recipe["train"]["validation"], "every": 1}
    return {
        **recipe,
        "image_size": 64,
        "cache": cache,
        "datasets": dict.fromkeys(recipe["sources"], phantom),
        "encoder": encoder,
        "train": {**recipe["train"], **shorter},
    }


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = yaml.safe_load((CONFIGS / name).read_text())
    cache = tmp_path_factory.getbasetemp() / "recipes"  # the phantoms are made once for all of them
    path = train(parse_config(on_phantoms(recipe, cache), TrainConfig, name), tmp_path, silent())
    network, checkpoint = load_network(path)
    assert not network.training
    assert bool(checkpoint.facts["test_images"]) == (recipe.get("test_share", 0) > 0)
    assert (tmp_path / "history.csv").read_text().startswith("step,loss")
