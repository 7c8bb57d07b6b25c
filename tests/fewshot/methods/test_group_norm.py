"""Encoders whose batch norms become group norms: the rest of the network stays, and no batch statistics are left."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from baselines.encoders import Encoder
from fewshot.config.parsing import ConfigError
from fewshot.methods.maml import without_batch_statistics


def batch_norms(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])  # norms alone, and with an activation inside
def test_no_batch_norm_is_left_and_an_image_does_not_depend_on_its_batch(name: str) -> None:
    encoder = without_batch_statistics(Encoder(name, levels=(0, 2)))
    assert not batch_norms(encoder)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = encoder.train()(images)[-1], encoder.eval()(images[:1])[-1]
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_weights_epsilon_and_activation_are_taken_over() -> None:
    norm = BatchNormAct2d(12, eps=0.01, act_layer=nn.Tanh)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    holder: Any = nn.Module()
    holder.norm = norm
    replaced: nn.Module = without_batch_statistics(holder).norm
    maps: Tensor = torch.rand(2, 12, 5, 5)
    expected = F.group_norm(maps, 4, norm.weight, norm.bias, eps=0.01).tanh()  # 4 divides both 8 and 12
    torch.testing.assert_close(replaced(maps), expected)


def test_frozen_batch_norms_stay() -> None:
    encoder = Encoder("resnet10t", freeze_norm=True)
    norms = batch_norms(encoder)
    assert norms
    assert batch_norms(without_batch_statistics(encoder)) == norms


def test_pretrained_statistics_are_not_thrown_away() -> None:
    encoder = Encoder("resnet10t")
    batch_norms(encoder)[3].running_mean.fill_(0.1)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"^encoder.freeze_norm: .*; set it to true$"):
        without_batch_statistics(encoder)
