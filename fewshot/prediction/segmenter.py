"""A method after it has adapted: it segments any images, of any size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.episode import image_tensor
from fewshot.data.images import Picture, grey_image, listed, picture_name, resized_image
from fewshot.memory.batching import Batching
from fewshot.memory.out_of_memory import within_memory
from fewshot.methods.contract import Method
from fewshot.prediction.answers import Answers, ask
from fewshot.prediction.familiarity import Familiarity
from fewshot.prediction.predicted import Predicted, predicted


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A method after it has adapted.

    Attributes:
        method: the method.
        adapted: what it took from its support set.
        image_size: working size.
        device: where it computes.
        batching: how many images it segments at once; fewer when memory runs out.
        familiarity: tells images that are unlike those of training and support; None where nothing is known.
    """

    method: Method
    adapted: Any
    image_size: int
    device: torch.device
    batching: Batching
    familiarity: Familiarity | None = None

    def masks(self, images: Iterable[Picture]) -> list[NDArray[np.bool_]]:
        """Where each image shows a lesion: boolean (H, W) of the image's own size.

        Args:
            images: as in `Adaptable.adapt`; they are read a few at a time.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        return [found.mask for found in self.predict(images)]

    def probabilities(self, images: Iterable[Picture]) -> list[NDArray[np.float32]]:
        """How probable a lesion is at each pixel: (H, W) in [0, 1], of the image's own size.

        Args:
            images: as in `masks`, which are set where the probability is above 0.5.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        return [found.probability for found in self.predict(images)]

    def predict(self, images: Iterable[Picture]) -> Iterator[Predicted]:
        """All that is said of each image, one after the other.

        Args:
            images: as in `masks`.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        waiting = enumerate(listed(images, "images"))
        while read := list(islice(waiting, self.batching.size)):
            yield from self.predict_grey([grey_image(image, picture_name("images", at, image)) for at, image in read])

    def predict_grey(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Predicted]:
        """As `predict`, of grey values (H, W) of any sizes.

        Raises:
            UserError: if memory does not suffice for a single one.
        """
        for batch, answers in self.batching.over(images, self._ask):
            for place, image in enumerate(batch):
                height, width = image.shape
                stretch = partial(predicted, answers, place, (height, width))
                yield within_memory(stretch, f"{self.device}, an image of {width} x {height} pixels")

    def _ask(self, images: Sequence[NDArray[np.uint8]]) -> Answers:
        pixels = image_tensor(np.stack([resized_image(image, self.image_size) for image in images]))
        return ask(self.method, self.adapted, pixels.to(self.device), self.familiarity)
