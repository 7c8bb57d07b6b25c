"""From record ids to tensors: hand-made episodes, and augmentation that is reproducible and loses no lesion."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from episodes.augment.random_scanner import rescan
from episodes.augment.transforms import Augmentation
from episodes.records import LABEL_VALUES
from episodes.sampling.episode import Support, class_mask, image_tensor, load_episode, load_support
from episodes.sampling.sampler import Class, EpisodeSampler, EpisodeSpec
from episodes.storage.store import Collection

BENIGN, MALIGNANT, UNKNOWN = (LABEL_VALUES[label] for label in ("benign", "malignant", "unknown"))


IMAGES = {"a": [[0, 51, 102], [153, 204, 255]], "b": [[255, 0, 0], [0, 0, 0]], "c": [[10] * 3, [20] * 3]}
LABEL_MAPS = {
    "a": [[0, BENIGN, BENIGN], [0, 0, 0]],
    "b": [[0, 0, 0], [MALIGNANT, 0, 0]],
    "c": [[BENIGN, MALIGNANT, UNKNOWN], [0, 0, 0]],
}


class HandMade:
    """Stands for a collection: images of 2x3 pixels by name."""

    def image(self, name: str) -> NDArray[np.uint8]:
        return np.array(IMAGES[name], np.uint8)

    def label_map(self, name: str) -> NDArray[np.uint8]:
        return np.array(LABEL_MAPS[name], np.uint8)


HAND_MADE: Collection = HandMade()  # type: ignore[assignment]


class CornerLesions(HandMade):
    """Lesions of two pixels in a corner, which many a rotation or shift would move out of the picture."""

    def image(self, name: str) -> NDArray[np.uint8]:
        return np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)

    def label_map(self, name: str) -> NDArray[np.uint8]:
        label_map = np.zeros((32, 32), np.uint8)
        label_map[0, 0], label_map[31, 31] = BENIGN, MALIGNANT
        return label_map


def spec(
    classes: tuple[Class, ...], support: Sequence[Sequence[str]], query: Sequence[str], index: int = 0
) -> EpisodeSpec:
    return EpisodeSpec(index, classes, tuple(map(tuple, support)), tuple(query))


# By hand


def test_a_one_way_episode_by_hand() -> None:
    episode = load_episode(HAND_MADE, spec(("lesion",), [["a", "b"]], ["c"]))
    assert episode.support_images.shape == (1, 2, 3, 2, 3)
    grey = torch.tensor([[0, 0.2, 0.4], [0.6, 0.8, 1]])
    torch.testing.assert_close(episode.support_images[0, 0], grey.expand(3, 2, 3))
    assert episode.support_masks.tolist() == [[[[0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]]]
    assert episode.query_images.shape == (1, 3, 2, 3)
    torch.testing.assert_close(episode.query_images[0, 1], torch.tensor([[10.0] * 3, [20.0] * 3]) / 255)
    assert episode.query_masks.tolist() == [[[1, 1, 1], [0, 0, 0]]]


def test_a_two_way_episode_by_hand() -> None:
    """A way's mask shows its own class; a query shows each way's index; an unknown lesion is neither."""
    episode = load_episode(HAND_MADE, spec(("malignant", "benign"), [["b"], ["c"]], ["c", "a"]))
    assert episode.support_images.shape == (2, 1, 3, 2, 3)
    assert episode.support_masks.tolist() == [[[[0, 0, 0], [1, 0, 0]]], [[[1, 0, 0], [0, 0, 0]]]]
    assert episode.query_masks.tolist() == [[[2, 1, 0], [0, 0, 0]], [[0, 2, 2], [0, 0, 0]]]


def test_a_class_alone_leaves_the_other_to_the_background() -> None:
    episode = load_episode(HAND_MADE, spec(("benign",), [["a"]], ["c"]))
    assert episode.query_masks.tolist() == [[[1, 0, 0], [0, 0, 0]]]


def test_types_and_the_support_set_alone() -> None:
    given = spec(("lesion",), [["a"]], ["b"])
    episode = load_episode(HAND_MADE, given)
    dtypes = [tensor.dtype for tensor in (episode.support_images, episode.support_masks, episode.query_images)]
    assert dtypes == [torch.float32] * 3
    assert episode.query_masks.dtype == torch.int64
    assert episode.spec is given
    assert episode.support == Support(episode.support_images, episode.support_masks, (("a",),))


def test_a_support_set_is_loaded_way_by_way() -> None:
    support = load_support(HAND_MADE, [["a", "c"], ["b", "c"]], ("benign", "malignant"))
    assert support.ids == (("a", "c"), ("b", "c"))
    assert support.images.shape == (2, 2, 3, 2, 3)
    assert support.masks.tolist() == [
        [[[0, 1, 1], [0, 0, 0]], [[1, 0, 0], [0, 0, 0]]],
        [[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]]],
    ]
    moved = support.to(torch.device("cpu"))
    assert moved.ids == support.ids


def test_classes_and_ways_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        load_support(HAND_MADE, [["a"], ["b"]], ("lesion",))


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5), (2, 3, 4, 5)])
def test_images_become_three_equal_channels(shape: tuple[int, ...]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = image_tensor(grey)
    assert images.shape == (*shape[:-2], 3, *shape[-2:])
    for channel in range(3):
        assert np.array_equal((images.select(-3, channel) * 255).round().numpy(), grey)
    assert images.untyped_storage().nbytes() == 4 * grey.size


@pytest.mark.parametrize(
    ("name", "expected"), [("lesion", [0, 1, 1, 1]), ("benign", [0, 1, 0, 0]), ("malignant", [0, 0, 1, 0])]
)
def test_class_masks(name: Class, expected: list[int]) -> None:
    assert class_mask(np.array([[0, BENIGN, MALIGNANT, UNKNOWN]], np.uint8), name).tolist() == [expected]


# On phantoms


def test_a_sampled_episode_shows_its_records(linear_phantoms: Collection) -> None:
    sampler = EpisodeSampler(linear_phantoms.records, n_shot=2, n_query=2, classes=(("lesion",),))
    for given in sampler.specs(0, 5):
        episode = load_episode(linear_phantoms, given)
        for shot, name in enumerate(given.support[0]):
            assert torch.equal(episode.support_images[0, shot], image_tensor(linear_phantoms.image(name).copy()))
            assert np.array_equal(episode.support_masks[0, shot].numpy(), linear_phantoms.label_map(name) > 0)
        for place, name in enumerate(given.query):
            assert np.array_equal(episode.query_masks[place].numpy(), linear_phantoms.label_map(name) > 0)


# Augmentation


def test_augmentation_depends_on_seed_episode_and_place_alone(linear_phantoms: Collection) -> None:
    names = [record.id for record in linear_phantoms.records if record.has_lesion]
    strong = Augmentation("strong")

    def pictures(index: int = 4, seed: int = 1) -> torch.Tensor:
        given = spec(("lesion",), [[names[0], names[0]]], [names[0]], index)
        episode = load_episode(linear_phantoms, given, strong, seed)
        return torch.cat([episode.support_images[0], episode.query_images])

    first = pictures()
    pictures(index=9)  # whatever is loaded in between
    assert torch.equal(pictures(), first)
    assert not torch.equal(pictures(index=5), first)
    assert not torch.equal(pictures(seed=2), first)
    assert len({picture.numpy().tobytes() for picture in first}) == 3  # one record at three places


def test_augmentation_moves_image_and_mask_together() -> None:
    class BrightLesions(HandMade):
        def image(self, name: str) -> NDArray[np.uint8]:
            return self.label_map(name) * np.uint8(100)

        def label_map(self, name: str) -> NDArray[np.uint8]:
            label_map = np.zeros((64, 64), np.uint8)
            label_map[20:40, 12:36] = MALIGNANT
            return label_map

    collection: Collection = BrightLesions()  # type: ignore[assignment]
    for index in range(10):
        episode = load_episode(collection, spec(("lesion",), [["a"]], ["b"], index), Augmentation("strong"))
        for image, mask in (
            (episode.support_images[0, 0, 0], episode.support_masks[0, 0]),
            (episode.query_images[0, 0], episode.query_masks[0]),
        ):
            bright = image > 0.2
            assert 2 * (bright & mask.bool()).sum() / (bright.sum() + mask.sum()) > 0.9


def test_no_lesion_is_lost() -> None:
    """Of what the augmentation alone would do to these pictures, a good part loses a lesion."""
    collection: Collection = CornerLesions()  # type: ignore[assignment]
    strong = Augmentation("strong")
    lost = 0
    for index in range(40):
        episode = load_episode(collection, spec(("benign", "malignant"), [["a"], ["b"]], ["c"], index), strong)
        assert bool(episode.support_masks.flatten(2).any(-1).all())
        assert episode.query_masks.unique().tolist() == [0, 1, 2]
        alone = strong(collection.image("a"), collection.label_map("a"), seed=index)[1]
        lost += len(np.unique(alone)) < 3
    assert lost > 10


def test_no_augmentation_and_strength_none_are_the_same(linear_phantoms: Collection) -> None:
    given = EpisodeSampler(linear_phantoms.records, n_shot=1)[3]
    plain, none = load_episode(linear_phantoms, given), load_episode(linear_phantoms, given, Augmentation("none"), 5)
    assert torch.equal(plain.support_images, none.support_images)
    assert torch.equal(plain.query_masks, none.query_masks)


# Scanners


class Flat(HandMade):
    """Tissue of one grey level with a lesion in it."""

    def image(self, name: str) -> NDArray[np.uint8]:
        return np.where(self.label_map(name) > 0, 40, 110).astype(np.uint8)

    def label_map(self, name: str) -> NDArray[np.uint8]:
        label_map = np.zeros((64, 64), np.uint8)
        label_map[20:40, 12:36] = MALIGNANT
        return label_map


FLAT: Collection = Flat()  # type: ignore[assignment]


def test_support_and_query_share_a_scanner_and_another_episode_has_another() -> None:
    within, brightness = [], []
    for index in range(30):
        episode = load_episode(FLAT, spec(("lesion",), [["a", "b"]], ["c"], index), seed=2, scanner="random")
        pictures = torch.cat([episode.support_images[0], episode.query_images])[:, 0]
        assert len({picture.numpy().tobytes() for picture in pictures}) == 3  # each its own speckle
        medians = pictures.flatten(1).median(dim=1).values * 255
        within.append(float(medians.max() - medians.min()))
        brightness.append(float(medians[0]))
    assert np.mean(within) < 6
    assert np.mean(np.abs(np.diff(brightness))) > 4 * np.mean(within)


def test_support_and_query_are_magnified_alike() -> None:
    sizes = []
    for index in range(20):
        episode = load_episode(FLAT, spec(("lesion",), [["a"]], ["b"], index), scanner="random")
        assert episode.support_masks.sum() == episode.query_masks.sum()
        sizes.append(int(episode.query_masks.sum()))
    assert min(sizes) < 480 < 1.3 * 480 < max(sizes)


def test_the_scanner_depends_on_seed_and_episode_alone() -> None:
    def pictures(index: int = 4, seed: int = 1) -> torch.Tensor:
        given = spec(("lesion",), [["a"]], ["b"], index)
        return load_episode(FLAT, given, Augmentation("strong"), seed, "random").query_images

    first = pictures()
    pictures(index=9)  # whatever is loaded in between
    assert torch.equal(pictures(), first)
    assert not torch.equal(pictures(index=5), first)
    assert not torch.equal(pictures(seed=2), first)


def test_the_scanner_sees_what_augmentation_made(linear_phantoms: Collection) -> None:
    name = next(record.id for record in linear_phantoms.records if record.has_lesion)
    given = spec(("lesion",), [[name]], [name], index=6)
    episode = load_episode(linear_phantoms, given, Augmentation("strong"), 3, "random")
    moved = load_episode(linear_phantoms, given, Augmentation("strong"), 3)
    images = [
        (images[0, 0] * 255).round().to(torch.uint8).numpy() for images in (*moved.support_images, moved.query_images)
    ]
    masks = [mask.to(torch.uint8).numpy() for mask in (moved.support_masks[0, 0], moved.query_masks[0])]
    (support, support_mask), (query, query_mask) = rescan(list(zip(images, masks, strict=True)), 3, 6)
    assert torch.equal(episode.support_images[0, 0], image_tensor(support))
    assert torch.equal(episode.query_images[0], image_tensor(query))
    assert np.array_equal(episode.support_masks[0, 0].numpy(), support_mask)
    assert np.array_equal(episode.query_masks[0].numpy(), query_mask)


def test_no_lesion_is_lost_to_a_scanner() -> None:
    collection: Collection = CornerLesions()  # type: ignore[assignment]
    for index in range(40):
        given = spec(("benign", "malignant"), [["a"], ["b"]], ["c"], index)
        episode = load_episode(collection, given, Augmentation("strong"), scanner="random")
        assert bool(episode.support_masks.flatten(2).any(-1).all())
        assert episode.query_masks.unique().tolist() == [0, 1, 2]


def test_images_are_shown_as_recorded_unless_asked_otherwise(linear_phantoms: Collection) -> None:
    given = EpisodeSampler(linear_phantoms.records, n_shot=1)[3]
    default, recorded = (
        load_episode(linear_phantoms, given, Augmentation("strong"), 5, *scanner) for scanner in ((), ("recorded",))
    )
    random = load_episode(linear_phantoms, given, Augmentation("strong"), 5, "random")
    assert torch.equal(default.support_images, recorded.support_images)
    assert not torch.equal(default.support_images, random.support_images)
