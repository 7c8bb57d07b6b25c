"""How unlike everything that a model knows an image is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fewshot.checkpoints import CheckpointError
from fewshot.training.familiar import AnyEncoder, describe, find_encoder, load_familiar, n_values


@dataclass(frozen=True, slots=True)
class Familiarity:
    """What a model knows: images of its training, and those that it adapted to.

    Attributes:
        encoder: gives the feature maps by which images are described.
        known: what describes the known images, unit vectors (n, n_values).
        threshold: how far from all others one of a hundred training images is.
    """

    encoder: AnyEncoder
    known: Tensor
    threshold: float

    def novelty(self, levels: Sequence[Tensor]) -> Tensor:
        """How far images are from the nearest known one; 1 at the threshold.

        Args:
            levels: their feature maps, each (n, channels, h, w).

        Returns:
            (n,), at least 0.
        """
        # By matrix products it would be faster, and near 0 wrong.
        distances = torch.cdist(describe(levels), self.known, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.amin(1) / self.threshold

    def joined_by(self, images: Tensor) -> "Familiarity":
        """The same once images (n, 3, H, W) in [0, 1] are known as well."""
        with torch.inference_mode():
            return replace(self, known=torch.cat([self.known, describe(self.encoder(images))]))


def load_familiarity(checkpoint: Path, network: nn.Module, device: torch.device) -> Familiarity | None:
    """What a checkpoint's network knows; None where the checkpoint does not say.

    Raises:
        CheckpointError: if what it says does not fit the network.
    """
    found, encoder = load_familiar(checkpoint), find_encoder(network)
    if found is None or encoder is None:
        return None
    if found.features.shape[1] != n_values(encoder):
        raise CheckpointError(f"{checkpoint}: describes its training images otherwise than its network; train it again")
    return Familiarity(encoder, found.features.to(device), found.threshold)
