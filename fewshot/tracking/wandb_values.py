"""What wandb shows: scores with intervals, tables, and images with masks laid over them."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import wandb

DICE = "lesion_dice"
LESION = {1: "lesion"}


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """What of the numbers is defined: neither None nor NaN."""
    return {name: value for name, value in values.items() if value is not None and not isnan(value)}


def overlay(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_], caption: str
) -> "wandb.Image":
    """An image whose true and predicted lesion can be switched on and off.

    Args:
        image: grey levels, (H, W).
        truth: where the lesion is, (H, W).
        prediction: where one is predicted, (H, W).
        caption: below it.
    """
    import wandb

    masks = {
        name: {"mask_data": mask.astype(np.uint8), "class_labels": LESION}
        for name, mask in (("truth", truth), ("prediction", prediction))
    }
    return wandb.Image(image, masks=masks, caption=caption)


def data_table(types: Mapping[str, type], rows: Sequence[Sequence[Any]]) -> "wandb.Table":
    """A table whose columns have known types; None where there is no value.

    Args:
        types: of the columns, by name.
        rows: values, one per column.
    """
    import wandb

    table = wandb.Table(columns=list(types), dtype=list(types.values()))
    # Adding row by row checks every value against types that are known here: half a second for 3000 queries.
    table.data = [list(row) for row in rows]
    return table
