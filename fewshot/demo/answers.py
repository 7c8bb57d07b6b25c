"""Predictions of a session's images by a method, with the first 0, 1, 2, ... of its support images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import UserError
from episodes.images.decoding import read_image, stretch_image
from episodes.sampling.episode import Support, image_tensor
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import MEBIBYTE, Recent, RefusedError, StoredImage, painted_mask
from fewshot.features import Features
from fewshot.inference.predictor import ImagePrediction, Predictor
from fewshot.inference.support import build_support

# Of one session. An adapted network is as large as the network; features of an image are some megabytes.
FEATURE_BYTES, ADAPTED_BYTES, PREDICTION_BYTES = 512 * MEBIBYTE, 512 * MEBIBYTE, 64 * MEBIBYTE

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class QueryPrediction:
    """One image and what a model predicts of it."""

    image: NDArray[np.uint8]  # grey values, (H, W)
    found: ImagePrediction  # the prediction, at the image's own size


class SessionPredictions:
    """The predictions of one session; features and adapted methods are kept as long as there is room.

    The same as `fewshot.api` gives for the same images, but for the rounding of batches of other sizes.
    """

    def __init__(self) -> None:
        self._features: Recent[Key, Features] = Recent(FEATURE_BYTES, adapted_bytes)
        self._predictors: Recent[Key, Predictor] = Recent(
            ADAPTED_BYTES, lambda one: adapted_bytes([member.adapted for member in one.members])
        )
        self._predictions: Recent[Key, QueryPrediction] = Recent(
            PREDICTION_BYTES, lambda one: one.image.nbytes + 2 * (one.found.mask.nbytes + one.found.probability.nbytes)
        )

    def predict(self, choice: MethodChoice, supports: Sequence[StoredImage], query: StoredImage) -> QueryPrediction:
        """Segment an image.

        The painted images to adapt to are given in their order.

        Raises:
            UserError: if the method needs more support images, or cannot use these.
        """
        if len(supports) < choice.fewest:
            raise RefusedError("this method needs a support image; add one and paint its lesion")
        used = supports if choice.model.method.uses_support else ()
        # What depends on no support image is one for all.
        key = (choice.id, *((support.id, support.revision) for support in used))
        predictor = self._predictors.get(key, lambda: self._adapt(choice, used))
        return self._predictions.get((*key, query.id), lambda: self._predict(choice, predictor, query))

    def _adapt(self, choice: MethodChoice, supports: Sequence[StoredImage]) -> Predictor:
        support = load_supports(supports, choice.model.image_size) if supports else None
        if choice.encoder is None or support is None:
            return choice.model.adapt(support)
        size = (choice.model.image_size, choice.model.image_size)
        with torch.inference_mode():
            parts = []
            for image in supports:
                pixels = image_tensor(np.stack([stretch_image(read_image(image.path), size)])).to(choice.model.device)
                parts.append(self._encode(choice, image, pixels))
        levels = zip(*(part.levels for part in parts), strict=True)
        return choice.model.adapt(support, Features(tuple(torch.cat(level) for level in levels), parts[0].size))

    def _predict(self, choice: MethodChoice, predictor: Predictor, query: StoredImage) -> QueryPrediction:
        image = read_image(query.path)
        encode = None if choice.encoder is None else partial(self._encode, choice, query)
        return QueryPrediction(image, next(predictor.predict_images([image], encode)))

    def _encode(self, choice: MethodChoice, image: StoredImage, pixels: Tensor) -> Features:
        """Return the features of an image, whose pixels (1, 3, H, W) are encoded unless it was done before."""
        encoder = choice.encoder
        assert encoder is not None  # noqa: S101 - only then are there features
        return self._features.get((choice.checkpoint, image.id), lambda: encoder.encode(pixels))


def load_supports(supports: Sequence[StoredImage], image_size: int) -> Support:
    """Load painted images as a support set of one way, stretched to the working size."""
    images, masks = [read_image(image.path) for image in supports], [_painted(image) for image in supports]
    return build_support(images, masks, [image.name for image in supports], image_size)


def _painted(image: StoredImage) -> NDArray[np.bool_]:
    if image.mask is None:
        raise UserError(f"{image.name}: nothing is painted; outline the lesion, or remove the image")
    return painted_mask(image.mask)


def adapted_bytes(adapted: Any) -> int:
    """Return the size of the tensors in whatever a method has adapted: networks, dataclasses, lists, tensors.

    >>> adapted_bytes([torch.zeros(3), nn.Linear(2, 1)])
    24
    """
    if isinstance(adapted, Tensor):
        return adapted.nbytes
    if isinstance(adapted, nn.Module):
        return sum(tensor.nbytes for tensor in chain(adapted.parameters(), adapted.buffers()))
    if isinstance(adapted, dict):
        return sum(map(adapted_bytes, adapted.values()))
    if isinstance(adapted, list | tuple):
        return sum(map(adapted_bytes, adapted))
    fields = getattr(type(adapted), "__dataclass_fields__", ())
    return sum(adapted_bytes(getattr(adapted, name)) for name in fields)
