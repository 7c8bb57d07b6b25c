"""YAML and overrides to configurations: what is accepted, and what a user reads when something is not."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.data import CorrectionsConfig, DataConfig, EpisodesConfig, SampleConfig
from fewshot.config.parsing import ConfigError, Strict, load_config, parse_config, parse_overrides
from fewshot.config.training import EncoderConfig, ModelConfig, TrainConfig, TrainingConfig

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS: dict[str, type[Strict]] = {
    "benchmark": BenchmarkConfig,
    "curation": CorrectionsConfig,
    "data": SampleConfig,
    "train": TrainConfig,
}

BENCHMARK: dict[str, Any] = {
    "name": "mine",
    "datasets": {
        "busi": {"reader": "busi", "root": "BUSI"},
        "ours": {"reader": "folder", "root": "ours"},
        "linear": {"phantom": {"scanner": "linear"}},
    },
    "sources": ["busi"],
    "targets": ["ours"],
    "models": {"panet": {"network": "panet", "train": {"steps": 10}}},
    "methods": {"PANet": {"method": "prototypes", "model": "panet"}},
}


def written(folder: Path, tree: object = BENCHMARK) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def complaint(path: Path, *overrides: str, kind: type[DataConfig] = BenchmarkConfig) -> str:
    """The message about a configuration that must be refused, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, kind, overrides)
    assert caught.value.status == 2
    return str(caught.value).replace(f"{path}: ", "")


def kind_of(path: Path) -> str:
    return path.relative_to(CONFIGS).parts[0]


# What is accepted


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_file_under_configs_loads_and_says_how_to_run_it(path: Path) -> None:
    load_config(path, KINDS[kind_of(path)])
    head = path.read_text().splitlines()[:8]
    assert any(line.startswith("#   fewshot ") and str(path.relative_to(CONFIGS.parent)) in line for line in head)


def test_all_kinds_of_configurations_have_examples() -> None:
    assert {kind_of(path) for path in CONFIGS.rglob("*.yaml")} == KINDS.keys()


def test_defaults_fill_what_a_file_leaves_out(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), BenchmarkConfig)
    assert (config.shots, config.draws, config.image_size) == ((1, 5), 5, 256)
    training = config.models["panet"].train
    assert training is not None
    assert (training.steps, training.batch_size, training.episodes.n_shot) == (10, 4, (1,))


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), BenchmarkConfig)
    with pytest.raises(ValidationError, match="frozen"):
        config.draws = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.models["panet"].train.steps = 3  # type: ignore[misc, union-attr]


def test_a_resolved_configuration_loads_as_itself(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path), BenchmarkConfig, ["models.panet.train.episodes.classes=[[benign, malignant]]"]
    )
    again = load_config(written(tmp_path, config.model_dump(mode="json")), BenchmarkConfig)
    assert again == config


def test_relative_folders_lie_in_the_data_root(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), BenchmarkConfig, ["data_root=/data", "datasets.ours.root=/elsewhere"])
    assert config.root("busi") == Path("/data/BUSI")
    assert config.root("ours") == Path("/elsewhere")
    assert config.root("linear") is None


# Unknown keys


def test_an_override_leaves_other_keys_with_the_same_anchor_alone(tmp_path: Path) -> None:
    shared = {"network": "unet", "train": {"steps": 10}}
    models = {"one": shared, "same": shared, "like": {"network": "panet", "train": shared["train"]}}
    path = written(tmp_path, BENCHMARK | {"models": models, "methods": {"empty": {"method": "empty"}}})
    assert "&id001" in path.read_text()
    found = load_config(path, BenchmarkConfig, ["models.one.train.steps=7"]).models
    assert [model.train and model.train.steps for model in found.values()] == [7, 10, 10]


def test_a_value_of_no_possible_kind_is_named_by_its_key(tmp_path: Path) -> None:
    lines = complaint(written(tmp_path), "processes=0").splitlines()
    assert lines == [
        "processes: Input should be 'auto'",
        "processes: Input should be greater than or equal to 1",
    ]
    assert complaint(written(tmp_path), "models.panet.train.channels_last=7").startswith(
        "models.panet.train.channels_last: Input"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shot=[1]", "shot: unknown key; did you mean 'shots'?"),
        ("encoder.wieghts=none", "encoder.wieghts: unknown key; did you mean 'weights'?"),
        ("models.panet.trian.steps=5", "models.panet.trian: unknown key; did you mean 'train'?"),
        ("models.panet.train.step=5", "models.panet.train.step: unknown key; did you mean 'steps'?"),
        (
            "models.panet.train.episodes.shots=5",
            "models.panet.train.episodes.shots: unknown key; did you mean 'n_shot'",
        ),
        ("datasets.linear.phantom.images=5", "datasets.linear.phantom.images: unknown key; did you mean 'n_images'?"),
        ("encoder.qqq=1", "encoder.qqq: unknown key; valid keys: name, weights, freeze_norm"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(tmp_path: Path, override: str, message: str) -> None:
    assert complaint(written(tmp_path), override).startswith(message)


def test_an_unknown_key_names_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {**BENCHMARK, "drawz": 3})
    with pytest.raises(ConfigError) as caught:
        load_config(path, BenchmarkConfig)
    assert str(caught.value) == f"{path}: drawz: unknown key; did you mean 'draws'?"


@pytest.mark.parametrize("name", ["phantom", "root", "reader"])
def test_a_dataset_may_be_named_like_a_key(tmp_path: Path, name: str) -> None:
    tree = {**BENCHMARK, "datasets": {**BENCHMARK["datasets"], name: {"readr": "busi", "root": "BUSI"}}}
    assert complaint(written(tmp_path, tree)) == f"datasets.{name}.readr: unknown key; did you mean 'reader'?"


def test_a_model_may_be_named_like_a_key(tmp_path: Path) -> None:
    tree = {**BENCHMARK, "models": {**BENCHMARK["models"], "train": {"netwrok": "panet"}}}
    assert complaint(written(tmp_path, tree)) == "models.train.netwrok: unknown key; did you mean 'network'?"


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    lines = complaint(written(tmp_path), "drawz=1", "draws=0", "image_size=big").splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["draws", "drawz", "image_size"]


# Values


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("draws=many", "draws"),
        ("draws=2.5", "draws"),
        ("draws=0", "draws"),
        ("shots=5", "shots"),
        ("shots=[]", "shots"),
        ("shots=[1, -1]", "shots.1"),
        ("methods.PANet.control=shuffled", "methods.PANet.control"),
        ("targets=[]", "targets"),
        ("image_size=16", "image_size"),
        ("name=../outside", "name"),
        ("encoder=resnet18", "encoder"),
        ("models.panet.train.learning_rate=0", "models.panet.train.learning_rate"),
        ("models.panet.train.precision=half", "models.panet.train.precision"),
        ("models.panet.train.scanner=own", "models.panet.train.scanner"),
        ("models.panet.train.episodes.n_shot=0", "models.panet.train.episodes.n_shot.0"),
        ("models.panet.train.episodes.n_shot=some", "models.panet.train.episodes.n_shot.0"),
        ("models.panet.train.episodes.n_shot=[1, 0]", "models.panet.train.episodes.n_shot.1"),
        ("models.panet.train.episodes.n_shot=[]", "models.panet.train.episodes.n_shot"),
        ("models.panet.output_stride=12", "models.panet.output_stride"),
        ("models.panet.levels=[]", "models.panet.levels"),
        ("methods={}", "methods"),
    ],
)
def test_a_wrong_value_names_its_key(tmp_path: Path, override: str, key: str) -> None:
    message = complaint(written(tmp_path), override)
    assert message.startswith(f"{key}: ")
    assert "\n" not in message


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    overrides = ["draws=3", "models.panet.train.learning_rate=1e-4", "models.panet.options.temperature=10", "shots=[2]"]
    config = load_config(written(tmp_path), BenchmarkConfig, overrides)
    model = config.models["panet"]
    assert model.train is not None
    assert (config.draws, config.shots, model.train.learning_rate) == (3, (2,), 1e-4)
    assert model.options == {"temperature": 10}
    assert model.train.steps == 10


def test_overrides_leave_the_given_tree_alone() -> None:
    tree = {"train": {"steps": 1}}
    assert parse_overrides(["train.steps=2"], tree) == {"train": {"steps": 2}}
    assert tree == {"train": {"steps": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("draws", "'draws': expected key=value, such as train.steps=100"),
        ("=3", "'=3': expected key=value, such as train.steps=100"),
        (
            "draws=[1",
            (
                "'draws=[1': the value is not YAML: while parsing a flow sequence, line 1, column 1"
                " did not find expected ',' or ']', line 2, column 1"
            ),
        ),
        ("draws.more=1", "'draws.more=1': draws is a value, it has no keys below it"),
    ],
)
def test_a_wrong_override_is_shown(tmp_path: Path, override: str, message: str) -> None:
    path = written(tmp_path, {**BENCHMARK, "draws": 5})
    assert complaint(path, override) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML: "),
        ("- a\n- b\n", "expected keys and values at the top level, found list"),
        ("", "expected keys and values at the top level, found NoneType"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    found = complaint(path)
    assert found.startswith(message)
    assert "\n" not in found


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    assert complaint(path).startswith("not YAML: ")


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(.+\); give the path of a YAML file"):
        load_config(tmp_path / name, BenchmarkConfig)


@pytest.mark.parametrize(("given", "written_as"), [(5, 5), ((5,), 5), ([1, 3, 5], [1, 3, 5])])
def test_shots_are_one_number_or_several(given: object, written_as: object) -> None:
    config = parse_config({"n_shot": given}, EpisodesConfig, "here")
    assert config.n_shot == (tuple(given) if isinstance(given, list | tuple) else (given,))
    plain = config.model_dump(mode="json")
    assert plain["n_shot"] == written_as
    assert parse_config(plain, EpisodesConfig, "here") == config


def test_zero_is_a_number_of_shots(tmp_path: Path) -> None:
    assert load_config(written(tmp_path), BenchmarkConfig, ["shots=[0, 1]"]).shots == (0, 1)


# What has to go together


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources=[bsui]", "sources: 'bsui' is not among busi, ours, linear"),
        ("targets=[theirs]", "targets: 'theirs' is not among busi, ours, linear"),
        ("sources=[busi, busi]", "sources: 'busi' is given twice"),
        ("shots=[1, 5, 1]", "shots: 1 is given twice"),
        (
            "models.panet.train.episodes.n_shot=[1, 5, 5]",
            "models.panet.train.episodes.n_shot: 5 is given twice",
        ),
        (
            "targets=[busi]",
            (
                "sources: none is left to train panet for busi, which must not be one itself; add another dataset, or"
                " set the model's trained_on to target"
            ),
        ),
        ("support_from=theirs", "support_from: 'theirs' is not among busi, ours, linear"),
        ("support_from=ours", "support_from: ours is a target; leave it out, or name another dataset"),
        ("shots=[1, 11]", "shots: 11 is more than draw_depth, 10"),
        ("methods.PANet.model=pannet", "methods: model: 'pannet' is not among panet"),
        (
            "methods.PANet.control=swapped",
            "methods: all of them are controls; add what they control, with `control: none`",
        ),
        ("models.panet.checkpoint=a.safetensors", "models.panet: give `train` or `checkpoint`, not both"),
        ("datasets.ours.root=null", "datasets.ours: give either `root`, the folder to read, or `phantom`"),
        ("datasets.linear.root=here", "datasets.linear: give either `root`, the folder to read, or `phantom`"),
        (
            "encoder.freeze_norm=true",
            "encoder: freeze_norm: random weights have no batch-norm statistics",
        ),
    ],
)
def test_what_does_not_go_together_is_explained(tmp_path: Path, override: str, message: str) -> None:
    assert complaint(written(tmp_path), override).startswith(message)


def test_masks_are_swapped_within_draws_of_at_least_two(tmp_path: Path) -> None:
    overrides = ["methods.control={method: prototypes, model: panet, control: swapped}", "shots=[1]"]
    assert load_config(written(tmp_path), BenchmarkConfig, [*overrides, "draw_depth=2"])
    message = complaint(written(tmp_path), *overrides, "draw_depth=1")
    assert message == "methods.control.control: swapped masks need a draw_depth of at least 2"


def test_a_training_needs_known_sources() -> None:
    tree = {"name": "mine", "datasets": BENCHMARK["datasets"], "sources": ["nowhere"], "train": {"steps": 1}}
    with pytest.raises(ConfigError, match=r"^here: sources: 'nowhere' is not among busi, ours, linear$"):
        parse_config(tree, TrainConfig, "here")


def test_the_network_s_part_of_a_benchmark_s_model(tmp_path: Path) -> None:
    model = load_config(written(tmp_path), BenchmarkConfig).models["panet"]
    assert model.network_only().model_dump() == {
        "network": "panet",
        "levels": (3,),
        "output_stride": 32,
        "pyramid": 0,
        "options": {},
    }


def test_frozen_norms_need_loaded_weights() -> None:
    assert EncoderConfig(weights="imagenet", freeze_norm=True).freeze_norm
    with pytest.raises(ValidationError, match="freeze_norm"):
        EncoderConfig(freeze_norm=True)


def test_sampled_episodes_have_one_number_of_shots() -> None:
    phantom = {"phantom": {"scanner": "linear"}}
    with pytest.raises(ValidationError, match=r"episodes.n_shot: 1, 3 is for training.*; give one number here"):
        SampleConfig(datasets={"linear": phantom}, episodes={"n_shot": [1, 3]})


def test_training_episodes_have_one_number_of_ways() -> None:
    mixed = {"classes": [["lesion"], ["benign", "malignant"]]}
    with pytest.raises(ValidationError, match="equally many ways; give tuples of one length"):
        TrainingConfig(steps=1, episodes=mixed)


# The four baselines' options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either `steps` or `epochs`"),
        ({"steps": 3, "epochs": 2}, "give either `steps` or `epochs`"),
        ({"epochs": 0}, "greater than or equal to 1"),
        (
            {"steps": 3, "learning_rate": 1e-3, "final_rate": 2e-3},
            "final_rate: 0.002 is more than learning_rate, 0.001",
        ),
        ({"steps": 3, "optimizer": "sgd"}, "'adamw' or 'adam'"),
        ({"steps": 3, "labels": []}, "at least 1 item"),
        ({"steps": 3, "balance": "patients"}, "'none' or 'labels'"),
        ({"steps": 3, "label_augmentation": {"cyst": "light"}}, "'normal', 'benign', 'malignant' or 'unknown'"),
    ],
)
def test_a_training_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(given)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "n_images", "n_processes", "steps"),
    [(1, 4, 8, 1, 2), (1, 4, 9, 1, 3), (3, 4, 9, 1, 7), (3, 4, 9, 2, 4), (1, 100, 9, 1, 1)],
)
def test_epochs_are_steps_enough_to_see_every_image_so_often(
    epochs: int, batch_size: int, n_images: int, n_processes: int, steps: int
) -> None:
    config = TrainingConfig(epochs=epochs, batch_size=batch_size).in_steps(n_images, n_processes)
    assert (config.n_steps, config.epochs) == (steps, None)
    assert steps * batch_size * n_processes >= epochs * n_images


def test_a_number_of_steps_stays_what_it_is() -> None:
    assert TrainingConfig(steps=5).in_steps(100, 2).n_steps == 5
    with pytest.raises(ValueError, match="depends on that of images"):
        _ = TrainingConfig(epochs=5).n_steps


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "plain", "weights": "imagenet"}, "weights: the plain encoder is trained from random weights"),
        ({"name": "resnet18", "options": {"width": 8}}, "options: those are of the plain encoder"),
        ({"frozen": 1}, "frozen: random weights are not worth keeping"),
        ({"name": "plain", "freeze_norm": True}, "freeze_norm: random weights have no batch-norm statistics"),
    ],
)
def test_encoder_options_that_do_not_go_together(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderConfig.model_validate(given)


@pytest.mark.parametrize("pyramid", [-8, 12])
def test_a_pyramid_has_eights_of_channels(pyramid: int) -> None:
    with pytest.raises(ValidationError, match="pyramid"):
        ModelConfig(pyramid=pyramid)


def test_a_test_and_a_validation_leave_something_to_train_on() -> None:
    tree = {"name": "mine", "datasets": BENCHMARK["datasets"], "sources": ["busi"]}
    half = {**tree, "test_share": 0.5, "train": {"steps": 1, "validation": {"share": 0.4}}}
    assert parse_config(half, TrainConfig, "here").test_share == 0.5
    whole = {**tree, "test_share": 0.5, "train": {"steps": 1, "validation": {"share": 0.5}}}
    with pytest.raises(ConfigError, match=r"test_share and train\.validation\.share: 1 leaves no images"):
        parse_config(whole, TrainConfig, "here")
