"""What the page offers of the checkpoints that it is given."""

from pathlib import Path

import pytest
import torch
from torch import nn

from episodes.errors import UserError
from fewshot.demo.answers import adapted_bytes
from fewshot.demo.choices import MethodChoice, load_choices
from fewshot.panet.network import Prototypes
from tests.fewshot.small_networks import small_network


def test_every_method_that_goes_with_a_checkpoint_is_offered_its_own_first(choices: list[MethodChoice]) -> None:
    offered = {title: [each.model.name for each in choices if each.title == title] for title in ("panet", "unet")}
    assert offered == {"panet": ["prototypes", "tuned-prototypes"], "unet": ["zero-shot", "fine-tuned"]}
    assert len({choice.id for choice in choices}) == len(choices) == 6


def test_how_many_support_images_a_method_takes(by_name: dict[str, MethodChoice]) -> None:
    takes = {name: (choice.fewest, choice.as_json()["most"]) for name, choice in by_name.items()}
    assert takes == {
        "prior prototypes": (0, None),
        "prior tuned-prototypes": (1, None),
        "panet prototypes": (1, None),
        "panet tuned-prototypes": (1, None),
        "unet zero-shot": (0, 0),
        "unet fine-tuned": (1, None),
    }


def test_a_missing_checkpoint_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 100)
    for name in ("none.safetensors", "bad.safetensors"):
        with pytest.raises(UserError, match=name):
            load_choices([tmp_path / name], "cpu")


def test_the_size_of_what_is_adapted_counts_every_tensor() -> None:
    network = small_network("unet")
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert weights <= adapted_bytes(network) < 1.01 * weights  # buffers that no file holds are tensors as well
    assert adapted_bytes((Prototypes(torch.zeros(2, 3)), [nn.Linear(1, 1), None])) == 24 + 8
