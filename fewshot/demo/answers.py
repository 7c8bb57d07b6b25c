"""What a method makes of an image, with the first 0, 1, 2, ... of a session's support images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import UserError
from episodes.images.decoding import read_image
from episodes.sampling.episode import Support, image_tensor
from fewshot.demo.choices import Choice
from fewshot.demo.images import MEBIBYTE, Recent, RefusedError, StoredImage
from fewshot.devices import Batching
from fewshot.features import Features
from fewshot.inference import segmenter as told
from fewshot.inference.images import lesion_mask, resized_image, resized_mask
from fewshot.inference.out_of_distribution import Familiarity, describe
from fewshot.inference.segmenter import Predicted, Segmenter, predicted
from fewshot.methods.contract import EncodingMethod

# Of one session. An adapted network is as large as the network; features of an image are some megabytes.
FEATURE_BYTES, ADAPTED_BYTES, ANSWER_BYTES = 512 * MEBIBYTE, 512 * MEBIBYTE, 64 * MEBIBYTE

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One image and what a model predicts of it.

    Attributes:
        image: grey values, (H, W).
        found: the prediction, at the image's own size.
    """

    image: NDArray[np.uint8]
    found: Predicted


class Answers:
    """The answers of one session; features and adapted methods are kept as long as there is room.

    The same as `fewshot.inference.adaptable` gives for the same images, but for the rounding of batches of other sizes.
    """

    def __init__(self) -> None:
        self._features: Recent[Key, Features] = Recent(FEATURE_BYTES, adapted_bytes)
        self._segmenters: Recent[Key, Segmenter] = Recent(ADAPTED_BYTES, lambda one: adapted_bytes(one.adapted))
        self._answers: Recent[Key, Answer] = Recent(ANSWER_BYTES, _answer_bytes)

    def answer(self, choice: Choice, supports: Sequence[StoredImage], query: StoredImage) -> Answer:
        """Segment an image.

        Args:
            choice: by which method.
            supports: painted images to adapt to, in their order.
            query: the image.

        Raises:
            UserError: if the method needs more support images, or cannot use these.
        """
        if len(supports) < choice.fewest:
            raise RefusedError("this method needs a support image; add one and paint its lesion")
        used = supports if choice.method.uses_support else ()
        # What depends on no support image is one for all.
        key = (choice.id, *((support.id, support.revision) for support in used))
        segmenter = self._segmenters.get(key, lambda: self._adapted(choice, used))
        return self._answers.get((*key, query.id), lambda: self._answer(choice, segmenter, query))

    def _adapted(self, choice: Choice, supports: Sequence[StoredImage]) -> Segmenter:
        support = load_supports(supports, choice.image_size).to(choice.device) if supports else None
        if choice.encoder is None or support is None:
            return choice.model.adapt_to(support)
        with torch.inference_mode():
            parts = [self._encoded(choice, choice.encoder, image) for image in supports]
            levels = zip(*(part.levels for part in parts), strict=True)
            features = Features(tuple(torch.cat(level) for level in levels), parts[0].size)
            adapted = choice.encoder.adapt(support, features.unsqueeze())
            familiarity = choice.model.familiarity
            if familiarity is not None and _is_shared(familiarity, choice):
                familiarity = replace(familiarity, known=torch.cat([familiarity.known, describe(features.levels)]))
            elif familiarity is not None:
                familiarity = familiarity.joined_by(support.images.flatten(0, 1))
        batching = Batching(choice.device, 1)
        return Segmenter(choice.method, adapted, choice.image_size, choice.device, batching, familiarity)

    def _answer(self, choice: Choice, segmenter: Segmenter, query: StoredImage) -> Answer:
        image = read_image(query.path)
        if choice.encoder is None:
            return Answer(image, next(segmenter.predict_grey([image])))
        with torch.inference_mode():
            features = self._encoded(choice, choice.encoder, query, image)
            lesion = choice.encoder.segment(features, segmenter.adapted).float()
            novelty = None
            if segmenter.familiarity is not None:
                shared = _is_shared(segmenter.familiarity, choice)
                levels = features.levels if shared else segmenter.familiarity.encoder(_tensor(choice, image))
                novelty = segmenter.familiarity.novelty(levels)
            answers = told.Answers(lesion, None, (), lesion.new_zeros(1, 0), (), novelty)
        return Answer(image, predicted(answers, 0, query.size))

    def _encoded(
        self,
        choice: Choice,
        encoder: EncodingMethod,
        image: StoredImage,
        pixels: NDArray[np.uint8] | None = None,
    ) -> Features:
        """Features of an image; `pixels` are its grey values, where they are at hand."""

        def encode() -> Features:
            return encoder.encode(_tensor(choice, read_image(image.path) if pixels is None else pixels))

        return self._features.get((choice.checkpoint, image.id), encode)


def load_supports(supports: Sequence[StoredImage], image_size: int) -> Support:
    """Painted images as a support set of one way, stretched to the working size."""
    images = np.stack([resized_image(read_image(image.path), image_size) for image in supports])
    masks = np.stack([resized_mask(_painted(image), image_size) for image in supports])
    names = tuple(image.name for image in supports)
    lesions = torch.from_numpy(masks).float()
    return Support(image_tensor(images).unsqueeze(0), lesions.unsqueeze(0), (names,))


def _painted(image: StoredImage) -> NDArray[np.bool_]:
    if image.mask is None:
        raise UserError(f"{image.name}: nothing is painted; outline the lesion, or remove the image")
    return lesion_mask(image.mask, image.name)


def _tensor(choice: Choice, image: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) at the working size, on the device."""
    return image_tensor(np.stack([resized_image(image, choice.image_size)])).to(choice.device)


def _is_shared(familiarity: Familiarity, choice: Choice) -> bool:
    """Whether the method's features are those by which images are known again, so that they need no second pass."""
    return getattr(getattr(choice.method, "network", None), "encoder", None) is familiarity.encoder


def _answer_bytes(answer: Answer) -> int:
    return answer.image.nbytes + 2 * (answer.found.mask.nbytes + answer.found.probability.nbytes)


def adapted_bytes(adapted: Any) -> int:
    """The size of the tensors in whatever a method has adapted: networks, dataclasses, lists, tensors.

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
