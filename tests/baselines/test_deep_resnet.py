"""The deeply supervised network: where its heads are, what they cost, and what it needs of a batch."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.deep_resnet import DeepResNet
from baselines.encoders import Encoder
from baselines.losses import label_map_loss
from episodes.errors import UserError


def small_network(levels: tuple[int, ...] = (0, 1, 2, 3), **options: Any) -> DeepResNet:
    given = {"decoder_channels": (32, 32, 16), "context_channels": 32, "atrous_rates": (1, 2), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeepResNet(Encoder("test_resnet", levels=levels), **given)


def random_batch(count: int = 2, size: int = 64, cell: int = 16, highest: int = 2) -> dict[str, Tensor]:
    """Label maps are even within cells, so that they can be made smaller without a doubt."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, highest + 1, (count, size // cell, size // cell), generator=generator)
    return {
        "images": torch.rand(count, 3, size, size, generator=generator),
        "label_maps": cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2),
        "labels": torch.zeros(count, dtype=torch.int64),
    }


def heads_of(network: DeepResNet) -> list[Tensor]:
    """A list that will hold what the auxiliary heads say from now on, deep to shallow."""
    said: list[Tensor] = []
    for head in network.auxiliary:
        head.register_forward_hook(lambda module, inputs, output: said.append(output))
    return said


def even(network: DeepResNet) -> Tensor:
    return torch.ones(1 + len(network.classes))


# Deep supervision


def test_heads_are_at_an_eighth_a_quarter_and_half_of_the_image() -> None:
    network = small_network().train()
    said = heads_of(network)
    network.loss(**random_batch(size=256))
    assert [tuple(logits.shape) for logits in said] == [(2, 3, 32, 32), (2, 3, 64, 64), (2, 3, 128, 128)]


def test_the_loss_is_the_final_one_and_the_weighted_heads() -> None:
    network, batch = small_network(auxiliary_weights=(0.1, 0.2, 0.7)).eval(), random_batch()
    said = heads_of(network)
    losses = network.loss(**batch)
    maps = batch["label_maps"]
    classes = network.predict(batch["images"]).classes
    final = label_map_loss(classes, maps, class_weights=even(network))
    heads = [
        label_map_loss(logits, maps[:, ::s, ::s], class_weights=even(network))
        for logits, s in zip(said, (8, 4, 2), strict=True)
    ]
    torch.testing.assert_close(losses["segmentation"], final)
    torch.testing.assert_close(losses["loss"], final + 0.1 * heads[0] + 0.2 * heads[1] + 0.7 * heads[2])
    assert losses.keys() == {"loss", "segmentation", "dice", "accuracy"}


def test_weights_of_zero_leave_the_heads_out() -> None:
    network = small_network(auxiliary_weights=(0.0, 0.0, 0.0)).eval()
    losses = network.loss(**random_batch())
    assert losses["loss"] == losses["segmentation"]
    losses["loss"].backward()
    assert not any(weight.grad.any() for weight in network.auxiliary.parameters() if weight.grad is not None)


def test_heads_are_taught_what_lies_in_the_middle_of_their_cells() -> None:
    """The lesion is in the middle of each 8x8 cell; the deepest head has to say lesion everywhere."""
    network, batch = small_network(auxiliary_weights=(1.0, 0.0, 0.0)).eval(), random_batch()
    inside = (torch.arange(64) % 8 - 3.5).abs() < 2
    batch["label_maps"] = (inside & inside.view(-1, 1)).long().expand(2, -1, -1)
    said = heads_of(network)
    losses = network.loss(**batch)
    expected = label_map_loss(said[0], torch.ones(2, 8, 8, dtype=torch.int64), class_weights=even(network))
    torch.testing.assert_close(losses["loss"] - losses["segmentation"], expected, rtol=1e-4, atol=1e-5)


def test_heads_are_silent_where_masks_are_asked_for() -> None:
    network = small_network().eval()
    said = heads_of(network)
    network.predict(random_batch()["images"])
    assert said == []


# What it predicts, and from what


@pytest.mark.parametrize("size", [(64, 64), (67, 45)])
def test_every_pixel_is_background_benign_or_malignant(size: tuple[int, int]) -> None:
    network, images = small_network().eval(), torch.rand(2, 3, *size)
    prediction = network.predict(images)
    assert prediction.classes.shape == (2, 3, *size)
    assert prediction.labels is None
    torch.testing.assert_close(network(images).sigmoid(), prediction.classes.softmax(1)[:, 1:].sum(1))


def test_context_and_attention_are_learned() -> None:
    network = small_network(decoder_channels=(128, 128, 128)).train()  # attention has a hidden unit per 16 of them
    network.loss(**random_batch())["loss"].backward()
    parts = [network.context, *(stage.attention for stage in network.stages)]
    assert all(weight.grad is not None and bool(weight.grad.any()) for part in parts for weight in part.parameters())


def test_the_kind_of_a_lesion_is_asked_for_where_it_is_known() -> None:
    network, batch = small_network().eval(), random_batch()
    exchanged = batch | {"label_maps": torch.tensor([0, 2, 1])[batch["label_maps"]]}
    unknown = batch | {"label_maps": (batch["label_maps"] > 0) * 3}
    assert network.loss(**batch)["segmentation"] != network.loss(**exchanged)["segmentation"]
    classes = network.predict(batch["images"]).classes
    expected = label_map_loss(classes, unknown["label_maps"], class_weights=even(network))
    torch.testing.assert_close(network.loss(**unknown)["segmentation"], expected)


def test_class_weights_and_focus_reach_the_loss() -> None:
    batch = random_batch()
    network = small_network(class_weights=(0.5, 1.0, 3.0), focal=True).eval()
    classes = network.predict(batch["images"]).classes
    weights = torch.tensor([0.5, 1.0, 3.0])
    expected = label_map_loss(classes, batch["label_maps"], class_weights=weights, focal=True)
    torch.testing.assert_close(network.loss(**batch)["segmentation"], expected)
    assert "class_weights" not in network.state_dict()


def test_benign_and_malignant_can_be_learned_by_heart() -> None:
    network = small_network(levels=(0, 1, 2), decoder_channels=(32, 16), auxiliary_weights=(0.3, 0.3)).train()
    batch = random_batch()
    batch["label_maps"] = torch.zeros(2, 64, 64, dtype=torch.int64)
    batch["label_maps"][0, 8:40, 8:40] = 1
    batch["label_maps"][1, 24:56, 24:56] = 2
    batch["images"] = 0.4 + 0.1 * batch["images"] + 0.25 * batch["label_maps"].unsqueeze(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(30):
        optimizer.zero_grad()
        network.loss(**batch)["loss"].backward()
        optimizer.step()
    predicted = network.predict(batch["images"]).classes.argmax(1)
    assert float((predicted == batch["label_maps"]).float().mean()) > 0.95


# What cannot be


def test_one_image_has_no_statistics_to_train_on() -> None:
    network, batch = small_network().train(), random_batch(count=1)
    with pytest.raises(UserError, match=r"deep-resnet: a batch of one image .* set train\.batch_size to 2 or more"):
        network.loss(**batch)


def test_one_image_will_do_where_the_statistics_are_kept() -> None:
    """As fine-tuning keeps them, and as in evaluation."""
    network, batch = small_network().train(), random_batch(count=1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert bool(network.loss(**batch)["loss"].isfinite())
    assert bool(network.eval().loss(**batch)["loss"].isfinite())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary_weights": (0.1, 0.2)}, "auxiliary_weights: 2 for 3 stages; give one for each"),
        ({"auxiliary_weights": (0.1, 0.2, -0.1)}, "must not be negative"),
        ({"class_weights": (1.0, -1.0, 1.0)}, "must not be negative"),
        ({"atrous_rates": (3, 0)}, r"atrous_rates: \(3, 0\); expected pixels from 1 up"),
        ({"decoder_channels": (16, 8), "auxiliary_weights": (0.1, 0.2)}, "decoder_channels: 2 stages for 4 encoder"),
        ({"levels": (2,), "decoder_channels": (), "auxiliary_weights": ()}, "expected at least two in `levels`"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_network(**options)
