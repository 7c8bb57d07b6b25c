"""PANet tuned on the support set before it is adapted to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from episodes.episode import Support
from episodes.transforms import Augmentation
from fewshot.methods import Ingredients
from fewshot.multilevel import Adapted
from fewshot.panet import PANet
from fewshot.prototypical import naming_support
from fewshot.tuning import (
    Parts,
    Strength,
    SupportEpisodes,
    require_not_negative,
    shrunk_share,
    tune,
    tuning_schedule,
)


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
        self.device = ingredients.device
        self.seed = ingredients.seed
        self.parts: Parts = parts
        self.prior_shots = require_not_negative("prior_shots", prior_shots)
        self.schedule = tuning_schedule(
            "tuned-prototypes options",
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            augmentation=augmentation,
        )

    def adapt(self, support: Support | None) -> Tuned:
        """The tuned network and its prototypes; the same for the same support set.

        Raises:
            DatasetError: if a mask is empty, and there is no prior to stand in, or covers its whole image.
        """
        if support is None:
            raise ValueError("tuning needs a support set")
        with naming_support(support), torch.inference_mode(False), torch.enable_grad():
            network = tune(
                self.network,
                SupportEpisodes(support, Augmentation(self.schedule.augmentation), self.seed),
                self.schedule,
                parts=self.parts,
                share=shrunk_share(support.images.shape[1], self.prior_shots),
                device=self.device,
                seed=self.seed,
            )
        with torch.inference_mode():
            return Tuned(network, network.adapt(support))

    def segment(self, images: Tensor, adapted: Tuned) -> Tensor:
        """Logits (n, 1 + n_way, H, W)."""
        return adapted.network.segment(images, adapted.adapted)
