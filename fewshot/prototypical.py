"""PANet as a method: prototypes from the support set, or from the sources without any target image."""

from itertools import chain

import torch
from torch import Tensor

from episodes.episode import Support, load_support
from episodes.errors import DatasetError
from fewshot.features import Features
from fewshot.methods import Ingredients
from fewshot.panet import PANet, Prototypes


class SupportPrototypes:
    """Segment by the prototypes of the support set."""

    uses_support = True

    def __init__(self, ingredients: Ingredients) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        self.encode = self.network.encode

    def adapt(self, support: Support | None, features: Features | None = None) -> Prototypes:
        """The support set's prototypes.

        Raises:
            DatasetError: if a mask is empty or covers its whole image.
        """
        if support is None:
            raise ValueError("prototypes need a support set")
        try:
            return self.network.adapt(support, features)
        except ValueError as error:
            raise DatasetError(f"support set {', '.join(chain(*support.ids))}: {error}") from error

    def segment(self, images: Tensor | Features, adapted: Prototypes) -> Tensor:
        """Logits (n, 1 + n_way, H, W)."""
        return self.network.segment(images, adapted)


class SourcePrototypes:
    """Segment by prototypes averaged over source images: the same network, and no target image at all.

    The row against which any claim of few-shot learning has to be made.

    Args:
        ingredients: with a PANet.
        n_images: of the sources' lesion images, evenly spread over them, to average.
    """

    uses_support = False

    def __init__(self, ingredients: Ingredients, *, n_images: int = 200) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        self.encode = self.network.encode
        self.sources = ingredients.sources
        self.device = ingredients.device
        self.n_images = n_images

    def adapt(self, support: Support | None, features: Features | None = None) -> Prototypes:
        """The sources' prototypes, whatever the support set."""
        del support, features
        records = self.sources.lesions()
        count = min(self.n_images, len(records))
        chosen = [records[place * len(records) // count] for place in range(count)]
        vectors = [
            self.network.adapt(load_support(self.sources.collection, [[record.id]]).to(self.device)).vectors
            for record in chosen
        ]
        return Prototypes(torch.stack(vectors).mean(0))

    def segment(self, images: Tensor | Features, adapted: Prototypes) -> Tensor:
        """Logits (n, 2, H, W)."""
        return self.network.segment(images, adapted)
