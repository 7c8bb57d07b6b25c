"""Fine-tuning a checkpoint on a folder of annotated images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.datasets import read_dataset
from episodes.errors import UserError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from episodes.sampling.episode import load_support
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.config.parsing import ConfigError, parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.devices import placed
from fewshot.inference.support import image_hashes, load_support_folder, support_hashes
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.supervised import FineTuned
from fewshot.networks import seeded_network
from fewshot.training.finetuning import finetune_checkpoint
from tests.fewshot.tiny_runs import PANET, UNET, silent

ENCODER = EncoderConfig(name="test_efficientnet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fewshot-bus"


@pytest.fixture
def support(tmp_path: Path) -> Path:
    """Three annotated images, none of them normal."""
    write_folder(generate(PhantomSpec("portable", 3, size=64)), tmp_path / "support")
    return tmp_path / "support"


def checkpoint(path: Path, model: dict[str, object] = UNET) -> Path:
    config = parse_config(model, ModelConfig, "model")
    facts = {"image_size": 64, "encoder": ENCODER.model_dump(), "model": config.model_dump(mode="json"), "seed": 3}
    save_checkpoint(path, network_tensors(seeded_network(ENCODER, config, seed=0)), facts)
    return path


def test_the_result_is_what_the_benchmarks_fine_tuned_row_uses(tmp_path: Path, support: Path) -> None:
    source = checkpoint(tmp_path / "unet.safetensors")
    out = tmp_path / "adapted.safetensors"
    assert finetune_checkpoint(source, support, out, ["steps=3", "learning_rate=0.01"], silent()) == out
    store = prepare_store(read_dataset("folder", support), tmp_path / "stores", (64, 64))
    collection = Collection([store])
    cpu = torch.device("cpu")
    ingredients = Ingredients(placed(load_network(source)[0], cpu), Sources(collection, store.records), cpu)
    method = FineTuned(ingredients, steps=3, learning_rate=0.01)
    expected = method.adapt(load_support(collection, [[record.id for record in store.records]])).state_dict()
    found, loaded = load_network(out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    unchanged = load_network(source)[0].state_dict()
    assert not all(torch.equal(tensor, unchanged[name]) for name, tensor in found.state_dict().items())
    assert loaded.facts["seed"] == 3
    assert loaded.facts["finetuned"]["steps"] == 3
    assert len(loaded.facts["finetuned"]["hashes"]) == len(store.records)
    assert loaded.facts["finetuned"]["hashes"] == image_hashes(store.images[:])


def test_the_first_shots_by_name_are_taken(tmp_path: Path, support: Path) -> None:
    out = tmp_path / "adapted.safetensors"
    source = checkpoint(tmp_path / "unet.safetensors")
    finetune_checkpoint(source, support, out, ["steps=1"], silent(), shots=2)
    shown = support_hashes(load_support_folder(support, 64, 2))
    assert load_network(out)[1].facts["finetuned"]["hashes"] == shown


def test_an_existing_file_is_not_overwritten(tmp_path: Path, support: Path) -> None:
    out = tmp_path / "adapted.safetensors"
    out.write_text("precious")
    with pytest.raises(UserError, match=r"adapted\.safetensors: exists already"):
        finetune_checkpoint(checkpoint(tmp_path / "unet.safetensors"), support, out, [], silent())
    assert out.read_text() == "precious"


def test_a_few_shot_model_is_refused(tmp_path: Path, support: Path) -> None:
    path = checkpoint(tmp_path / "panet.safetensors", PANET)
    with pytest.raises(UserError, match=r"panet\.safetensors: holds a PANet; only a supervised model"):
        finetune_checkpoint(path, support, tmp_path / "out", [], silent())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=3", "step: unknown key; did you mean 'steps'"),
        ("steps=many", "steps: .*valid integer"),
        ("steps=0", "steps: .*greater than or equal to 1"),
        ("parts=head", "parts: .*'all', 'decoder' or 'norm'"),
        ("steps", "'steps': expected key=value"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, support: Path, override: str, message: str) -> None:
    path = checkpoint(tmp_path / "unet.safetensors")
    with pytest.raises(ConfigError, match=message):
        finetune_checkpoint(path, support, tmp_path / "out", [override], silent())
    assert not (tmp_path / "out").exists()


def test_an_empty_mask_is_named(tmp_path: Path, support: Path) -> None:
    mask = sorted((support / "masks").iterdir())[1]
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(mask)
    with pytest.raises(UserError, match=rf"folder/{mask.stem}: the mask is empty; outline the lesion"):
        finetune_checkpoint(checkpoint(tmp_path / "u"), support, tmp_path / "out", [], silent())
    assert not (tmp_path / "out").exists()


def test_a_few_images_need_no_store_in_the_users_cache(tmp_path: Path, support: Path, cache: Path) -> None:
    finetune_checkpoint(checkpoint(tmp_path / "u"), support, tmp_path / "out", ["steps=1"], silent())
    assert not cache.exists()
