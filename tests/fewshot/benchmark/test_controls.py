"""Controls: which masks stand in for a support set's own, and which row is the one controlled."""

from typing import Any

import pytest
import torch
from torch import Tensor

from episodes.sampling.episode import Support, load_support
from episodes.storage.store import Collection
from fewshot.benchmark.tasks import control_masks, controlled_row, require_emptied_taken
from fewshot.config.benchmark import MethodConfig
from fewshot.config.parsing import ConfigError


@pytest.fixture
def draw(portable_phantoms: Collection) -> list[str]:
    """Four records with lesions."""
    return [record.id for record in portable_phantoms.records if record.has_lesion][:8:2]


def own_masks(collection: Collection, ids: list[str]) -> Tensor:
    return load_support(collection, [ids]).masks


# Masks


def test_nothing_is_controlled_without_a_control(portable_phantoms: Collection, draw: list[str]) -> None:
    assert control_masks(portable_phantoms, draw, 2, "none") is None


@pytest.mark.parametrize("n_shot", [1, 3, 4])
def test_emptied_masks_have_no_pixel(portable_phantoms: Collection, draw: list[str], n_shot: int) -> None:
    masks = control_masks(portable_phantoms, draw, n_shot, "emptied")
    assert masks is not None
    assert torch.equal(masks, torch.zeros(1, n_shot, 64, 64))


@pytest.mark.parametrize(("n_shot", "places"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 0])])
def test_swapped_masks_are_those_of_the_next_in_the_draw(
    portable_phantoms: Collection, draw: list[str], n_shot: int, places: list[int]
) -> None:
    masks = control_masks(portable_phantoms, draw, n_shot, "swapped")
    assert masks is not None
    assert torch.equal(masks, own_masks(portable_phantoms, [draw[place] for place in places]))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_swapped_masks_are_never_an_image_s_own(portable_phantoms: Collection, draw: list[str], depth: int) -> None:
    own = own_masks(portable_phantoms, draw)
    for n_shot in range(1, depth + 1):
        masks = control_masks(portable_phantoms, draw[:depth], n_shot, "swapped")
        assert masks is not None
        assert masks.shape == (1, n_shot, 64, 64)
        assert not any(torch.equal(masks[0, shot], own[0, shot]) for shot in range(n_shot))


def test_a_single_image_has_nothing_to_swap_with(portable_phantoms: Collection, draw: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two records"):
        control_masks(portable_phantoms, draw[:1], 1, "swapped")


# The row that is controlled


def test_a_control_belongs_to_the_row_that_is_the_same_in_everything_else() -> None:
    own: dict[str, Any] = {"method": "fine-tuned", "model": "unet", "options": {"steps": 20}}
    methods = {
        "other method": {**own, "method": "prototypes"},
        "other model": {**own, "model": "unet-2"},
        "other options": {**own, "options": {"steps": 21}},
        "control before": {**own, "control": "emptied"},
        "own": own,
        "control after": {**own, "control": "swapped"},
        "alone": {**own, "model": "unet-3", "control": "swapped"},
    }
    rows = {name: MethodConfig(**method) for name, method in methods.items()}
    found = {name: controlled_row(rows, name) for name in rows}
    assert {name: of for name, of in found.items() if of is not None} == {
        "control before": "own",
        "control after": "own",
    }


# Methods that refuse


class Picky:
    """Takes no more than a support set of which every mask is empty, or of which none is."""

    uses_support = True

    def __init__(self, wants_lesions: bool) -> None:
        self.wants_lesions = wants_lesions

    def adapt(self, support: Support | None) -> None:
        assert support is not None
        if bool(support.masks.any()) != self.wants_lesions:
            raise ValueError("the masks are not as I want them")

    def segment(self, images: Tensor, adapted: None) -> Tensor:
        return images


def test_a_method_that_refuses_emptied_masks_is_told_what_to_use(
    portable_phantoms: Collection, draw: list[str]
) -> None:
    support = load_support(portable_phantoms, [draw[:1]])
    require_emptied_taken(Picky(wants_lesions=False), support)
    message = r"^control: emptied masks are refused \(the masks are not as I want them\); use `swapped`$"
    with pytest.raises(ConfigError, match=message):
        require_emptied_taken(Picky(wants_lesions=True), support)
    assert support.masks.any()  # the given one is left alone
