"""Fine-tuning: what is trained, on which pictures, and that it helps on another scanner."""

import pytest
import torch

from episodes.augment.transforms import Augmentation
from episodes.errors import UserError
from episodes.sampling.episode import Support, load_support
from episodes.storage.store import Collection
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.supervised import FineTuned, ZeroShot
from fewshot.methods.tuning import SupportImages
from tests.fewshot.conftest import Trained
from tests.fewshot.small_networks import CPU, assert_same_weights, small_network, weights


def ingredients(network: torch.nn.Module, collection: Collection, seed: int = 0) -> Ingredients:
    return Ingredients(network, Sources(collection, collection.records), CPU, seed)


def loss(network: torch.nn.Module, support: Support) -> float:
    with torch.inference_mode():
        return float(network.loss(**SupportImages(support, Augmentation("none"), seed=0)[0])["loss"])


# Fine-tuning


def test_fine_tuning_on_five_images_lowers_the_loss_on_that_scanner(
    trained_unet: Trained, portable_phantoms: Collection, five: Support
) -> None:
    others = [r.id for r in portable_phantoms.records if r.has_lesion and r.id not in five.ids[0]]
    unseen = load_support(portable_phantoms, [others])
    method = FineTuned(ingredients(trained_unet.network, portable_phantoms), steps=20, learning_rate=1e-3)
    adapted = method.adapt(five)
    assert not adapted.training
    assert loss(adapted, five) < 0.95 * loss(trained_unet.network, five)
    assert loss(adapted, unseen) < loss(trained_unet.network, unseen)


def test_zero_shot_is_the_network_as_it_is(trained_unet: Trained, portable_phantoms: Collection, five: Support) -> None:
    method = ZeroShot(ingredients(trained_unet.network, portable_phantoms))
    with torch.inference_mode():
        logits = method.segment(five.images[0], method.adapt(five))
        expected = trained_unet.network(five.images[0])
    torch.testing.assert_close(logits.softmax(1)[:, 1], expected.sigmoid())


@pytest.mark.parametrize("parts", ["all", "decoder"])
def test_the_chosen_parts_are_trained(
    parts: str, trained_unet: Trained, portable_phantoms: Collection, five: Support
) -> None:
    method = FineTuned(ingredients(trained_unet.network, portable_phantoms), steps=2, parts=parts)  # type: ignore[arg-type]
    adapted, before = weights(method.adapt(five)), weights(trained_unet.network)
    changed = {name.split(".")[0] for name, tensor in adapted.items() if not torch.equal(tensor, before[name])}
    assert changed == ({"encoder", "stages", "head"} if parts == "all" else {"stages", "head"})


@pytest.mark.parametrize("parts", ["all", "decoder"])
def test_batch_norm_statistics_stay(
    parts: str, trained_unet: Trained, portable_phantoms: Collection, five: Support
) -> None:
    method = FineTuned(ingredients(trained_unet.network, portable_phantoms), steps=2, parts=parts)  # type: ignore[arg-type]
    adapted, before = weights(method.adapt(five)), weights(trained_unet.network)
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(adapted[name], before[name]) for name in statistics)


def test_fine_tuning_depends_on_its_seed(trained_unet: Trained, portable_phantoms: Collection, five: Support) -> None:
    adapted = [
        weights(FineTuned(ingredients(trained_unet.network, portable_phantoms, seed), steps=2).adapt(five))
        for seed in (0, 0, 1)
    ]
    assert_same_weights(adapted[0], adapted[1])
    assert any(not torch.equal(tensor, adapted[2][name]) for name, tensor in adapted[0].items())


def test_a_network_built_under_inference_mode_can_be_fine_tuned(portable_phantoms: Collection, five: Support) -> None:
    """As the benchmark does, which evaluates everything under inference mode."""
    with torch.inference_mode():
        network = small_network("unet").eval()
        support = Support(five.images.clone(), five.masks.clone(), five.ids)
        adapted = FineTuned(ingredients(network, portable_phantoms), steps=1).adapt(support)
        assert bool(adapted(support.images[0]).isfinite().all())
        assert any(not torch.equal(weight, adapted.state_dict()[name]) for name, weight in weights(network).items())


@pytest.mark.parametrize(
    "name", ["unet", "multitask-unet", "deep-resnet", "pyramid-panet", "published-unet", "plain-multitask-unet"]
)
def test_every_supervised_network_is_fine_tuned_on_a_single_image(
    name: str, portable_phantoms: Collection, five: Support
) -> None:
    """Of which batch norms would have no statistics, and of whose lesion the kind is unknown."""
    network = small_network(name).eval()
    before = weights(network)
    one = Support(five.images[:, :1], five.masks[:, :1])
    method = FineTuned(ingredients(network, portable_phantoms), steps=4, learning_rate=1e-3, augmentation="none")
    adapted = method.adapt(one)
    with torch.inference_mode():
        assert bool(method.segment(five.images[0], adapted).isfinite().all())
    assert loss(adapted, one) < loss(network, one)
    assert_same_weights(weights(network), before)


def test_statistics_of_a_single_image_are_refused_where_there_are_none(
    portable_phantoms: Collection, five: Support
) -> None:
    """The deep ResNet's context averages every image to one pixel."""
    network = small_network("deep-resnet").eval()
    method = FineTuned(ingredients(network, portable_phantoms), steps=1, batch_norm="adapted")
    with pytest.raises(UserError, match="where a single image is fine-tuned on, batch_norm to kept"):
        method.adapt(Support(five.images[:, :1], five.masks[:, :1]))
    two = method.adapt(Support(five.images[:, :2], five.masks[:, :2]))
    statistics = [name for name in weights(network) if "running" in name]
    assert any(not torch.equal(two.state_dict()[name], weights(network)[name]) for name in statistics)
