"""Checkpoints, states and weight files: safetensors that are damaged, or whose headers lie."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from baselines.encoders import Encoder, EncoderError
from fewshot.checkpoints import FORMAT, load_checkpoint, load_network, network_tensors, save_checkpoint
from fewshot.config.training import TrainingConfig
from fewshot.training.learner import Learner, fill_learner, save_learner
from tests.fewshot.small_networks import CPU, SMALL, small_network, train_config
from tests.fuzz.mutations import damaged, damaged_tree
from tests.fuzz.watched import fuzzing, require_read_or_refused

NETWORK = "published-unet"  # the smallest
# Networks that nothing here could hold, or that are no networks.
EVIL: tuple[dict[str, Any], ...] = (
    {"encoder": {"name": "plain", "options": {"width": 10**9}}},
    {"encoder": {"name": "plain", "options": {"width": 65_536}}},
    {"encoder": {"name": "vit_giant_patch14_clip_224"}},
    {"encoder": {"name": "hf-hub:timm/resnet18"}},
    {"encoder": {"name": "local-dir:/tmp"}},
    {"model": {"levels": [10**9]}},
    {"model": {"levels": [15]}},
    {"model": {"levels": list(range(15))}},
    {"model": {"pyramid": 65_536}},
    {"model": {"network": "timeit:timeit", "options": {"setup": "raise SystemExit"}}},
    {"model": {"network": "os:system"}},
    {"model": {"network": ":"}},
    {"model": {"network": ".relative:Class"}},
    {"model": {"network": "torch.nn:Module"}},
    {"model": {"network": "torch.nn:Linear", "options": {"out_features": 3}}},
    {"model": {"options": {"decoder_channels": [10**9, 10**9]}}},
    {"model": {"options": {"decoder_channels": [0, 0]}}},
    {"model": {"options": {"decoder_channels": [-8, -8]}}},
    {"model": {"options": {"decoder_channels": [8] * 100_000}}},
    {"image_size": 10**9},
    {"image_size": None},
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "checkpoint.safetensors"
    encoder, model = SMALL[NETWORK]
    facts = {"encoder": encoder.model_dump(mode="json"), "model": model.model_dump(mode="json"), "image_size": 64}
    save_checkpoint(path, network_tensors(small_network(NETWORK)), {**facts, "test_images": ["00c0"], "kept_step": 3})
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints") / "damaged.safetensors"


def header_of(content: bytes) -> dict[str, Any]:
    size = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    return header


def with_header(content: bytes, header: Any) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + size :]


def with_facts(content: bytes, change: Any) -> bytes:
    header = header_of(content)
    ours = json.loads(header["__metadata__"][FORMAT])
    header["__metadata__"][FORMAT] = json.dumps(change(ours))
    return with_header(content, header)


def require_sane(place: Path) -> bool:
    # A network that is unknown, or a constructor's options, are named by themselves.
    return require_read_or_refused(lambda: load_network(place), place, elsewhere=("network ", *SMALL_NAMES))


SMALL_NAMES = ("unet", "encoder ", "plain encoder", "panet", "torch.nn:", "mod:attr", "model.")


def test_the_file_is_read_as_it_is(whole: bytes, place: Path) -> None:
    place.write_bytes(whole)
    assert require_sane(place)


@fuzzing(150)
@given(st.data())
def test_damaged_bytes(whole: bytes, place: Path, data: st.DataObject) -> None:
    end = data.draw(st.sampled_from((400, 2_000, len(whole))))  # the header is small: most damage is to be there
    place.write_bytes(data.draw(damaged(whole[:end])) + whole[end:])
    require_sane(place)
    require_read_or_refused(lambda: load_checkpoint(place), place)


@fuzzing(100)
@given(st.data())
def test_a_header_that_lies_about_tensors(whole: bytes, place: Path, data: st.DataObject) -> None:
    place.write_bytes(with_header(whole, data.draw(damaged_tree(header_of(whole)))))
    require_sane(place)


@fuzzing(100)
@given(st.data())
def test_wrong_facts(whole: bytes, place: Path, data: st.DataObject) -> None:
    place.write_bytes(with_facts(whole, lambda ours: data.draw(damaged_tree(ours))))
    require_sane(place)


@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: json.dumps(evil)[:60])
def test_a_network_that_cannot_be(whole: bytes, place: Path, evil: dict[str, Any]) -> None:
    def change(ours: dict[str, Any]) -> dict[str, Any]:
        for key, value in evil.items():
            part = ours["facts"].get(key)
            ours["facts"][key] = {**part, **value} if isinstance(part, dict) else value
        return ours

    place.write_bytes(with_facts(whole, change))
    assert not require_sane(place)


@pytest.mark.parametrize("shape", [[10**9, 10**9], [2**63, 2], [-1, -8], [8, 1], [], [0], "8", [8.5]])
@pytest.mark.parametrize("offsets", [None, [0, 2**62], [4, 0], [-4, 4]])
def test_a_shape_that_the_file_has_no_bytes_for(whole: bytes, place: Path, shape: Any, offsets: Any) -> None:
    header = header_of(whole)
    name = min(name for name in header if name.startswith("network."))
    header[name]["shape"] = shape
    if offsets is not None:
        header[name]["data_offsets"] = offsets
    place.write_bytes(with_header(whole, header))
    assert not require_sane(place)


@fuzzing(75)
@given(st.data())
def test_damaged_states(place: Path, data: st.DataObject) -> None:
    content = saved_state(place)
    header = header_of(content)
    kind = data.draw(st.sampled_from(("bytes", "header", "facts")))
    if kind == "bytes":
        place.write_bytes(data.draw(damaged(content)))
    elif kind == "header":
        place.write_bytes(with_header(content, data.draw(damaged_tree(header))))
    else:
        place.write_bytes(with_facts(content, lambda ours: data.draw(damaged_tree(ours))))
    require_read_or_refused(lambda: fill_learner(fresh_learner(), place), place)


def fresh_learner() -> Learner:
    torch.manual_seed(0)
    config = TrainingConfig(**{**train_config(NETWORK).train.model_dump(), "average_decay": 0.9})
    return Learner.of(torch.nn.Linear(3, 2), config, CPU)


def saved_state(place: Path) -> bytes:
    learner = fresh_learner()
    learner.network(torch.ones(1, 3)).sum().backward()
    learner.optimizer.step()
    learner.best.step, learner.best.loss = 1, 0.5
    learner.best.tensors = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    save_learner(place, learner, 1, {"seed": 1})
    return place.read_bytes()


@fuzzing(75)
@given(st.data())
def test_damaged_weight_files(place: Path, data: st.DataObject) -> None:
    torch.manual_seed(0)
    own = Encoder("test_resnet").network.state_dict()
    content = save({name: tensor.contiguous() for name, tensor in own.items()})
    if data.draw(st.booleans()):
        content = with_header(content, data.draw(damaged_tree(header_of(content))))
    else:
        content = data.draw(damaged(content[:3_000])) + content[3_000:]
    place.write_bytes(content)
    require_read_or_refused(lambda: Encoder("test_resnet", weights=str(place)), place)


def test_weights_of_another_kind_are_refused(place: Path) -> None:
    own = Encoder("test_resnet").network.state_dict()
    place.write_bytes(save({name: tensor.contiguous().to(torch.int64) for name, tensor in own.items()}))
    with pytest.raises(EncoderError, match=r"is torch.int64, the encoder's is torch.float32"):
        Encoder("test_resnet", weights=str(place))
