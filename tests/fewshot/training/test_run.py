"""From a configuration to a checkpoint: once, resumable, never two trainings in one folder."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from baselines.batches import ImageBatches
from episodes.errors import SamplingError, UserError
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.checkpoints import CheckpointError, load_checkpoint, load_network
from fewshot.config.parsing import ConfigError
from fewshot.config.training import TrainConfig
from fewshot.inference.support import record_hashes
from fewshot.networks import NETWORKS, seeded_network
from fewshot.terminal import Reporter, Update
from fewshot.training import precision
from fewshot.training import run as training_module
from fewshot.training.batches import EpisodeBatches, divided_batches, training_batches
from fewshot.training.engine import validation_means
from fewshot.training.partition import divide
from fewshot.training.precision import Computing, autocast
from fewshot.training.run import train, training_facts
from tests.fewshot.small_networks import ENCODER, MODELS, assert_same_weights, small_network, train_config, weights

# Whatever can be carried from step to step, on so few steps.
VALIDATED = {"validation": {"share": 0.4, "every": 2, "episodes": 3}, "average_decay": 0.9, "clip_norm": 1.0}

every_network = pytest.mark.parametrize("name", list(NETWORKS))


class InterruptingReporter(Reporter):
    """Kills the training after a number of steps."""

    def __init__(self, last: int) -> None:
        super().__init__(Console(file=StringIO()))
        self.last = last

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        def update(done: int, total: int, note: str = "") -> None:
            if done == self.last:
                raise KeyboardInterrupt

        yield update


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(Console(file=StringIO(), width=200))


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


# A whole training


@every_network
def test_training_leaves_a_checkpoint_and_its_losses(
    name: str, linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    config = train_config(name)
    path = train(config, tmp_path, reporter, linear_phantoms)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "checkpoint.safetensors",
        "data.json",
        "history.csv",
        "history.png",
        "metrics.jsonl",
        "places.json",
        "seconds.json",
    ]
    network, checkpoint = load_network(path)
    outcome = {"precision": "float32", "channels_last": False, "kept_step": 6, "test_images": []}
    outcome["seen_images"] = sorted(set(record_hashes(linear_phantoms.stores).values()))
    assert checkpoint.facts == training_facts(config) | outcome
    before = weights(small_network(name))
    assert any(not torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_sources_are_prepared_where_none_are_given(tmp_path: Path, reporter: Reporter) -> None:
    datasets = {"linear": {"phantom": {"scanner": "linear", "n_images": 12, "size": 64}}}
    changes = {"datasets": datasets, "cache": tmp_path / "cache"}
    config = TrainConfig.model_validate(train_config("unet", steps=1).model_dump() | changes)
    path = train(config, tmp_path / "run", reporter)
    assert path.is_file()
    assert {folder.name for folder in (tmp_path / "cache").iterdir()} == {"phantoms", "stores"}


def test_a_finished_training_is_not_repeated(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config("unet", steps=1)
    path = train(config, tmp_path, reporter, linear_phantoms)
    content = path.read_bytes()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training_module, "fit", refuse)
    assert train(config, tmp_path, reporter, linear_phantoms) == path
    assert path.read_bytes() == content
    assert "train: unet is finished" in reporter.console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NETWORKS),
        ("unet", VALIDATED),
        *(pytest.param(name, VALIDATED, marks=pytest.mark.slow) for name in NETWORKS if name != "unet"),
    ],
)
def test_an_interrupted_training_goes_on_and_ends_the_same(
    name: str, options: dict[str, Any], linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    config = train_config(name, **options)
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "interrupted"
    train(config, undisturbed, reporter, linear_phantoms)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, InterruptingReporter(5), linear_phantoms)
    assert not (folder / "checkpoint.safetensors").exists()
    assert steps_of(folder) == [1, 2, 3, 4, 5]
    path = train(config, folder, reporter, linear_phantoms)
    assert path.read_bytes() == (undisturbed / path.name).read_bytes()
    for file in ("metrics.jsonl", "history.csv"):
        assert (folder / file).read_bytes() == (undisturbed / file).read_bytes()
    assert not (folder / "state.safetensors").exists()


# Validation


def test_validation_losses_are_written_beside_the_others(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    config = train_config("unet", validation={"share": 0.4, "every": 2}, steps=5)
    with caplog.at_level(logging.INFO):
        path = train(config, tmp_path, reporter, linear_phantoms)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert list(losses) == [2, 4, 5]
    assert all("loss" in line for line in lines)
    network, checkpoint = load_network(path)
    kept = checkpoint.facts["kept_step"]
    assert losses[kept] == min(losses.values())
    assert f"the weights of step {kept} validated best" in caplog.text
    _, held_out = divided_batches(network, divide(linear_phantoms, config), config)
    assert held_out is not None
    found = validation_means(network, held_out, torch.device("cpu"), autocast("float32", torch.device("cpu")))["loss"]
    assert found == pytest.approx(losses[kept], rel=1e-6)


def test_too_few_patients_to_validate_on_are_told_before_a_step(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    config = train_config("panet", validation={"share": 0.1}, episodes={"n_shot": 3})
    with pytest.raises(SamplingError, match=r"train\.validation: .* patients?, 4 needed"):
        train(config, tmp_path, reporter, linear_phantoms)
    assert not list(tmp_path.iterdir())


# A test part


@pytest.mark.parametrize("name", ["panet", "unet"])
def test_the_test_part_is_written_down_and_never_seen(
    name: str, linear_phantoms: Collection, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever training and validation read of the stores is watched."""
    seen: set[str] = set()
    image = Collection.image

    def watched(collection: Collection, record_id: str) -> Any:
        seen.add(record_id)
        return image(collection, record_id)

    config = train_config(name, validation={"share": 0.3, "every": 3, "episodes": 3}, steps=9)
    config = config.model_copy(update={"test_share": 0.3})
    partition = divide(linear_phantoms, config)
    monkeypatch.setattr(Collection, "image", watched)
    facts = load_checkpoint(train(config, tmp_path, reporter, linear_phantoms)).facts
    assert partition.test is not None
    assert partition.validation is not None
    test_ids, hashes = {record.id for record in partition.test.records}, record_hashes(linear_phantoms.stores)
    assert facts["test_images"] == sorted(hashes[name] for name in test_ids) != []
    assert (facts["test_share"], facts["split_seed"]) == (0.3, 0)
    assert seen
    assert not seen & test_ids
    assert set(facts["seen_images"]) == {hashes[name] for name in hashes.keys() - test_ids}
    assert seen <= {record.id for part in (partition.train, partition.validation) for record in part.records}


def test_an_interrupted_training_does_not_go_on_with_another_test_part(
    linear_phantoms: Collection, portable_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    """The sources' files may have changed since."""
    config = train_config("unet").model_copy(update={"test_share": 0.3})
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, InterruptingReporter(5), linear_phantoms)
    fewer = Collection([prepare_store(list(linear_phantoms.records[:-4]), tmp_path / "fewer", (64, 64))])
    with pytest.raises(UserError, match=r"state\.safetensors: .* other images .* test"):
        train(config, tmp_path, reporter, fewer)
    assert train(config, tmp_path, reporter, linear_phantoms).is_file()


# What training is configured to see


def test_epochs_show_every_image_so_often(linear_phantoms: Collection, tmp_path: Path, reporter: Reporter) -> None:
    config = train_config("unet", steps=None, epochs=2, batch_size=5)
    train(config, tmp_path, reporter, linear_phantoms)
    assert steps_of(tmp_path) == list(range(1, 11))  # 48 images in tens of five


def test_adam_is_trained_with_and_differs_from_adamw(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    common = {"steps": 2, "weight_decay": 0.1, "warmup_steps": 0}
    found = [
        weights(
            load_network(
                train(train_config("unet", optimizer=name, **common), tmp_path / name, reporter, linear_phantoms)
            )[0]
        )
        for name in ("adam", "adamw")
    ]
    assert any(not torch.equal(tensor, found[1][key]) for key, tensor in found[0].items())


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": None, "epochs": 2}, "epochs"),
        ({"balance": "labels"}, "balance"),
        ({"label_augmentation": {"normal": "none"}}, "label_augmentation"),
    ],
)
def test_what_is_of_images_is_refused_by_networks_that_train_on_episodes(
    changes: dict[str, Any], key: str, linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{key}: .*panet trains on episodes; leave it out"):
        train(train_config("panet", **changes), tmp_path / "run", reporter, linear_phantoms)
    assert not (tmp_path / "run").exists()


def test_a_label_that_no_image_has_is_told_before_a_step(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    config = train_config("plain-multitask-unet", labels=["benign", "malignant"])
    with pytest.raises(ConfigError, match="the train part of the sources has no normal image"):
        train(config, tmp_path / "run", reporter, linear_phantoms)
    assert not (tmp_path / "run").exists()


# Precision


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Computing]:
    """What is fastest on this machine, whatever is measured; one that a test may change."""
    found = [Computing("bfloat16", True)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: True)
    monkeypatch.setattr(
        precision, "_remembered_seconds", lambda *given: {one: 1.0 + (one != found[0]) for one in given[2]}
    )
    return found


AUTO = {"precision": "auto", "channels_last": "auto"}


def test_what_auto_stood_for_is_told_and_written(
    fastest: list[Computing],
    linear_phantoms: Collection,
    tmp_path: Path,
    reporter: Reporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        path = train(train_config("unet", **AUTO, steps=2), tmp_path / "auto", reporter, linear_phantoms)
    asked = train_config("unet", precision="bfloat16", channels_last=True, steps=2)
    named = train(asked, tmp_path / "named", reporter, linear_phantoms)
    assert "computes in bfloat16 channels-last on cpu" in caplog.text
    facts = load_checkpoint(path).facts
    assert (facts["precision"], facts["train"]["precision"]) == ("bfloat16", "auto")
    assert (facts["channels_last"], facts["train"]["channels_last"]) == (True, "auto")
    assert_same_weights(weights(load_network(path)[0]), weights(load_network(named)[0]))


def test_an_interrupted_training_ends_in_what_it_began_in(
    fastest: list[Computing], linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    config = train_config("unet", **AUTO)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "moved", InterruptingReporter(5), linear_phantoms)
    undisturbed = train(config, tmp_path / "undisturbed", reporter, linear_phantoms)
    fastest[0] = Computing("float32", False)
    assert train(config, tmp_path / "moved", reporter, linear_phantoms).read_bytes() == undisturbed.read_bytes()


def test_the_fastest_is_measured_on_the_network_itself(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "SECONDS", 0.0)
    config = train_config("unet", **AUTO, steps=2).model_copy(update={"cache": tmp_path / "cache"})
    facts = load_checkpoint(train(config, tmp_path / "auto", reporter, linear_phantoms)).facts
    (file,) = (tmp_path / "cache" / "precision").iterdir()
    seconds = json.loads(file.read_text())["seconds"]
    named = f"{facts['precision']}{' channels-last' if facts['channels_last'] else ''}"
    assert seconds[named] <= 1.03 * min(seconds.values())


# Another training's folder


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"train": {"steps": 7}}, "train"),
        ({"image_size": 96, "train": {"learning_rate": 0.1}}, "image_size, train"),
        ({"model": {"levels": (0, 1, 3)}}, "model"),
    ],
)
def test_another_configuration_s_training_is_not_touched(
    changes: dict[str, Any],
    named: str,
    interrupted: bool,
    linear_phantoms: Collection,
    tmp_path: Path,
    reporter: Reporter,
) -> None:
    config = train_config("unet", steps=3)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path, InterruptingReporter(3), linear_phantoms)
    else:
        train(config, tmp_path, reporter, linear_phantoms)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    tree = config.model_dump()
    for key, value in changes.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    with pytest.raises(UserError) as caught:
        train(TrainConfig.model_validate(tree), tmp_path, reporter, linear_phantoms)
    file = tmp_path / ("state.safetensors" if interrupted else "checkpoint.safetensors")
    assert str(caught.value) == (
        f"{file}: the training there differs in {named}; give another name, or delete its folder"
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_checkpoint_is_not_trained_over(
    linear_phantoms: Collection, tmp_path: Path, reporter: Reporter
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not whole")
    with pytest.raises(CheckpointError, match="damaged"):
        train(train_config("unet"), tmp_path, reporter, linear_phantoms)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"not whole"


def test_facts_say_what_changes_the_result_and_nothing_of_the_machine() -> None:
    config = train_config("panet", workers=3, save_every=7)
    facts = training_facts(config)
    assert facts == json.loads(json.dumps(facts))
    moved = config.model_copy(
        update={"data_root": Path("/elsewhere"), "cache": Path("/cache"), "device": "cuda", "name": "b"}
    )
    assert training_facts(moved) == facts
    assert training_facts(train_config("panet")) == facts
    assert training_facts(train_config("panet", batch_size=3)) != facts


# Its parts


@every_network
def test_networks_get_the_batches_they_train_on(name: str, linear_phantoms: Collection) -> None:
    network = small_network(name)
    expected = {"images": ImageBatches, "episodes": EpisodeBatches}[network.trains_on]
    assert type(training_batches(network, linear_phantoms, train_config(name))) is expected


def test_a_seeded_network_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    seeded_network(ENCODER, MODELS["unet"], seed=9)
    assert torch.equal(torch.rand(2), expected)


# Several processes


@pytest.mark.slow
def test_torchrun_trains_one_model_in_two_processes(tmp_path: Path) -> None:
    config = train_config("panet", steps=3).model_dump(mode="json")
    config["datasets"]["linear"]["phantom"] |= {"n_images": 16, "size": 64}
    config |= {"runs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")}
    file = tmp_path / "panet.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*command, "-m", "fewshot", "train", str(file)], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "panet"
    assert steps_of(folder) == [1, 2, 3]
    assert load_checkpoint(folder / "checkpoint.safetensors").facts["train"]["steps"] == 3
    assert not (folder / "state.safetensors").exists()
