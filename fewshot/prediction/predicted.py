"""One image as a model sees it, at the image's own size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from episodes.records import LABEL_VALUES, Label
from fewshot.benchmark.evaluation import lesion_masks
from fewshot.prediction.answers import Answers


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a lesion is seen, at some size.

    Attributes:
        mask: where it is more probable than not, (H, W).
        probability: of a lesion, in [0, 1], (H, W).
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a model predicts of an image.

    Attributes:
        mask: where it sees a lesion, (H, W) of the image's own size.
        probability: of a lesion, in [0, 1], (H, W).
        label_map: the mask with the more probable class of each pixel, values of `LABEL_VALUES`, (H, W); None of a
            model that does not tell lesions apart.
        labels: probability of what the whole image shows, by name; empty of a model that does not say.
        novelty: how unlike all training and support images it is; above 1, unlike 99 % of the training's own images
            were to those of other patients. None where that is not known.
        working: mask and probability at the working size, as the benchmark scores them.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    label_map: NDArray[np.uint8] | None
    labels: Mapping[str, float]
    novelty: float | None
    working: Seen


def predicted(answers: Answers, place: int, size: tuple[int, int]) -> Predicted:
    """What is said of one image of a batch, at its own size.

    Args:
        answers: about the batch.
        place: the image's in it.
        size: (H, W) of the image.
    """
    with torch.inference_mode():
        logits = answers.lesion[place : place + 1]
        working = _seen(logits)
        own = working if working.mask.shape == size else _seen(stretched(logits, size))
        label_map = None
        if answers.classes is not None:
            label_map = _label_map(stretched(answers.classes[place : place + 1], size), answers.class_names, own.mask)
        return Predicted(
            mask=own.mask,
            probability=own.probability,
            label_map=label_map,
            labels=dict(zip(answers.label_names, answers.labels[place].tolist(), strict=True)),
            novelty=None if answers.novelty is None else float(answers.novelty[place]),
            working=working,
        )


def stretched(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (1, classes, h, w) at another size, (1, classes, H, W)."""
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False, antialias=True)


def _seen(logits: Tensor) -> Seen:
    mask: NDArray[np.bool_] = lesion_masks(logits)[0].cpu().numpy()
    probability: NDArray[np.float32] = (1 - logits.softmax(1)[0, 0]).cpu().numpy()
    return Seen(mask, probability)


def _label_map(logits: Tensor, names: tuple[str, ...], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The more probable class wherever there is a lesion: each by itself may be less probable than background."""
    values = np.array([LABEL_VALUES[cast(Label, name)] for name in names], np.uint8)
    return np.where(mask, values[logits[0, 1:].argmax(0).cpu().numpy()], np.uint8(0))
