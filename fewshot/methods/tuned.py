"""PANet tuned on the support set before it is adapted to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from episodes.episode import Support
from episodes.transforms import Strength
from fewshot.methods.contract import Ingredients
from fewshot.methods.prototypical import naming_support
from fewshot.methods.tuning import Parts, SupportEpisodes, Tuning, tuning_schedule
from fewshot.panet.multilevel import Adapted
from fewshot.panet.network import PANet


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned copy of the network, and what it keeps of the support set."""

    network: PANet
    adapted: Adapted


class TunedPrototypes:
    """Tune a copy of the network on episodes made of the support set alone, then segment by its prototypes.

    At 5 shots each image is in turn the query of an episode whose support are the other four; at 1 shot the image is
    both, under two augmentations. Unlike prototypes, a tuned network needs every query encoded anew.

    Args:
        ingredients: with a PANet.
        steps: optimiser steps, one episode each.
        learning_rate: the highest, of AdamW; warm-up and cosine decay as in training.
        weight_decay: of AdamW.
        augmentation: of the support images.
        parts: what is tuned: `all`, the `decoder` (everything but the encoder) or the `norm` layers.
        prior_shots: how many support images the trained weights are worth: K images move them K / (K + prior_shots)
            of the way. The prior prototypes' idea, applied to weights.
    """

    uses_support = True

    def __init__(
        self,
        ingredients: Ingredients,
        *,
        steps: int = 40,
        learning_rate: float = 3e-5,
        weight_decay: float = 1e-4,
        augmentation: Strength = "strong",
        parts: Parts = "all",
        prior_shots: float = 2.0,
    ) -> None:
        self.network: PANet = ingredients.require_network(PANet)
        schedule = tuning_schedule(
            "tuned-prototypes options",
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            augmentation=augmentation,
        )
        self.tuning = Tuning(schedule, parts, prior_shots, ingredients.device, ingredients.seed)

    def adapt(self, support: Support | None) -> Tuned:
        """The tuned network and its prototypes; the same for the same support set.

        Raises:
            DatasetError: if a mask is empty, and there is no prior to stand in, or covers its whole image.
        """
        if support is None:
            raise ValueError("tuning needs a support set")
        with naming_support(support):
            network = self.tuning.tuned(self.network, support, SupportEpisodes)
        with torch.inference_mode():
            return Tuned(network, network.adapt(support))

    def segment(self, images: Tensor, adapted: Tuned) -> Tensor:
        """Logits (n, 1 + n_way, H, W)."""
        return adapted.network.segment(images, adapted.adapted)
