"""PANet as a method: prototypes from the support set, or from the sources without any target image."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import Tensor

from episodes.episode import Support, load_support
from episodes.errors import DatasetError
from fewshot.features import Features
from fewshot.methods.contract import Ingredients
from fewshot.panet.multilevel import Adapted
from fewshot.panet.network import PANet


@contextmanager
def naming_support(support: Support) -> Iterator[None]:
    """What a network cannot do with a support set names its records.

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

    @property
    def needs_support(self) -> bool:
        """Whether the network has no prior, with which it can do without a support set."""
        return not self.network.has_prior

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """The support set's prototypes, or the network's prior.

        Raises:
            DatasetError: if a mask is empty, and there is no prior to stand in, or covers its whole image.
            ValueError: if there is neither a support set nor a prior.
        """
        if support is None:
            return self.network.adapt(None)
        with naming_support(support):
            return self.network.adapt(support, features)

    def segment(self, images: Tensor | Features, adapted: Adapted) -> Tensor:
        """Logits (n, 1 + n_way, H, W)."""
        return self.network.segment(images, adapted)


class SourcePrototypes:
    """Segment with source images as the support set: the same network, and no target image at all.

    The row against which any claim of few-shot learning has to be made.

    Args:
        ingredients: with a PANet.
        n_images: of the sources' lesion images, evenly spread over them, to adapt to.
    """

    uses_support = False

    def __init__(self, ingredients: Ingredients, *, n_images: int = 200) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        self.encode = self.network.encode
        self.sources = ingredients.sources
        self.device = ingredients.device
        self.n_images = n_images

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """The sources' prototypes, whatever the support set."""
        del support, features
        records = self.sources.lesions()
        count = min(self.n_images, len(records))
        chosen = [records[place * len(records) // count].id for place in range(count)]
        pooled = load_support(self.sources.collection, [chosen]).to(self.device)
        # One by one, and no level that is not matched: all of them at once would fill the memory.
        matched = self._matched(pooled.images[0, :1]).room(count)
        for place in range(count):
            matched.put(place, self._matched(pooled.images[0, place : place + 1]))
        return self.network.adapt(pooled, matched.unsqueeze())

    def _matched(self, images: Tensor) -> Features:
        encoded = self.network.encode(images)
        return Features(encoded.levels[-self.network.matched_levels :], encoded.size)

    def segment(self, images: Tensor | Features, adapted: Adapted) -> Tensor:
        """Logits (n, 2, H, W)."""
        return self.network.segment(images, adapted)
