"""Tuning on the support set: what is tuned, how far it goes, and the batches it sees."""

import numpy as np
import pytest
import torch
from torch import nn

from baselines.encoders import Encoder
from episodes.augment.transforms import Augmentation
from episodes.records import LABEL_VALUES
from episodes.sampling.episode import Support
from episodes.storage.store import Collection
from fewshot.config.parsing import ConfigError
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import TunedPrototypes
from fewshot.methods.tuning import SupportEpisodes, SupportImages, Tuning
from fewshot.panet.network import PANet
from tests.fewshot.small_networks import CPU, weights


@pytest.fixture
def sources(portable_phantoms: Collection) -> Sources:
    return Sources(portable_phantoms, portable_phantoms.records)


# The support set's batches


def test_without_augmentation_every_step_has_the_support_set_itself(five: Support) -> None:
    batches = SupportImages(five, Augmentation("none"), seed=0)
    for step in (0, 7):
        images, masks = batches.draw(step)
        torch.testing.assert_close(images, five.images[0])
        assert torch.equal(masks, five.masks[0])


def test_a_supervised_network_is_told_where_lesions_are_and_not_of_which_kind(five: Support) -> None:
    batch = SupportImages(five, Augmentation("none"), seed=0)[0]
    assert batch.keys() == {"images", "label_maps", "labels"}
    torch.testing.assert_close(batch["images"], five.images[0])
    assert torch.equal(batch["label_maps"], five.masks[0].long() * LABEL_VALUES["unknown"])
    assert batch["labels"].tolist() == [LABEL_VALUES["unknown"]] * 5
    assert batch["label_maps"].dtype == batch["labels"].dtype == torch.int64


def test_every_step_augments_anew_and_reproducibly(five: Support) -> None:
    batches = SupportImages(five, Augmentation("light"), seed=0)
    steps = [batches.draw(step) for step in (3, 4, 3)]
    assert torch.equal(steps[0][0], steps[2][0])
    assert torch.equal(steps[0][1], steps[2][1])
    assert not torch.equal(steps[0][0], steps[1][0])
    for images, masks in steps:
        assert images.shape == (5, 3, 64, 64)
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        assert set(np.unique(masks.numpy())) == {0, 1}


def test_batches_depend_on_seed_and_support_set(five: Support) -> None:
    one = SupportImages(five, Augmentation("light"), seed=0).draw(0)[0]
    assert not torch.equal(one, SupportImages(five, Augmentation("light"), seed=1).draw(0)[0])
    # Without its last image, the others are augmented otherwise: no support set is the beginning of another.
    four = Support(five.images[:, :4], five.masks[:, :4])
    assert not torch.equal(one[:4], SupportImages(four, Augmentation("light"), seed=0).draw(0)[0])


def test_episodes_ask_about_each_shot_in_turn_with_the_others_as_support(five: Support) -> None:
    batches = SupportEpisodes(five, Augmentation("none"), seed=0)
    for step in (0, 3, 8):
        asked = step % 5
        episode = batches[step]
        assert episode["support_images"].shape == (1, 1, 4, 3, 64, 64)
        torch.testing.assert_close(episode["query_images"][0, 0], five.images[0, asked])
        assert torch.equal(episode["query_masks"][0, 0], five.masks[0, asked].long())
        others = [shot for shot in range(5) if shot != asked]
        torch.testing.assert_close(episode["support_images"][0], five.images[:, others])


def test_a_single_shot_is_support_and_query_under_two_augmentations(five: Support) -> None:
    one = Support(five.images[:, :1], five.masks[:, :1])
    episode = SupportEpisodes(one, Augmentation("strong"), seed=0)[0]
    assert episode["support_images"].shape == (1, 1, 1, 3, 64, 64)
    assert not torch.equal(episode["support_images"][0, 0], episode["query_images"][0])


def test_two_ways_are_asked_about_together() -> None:
    masks = torch.zeros(2, 3, 32, 32)
    masks[:, :, 8:20, 8:20] = 1
    support = Support(
        torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3, -1, -1), masks
    )
    episode = SupportEpisodes(support, Augmentation("none"), seed=0)[1]
    assert episode["support_masks"].shape == (1, 2, 2, 32, 32)
    assert [int(mask.max()) for mask in episode["query_masks"][0]] == [1, 2]


# How far it goes


class Line(nn.Module):
    """One weight, whose loss falls as it grows; every step of AdamW moves it by the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def loss(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": -(self.weight * images).sum()}


def line_tuning(sources: Sources, prior_shots: float, steps: int = 1) -> Tuning:
    return Tuning(
        Ingredients(None, sources, CPU),
        steps=steps,
        learning_rate=0.5,
        weight_decay=0.0,
        augmentation="none",
        parts="all",
        prior_shots=prior_shots,
    )


def moved_by(tuning: Tuning, n_shot: int) -> float:
    """How far a line goes on so many shots; it is the same line afterwards."""
    network, support = Line(), Support(torch.zeros(1, n_shot, 3, 8, 8), torch.zeros(1, n_shot, 8, 8))
    tuned = tuning.tune(network, support, lambda *_: [{"images": torch.ones(1)}])
    assert float(network.weight.detach()) == 0
    assert not tuned.training
    return float(tuned.weight.detach())


@pytest.mark.parametrize(("n_shot", "prior_shots", "share"), [(1, 0.0, 1.0), (1, 2.0, 1 / 3), (6, 2.0, 0.75)])
def test_weights_move_by_the_share_of_the_shots(
    sources: Sources, n_shot: int, prior_shots: float, share: float
) -> None:
    assert moved_by(line_tuning(sources, prior_shots), n_shot) == pytest.approx(0.5 * share)


def test_trained_weights_worth_endless_shots_stay(sources: Sources) -> None:
    assert moved_by(line_tuning(sources, float("inf")), 5) == 0


@pytest.mark.parametrize(
    ("parts", "moved"), [("decoder", {"decoder"}), ("all", {"encoder", "decoder"}), ("norm", {"encoder", "decoder"})]
)
def test_only_the_chosen_parts_move(parts: str, moved: set[str], five: Support, sources: Sources) -> None:
    network = PANet(Encoder("resnet10t", levels=(0, 1), output_stride=8), decoder_channels=(16,))
    method = TunedPrototypes(Ingredients(network, sources, CPU), steps=2, parts=parts)  # type: ignore[arg-type]
    before = weights(network)
    after = weights(method.adapt(five)[0])
    changed = {name.split(".")[0] for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == moved


def test_wrong_options_are_named(sources: Sources) -> None:
    with pytest.raises(ConfigError, match="tuning options: steps"):
        line_tuning(sources, 2.0, steps=0)
    with pytest.raises(ValueError, match=r"^prior_shots is -1\.0; expected 0 or more$"):
        line_tuning(sources, -1.0)
