"""Controls: support sets whose masks say nothing, to see whether a method reads them at all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from episodes.episode import Support, load_support
from episodes.errors import UserError
from episodes.store import Collection
from fewshot.config import Control, MethodConfig
from fewshot.methods.contract import Method
from fewshot.parsing import ConfigError


def control_masks(collection: Collection, draw: Sequence[str], n_shot: int, control: Control) -> Tensor | None:
    """The masks that a control shows in place of those of a draw's first `n_shot` records.

    Args:
        collection: holds the records' pixels.
        draw: ordered ids of the draw's support records, all of different images; longer than `n_shot` or not.
        n_shot: how many of them are the support set.
        control: `emptied` for masks without a lesion; `swapped` for the mask of the next record of the draw, and of
            the first one for the last, so that no image has its own and a single shot can be swapped as well.

    Returns:
        (1, n_shot, H, W), 0 or 1; None where nothing is controlled.

    Raises:
        ValueError: if there is no other record to swap with.
    """
    if control == "none":
        return None
    if control == "emptied":
        return torch.zeros_like(load_support(collection, [draw[:n_shot]]).masks)
    if len(draw) < 2:
        raise ValueError("swapped masks need a draw of at least two records")
    following = [*draw[1:], draw[0]]
    return load_support(collection, [following[:n_shot]]).masks


def controlled_row(methods: Mapping[str, MethodConfig], row: str) -> str | None:
    """The row that a control is to be compared with: the same in everything but the control; None without one."""
    if methods[row].control == "none":
        return None
    same = methods[row].model_copy(update={"control": "none"})
    return next((name for name, method in methods.items() if method == same), None)


def require_emptied_taken(method: Method, support: Support) -> None:
    """Empty a support set's masks and adapt to it: any will do to see whether a method refuses.

    Raises:
        ConfigError: if it does.
    """
    emptied = replace(support, masks=torch.zeros_like(support.masks))
    try:
        with torch.inference_mode():
            method.adapt(emptied)
    except (ValueError, UserError) as error:
        raise ConfigError(f"control: emptied masks are refused ({error}); use `swapped`") from error
