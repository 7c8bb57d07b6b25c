"""Methods of a prototype network: as it is, from sources alone, or tuned on the support set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from episodes.errors import DatasetError
from episodes.sampling.episode import Support, load_support
from fewshot.features import Features
from fewshot.methods.contract import Ingredients
from fewshot.methods.tuning import SupportEpisodes, Tuning
from fewshot.panet.network import Adapted, PANet


@contextmanager
def naming_support(support: Support) -> Iterator[None]:
    """Name the records of a support set that a network cannot use.

    Raises:
        DatasetError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise DatasetError(f"support set {', '.join(chain(*support.ids))}: {error}") from error


class SupportPrototypes:
    """Segment by the prototypes of the support set; without one, by the network's prior if it has one."""

    uses_support = True

    def __init__(self, ingredients: Ingredients) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        self.encode = self.network.encode
        self.join = self.network.join if self.network.joins_images else None

    @property
    def needs_support(self) -> bool:
        """Tell whether the network has no prior, with which it can do without a support set."""
        return not self.network.has_prior

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """Compute the support set's prototypes, or return the network's prior.

        Raises:
            DatasetError: if a mask is empty, and there is no prior to stand in, or covers its whole image.
            ValueError: if there is neither a support set nor a prior.
        """
        if support is None:
            return self.network.adapt(None)
        with naming_support(support):
            return self.network.adapt(support, features)

    def segment(self, images: Tensor | Features, adapted: Adapted) -> Tensor:
        """Compute logits (n, 1 + n_way, H, W)."""
        return self.network.segment(images, adapted)


class SourcePrototypes:
    """A few-shot network whose support set are source images with a lesion, evenly spread over all of them.

    The row, without any target image, against which any claim of few-shot learning has to be made.
    """

    uses_support = False

    def __init__(self, ingredients: Ingredients, *, n_images: int = 200) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        self.encode = self.network.encode
        self.sources = ingredients.sources
        self.device = ingredients.device
        self.n_images = n_images

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """Compute the sources' prototypes, whatever the support set."""
        del support, features
        records = self.sources.lesions()
        count = min(self.n_images, len(records))
        chosen = [records[place * len(records) // count].id for place in range(count)]
        pooled = load_support(self.sources.collection, [chosen]).to(self.device)
        # One by one, and no level that is not matched: all of them at once would fill the memory.
        matched = self._matched(pooled.images[0, :1]).room(count)
        for place, image in enumerate(pooled.images[0]):
            matched.put(place, self._matched(image.unsqueeze(0)))
        return self.network.adapt(pooled, matched.unsqueeze())

    def _matched(self, images: Tensor) -> Features:
        return self.network.encode(images).last(self.network.matched_levels)

    def segment(self, images: Tensor | Features, adapted: Adapted) -> Tensor:
        """Compute logits (n, 2, H, W)."""
        return self.network.segment(images, adapted)


@dataclass(eq=False)
class TunedPrototypes(Tuning):
    """Tune a copy of the network on episodes made of the support set alone, then segment by its prototypes.

    At 5 shots each image is in turn the query of an episode whose support are the other four; at 1 shot the image is
    both, under two augmentations. Unlike prototypes, a tuned network needs every query encoded anew. The options are
    those of `Tuning`; a step is one episode.
    """

    uses_support: ClassVar[bool] = True
    name: ClassVar[str] = "tuned-prototypes"

    def __post_init__(self) -> None:
        self.network: PANet = self.ingredients.require_network(PANet)
        super().__post_init__()

    def adapt(self, support: Support | None) -> tuple[PANet, Adapted]:
        """Return the tuned network and its prototypes; the same for the same support set.

        Raises:
            DatasetError: if a mask is empty, and there is no prior to stand in, or covers its whole image.
        """
        if support is None:
            raise ValueError("tuning needs a support set")
        with naming_support(support):
            network = self.tune(self.network, support, SupportEpisodes)
        with torch.inference_mode():
            return network, network.adapt(support)

    def segment(self, images: Tensor, adapted: tuple[PANet, Adapted]) -> Tensor:
        """Compute logits (n, 1 + n_way, H, W)."""
        network, prototypes = adapted
        return network.segment(images, prototypes)
