"""ResNets against timm's own."""

import pytest
import timm
import torch

from baselines.resnet import PARTS, RESNETS, ResNet


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("levels", "output_stride"), [((0, 1, 2, 3, 4), 32), ((1, 3), 16), ((2, 4), 8), ((3,), 8)])
def test_weights_maps_and_gradients_are_timm_s(name: str, levels: tuple[int, ...], output_stride: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        reference = timm.create_model(name, features_only=True, out_indices=levels, output_stride=output_stride)
        then = torch.get_rng_state()
        torch.manual_seed(3)
        own = ResNet(name, levels, output_stride)
        assert torch.equal(torch.get_rng_state(), then)
    expected = reference.state_dict()
    assert list(own.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in own.state_dict().items())
    assert own.channels == tuple(reference.feature_info.channels())
    assert own.strides == tuple(reference.feature_info.reduction())
    for network in (own, reference):
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)  # else what blocks add is 0
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    for training in (True, False):
        found, maps = (network.train(training)(images) for network in (own, reference))
        assert [tuple(one.shape) for one in found] == [tuple(one.shape) for one in maps]
        assert all(torch.equal(one, other) for one, other in zip(found, maps, strict=True))
        sum(level.square().mean() for level in found).backward()
        sum(level.square().mean() for level in maps).backward()
    gradients = [{key: weight.grad for key, weight in network.named_parameters()} for network in (own, reference)]
    assert all(
        other is not None and torch.equal(gradients[0][key], other)
        for key, other in gradients[1].items()
        if gradients[0][key] is not None or other is not None
    )


@pytest.mark.parametrize("name", sorted(set(RESNETS) - {"resnet18", "resnet50"}))
def test_deeper_ones_have_timm_s_tensors(name: str) -> None:
    with torch.device("meta"):
        own, reference = ResNet(name, (4,)), timm.create_model(name, features_only=True, out_indices=(4,))
    assert {key: tensor.shape for key, tensor in own.state_dict().items()} == {
        key: tensor.shape for key, tensor in reference.state_dict().items()
    }
    assert tuple(level["module"] for level in reference.feature_info.info) == PARTS
