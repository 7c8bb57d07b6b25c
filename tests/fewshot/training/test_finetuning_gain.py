"""Fine-tuning a checkpoint of every supervised network on five images of a scanner it never saw pays there."""

from pathlib import Path

import numpy as np
import pytest

from episodes.storage.store import Collection
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.inference.target import EncodedTarget, Task, evaluate
from fewshot.methods.contract import Ingredients, Method, Sources
from fewshot.methods.supervised import FineTuned, ZeroShot
from tests.conftest import phantom_collection
from tests.fewshot.small_networks import CPU, ENCODER, MODELS, small_network, training

SUPERVISED = [name for name in MODELS if small_network(name).trains_on == "images"]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Of the phantoms' scanners, the one that a network of `portable` images knows least about."""
    return phantom_collection("linear", tmp_path_factory.mktemp("unseen"), n_images=48)


def annotated_and_queries(target: Collection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lesion images of five patients, one each, and all those of the other patients."""
    lesions = [record for record in target.records if record.has_lesion]
    first = {record.patient: record.id for record in reversed(lesions)}
    known = sorted(first)[:5]
    queries = (record.id for record in lesions if record.patient not in known)
    return tuple(first[patient] for patient in known), tuple(queries)


@pytest.mark.parametrize(
    "name", [name if name == "unet" else pytest.param(name, marks=pytest.mark.slow) for name in SUPERVISED]
)
def test_five_images_of_an_unseen_scanner_improve_a_checkpoint(
    name: str, unseen: Collection, portable_phantoms: Collection, tmp_path: Path
) -> None:
    case = training(name, portable_phantoms, steps=40, batch_size=4, learning_rate=5e-3)
    described = {"encoder": ENCODER.model_dump(mode="json"), "model": MODELS[name].model_dump(mode="json")}
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network_tensors(case.run(tmp_path / "state")), {**described, "image_size": 64})
    network, _ = load_network(path)
    annotated, queries = annotated_and_queries(unseen)
    ingredients = Ingredients(network, Sources(portable_phantoms, ()), CPU)

    def lesion_dice(method: Method, support: tuple[str, ...]) -> float:
        target = EncodedTarget(unseen.stores[0], CPU)
        return float(np.mean([one.scores.dice for one in evaluate(method, target, Task(support, queries))]))

    before = lesion_dice(ZeroShot(ingredients), ())
    after = lesion_dice(FineTuned(ingredients, steps=20, learning_rate=2e-3, augmentation="light"), annotated)
    assert after > before + 0.1
