"""Out-of-distribution images: features of the training images, and how far an image is from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.pyramid_panet import AggregatedEncoder
from baselines.unet import PlainEncoder
from episodes.errors import in_short
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection
from fewshot.checkpoints import CheckpointError, load_checkpoint
from fewshot.devices import Batching

MOST_IMAGES = 512
MOST_VALUES = 2**18  # of all images together: half a megabyte of a checkpoint

AnyEncoder = AggregatedEncoder | Encoder | PlainEncoder

PREFIX = "familiar."
RARE = 0.99
"""Further from the others than this share of the training images are from each other, an image is flagged."""


@dataclass(frozen=True, slots=True)
class TrainingFeatures:
    """Features of some of the images of a training."""

    features: Tensor  # unit vectors (n, n_values)
    distances: Tensor  # of each to the nearest one of another patient, (n,)

    @property
    def threshold(self) -> float:
        """Return the distance beyond which an image is unlike them."""
        return float(torch.quantile(self.distances.double(), RARE))

    @property
    def is_sound(self) -> bool:
        """Tell whether novelty can be measured by them: nothing is damaged, and they are not all alike."""
        alike = self.distances.shape == self.features.shape[:1] and self.features.dim() == 2
        return alike and bool(self.features.isfinite().all()) and self.threshold > 0

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds."""
        return {f"{PREFIX}features": self.features.half(), f"{PREFIX}distances": self.distances.float()}


def training_feature_tensors(network: nn.Module, part: Collection, device: torch.device) -> dict[str, Tensor]:
    """Compute what a checkpoint is to hold of the images of its training; nothing where no novelty can be measured."""
    found = compute_training_features(network, part, device)
    return {} if found is None else found.tensors()


def compute_training_features(network: nn.Module, part: Collection, device: torch.device) -> TrainingFeatures | None:
    """Describe what a network was trained on.

    The network is in evaluation mode, on the device. Of many images, some that are spread evenly over them are taken.

    Returns:
        None of a network whose encoder is not one of ours, or where the images are of one patient or all alike.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    encoder = find_encoder(network)
    if encoder is None:
        return None
    records = sorted(part.records, key=lambda record: record.id)
    count = min(len(records), MOST_VALUES // encoder.channels[-1], MOST_IMAGES)
    chosen = [records[place * len(records) // count] for place in range(count)]
    patients = [record.patient_id for record in chosen]
    if len(set(patients)) < 2:
        return None
    images = [part.image(record.id) for record in chosen]  # maps of a store's file: read a batch at a time
    features = torch.from_numpy(describe_images(encoder, images, Batching(device)))
    found = TrainingFeatures(features, _to_other_patients(features, patients))
    return found if found.is_sound else None


def _to_other_patients(features: Tensor, patients: Sequence[str]) -> Tensor:
    """Return the distance of each image to the nearest one of another patient."""
    places = {patient: place for place, patient in enumerate(dict.fromkeys(patients))}
    numbers = torch.tensor([places[patient] for patient in patients])
    distances = torch.cdist(features.double(), features.double())
    return distances.masked_fill(numbers[:, None] == numbers[None, :], torch.inf).amin(1).float()


def find_encoder(network: nn.Module) -> AnyEncoder | None:
    """Return the part of a network that gives feature maps of images; None if it is not one of ours."""
    return next((module for module in network.modules() if isinstance(module, AnyEncoder)), None)


def describe(levels: Sequence[Tensor]) -> Tensor:
    """Compute unit vectors (n, n_values) of feature maps (n, channels, h, w), of which the deepest count."""
    return nn.functional.normalize(levels[-1].float().mean((2, 3)), dim=1)


def describe_images(
    encoder: AnyEncoder, images: Sequence[NDArray[np.uint8]], batching: Batching
) -> NDArray[np.float32]:
    """Describe grey images (H, W) of one size by unit vectors (n_images, n_values).

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """

    def compute(batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = image_tensor(np.stack(batch)).to(batching.device)
            values: NDArray[np.float32] = describe(encoder(pixels)).cpu().numpy()
        return values

    return np.concatenate([values for _, values in batching.over(images, compute)])


def load_training_features(path: Path) -> TrainingFeatures | None:
    """Load what a checkpoint holds of the images of its training; None where it holds nothing of them.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    tensors = load_checkpoint(path, PREFIX).tensors
    if not tensors:
        return None
    try:
        found = TrainingFeatures(tensors[f"{PREFIX}features"].float(), tensors[f"{PREFIX}distances"].float())
        if not found.is_sound:
            raise ValueError("not one distance for every image")
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: what it says of its training images is damaged ({in_short(error)}); train it again"
        ) from error
    return found


@dataclass(frozen=True, slots=True)
class NoveltyDetector:
    """The images that a model knows, of its training and what it adapted to, and the distance of others to them."""

    encoder: AnyEncoder  # gives the feature maps by which images are described
    known: Tensor  # features of the known images, unit vectors (n, n_values)
    threshold: float  # how far from all others one of a hundred training images is

    def novelty(self, levels: Sequence[Tensor]) -> Tensor:
        """Compute how far images are from the nearest known one; 1 at the threshold.

        Levels are their feature maps, each (n, channels, h, w).

        Returns:
            (n,), at least 0.
        """
        # By matrix products it would be faster, and near 0 wrong.
        distances = torch.cdist(describe(levels), self.known, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.amin(1) / self.threshold

    def including(self, levels: Sequence[Tensor]) -> "NoveltyDetector":
        """Return a detector to which images of these feature maps, each (n, channels, h, w), are known as well."""
        return replace(self, known=torch.cat([self.known, describe(levels)]))

    def shares_encoder(self, method: object) -> bool:
        """Tell whether a method's network has the same encoder, so that its features need no second pass."""
        return getattr(getattr(method, "network", None), "encoder", None) is self.encoder


def load_novelty_detector(checkpoint: Path, network: nn.Module, device: torch.device) -> NoveltyDetector | None:
    """Load what a checkpoint's network knows; None where the checkpoint does not say.

    Raises:
        CheckpointError: if what it says does not fit the network.
    """
    found, encoder = load_training_features(checkpoint), find_encoder(network)
    if found is None or encoder is None:
        return None
    if found.features.shape[1] != encoder.channels[-1]:
        raise CheckpointError(f"{checkpoint}: describes its training images otherwise than its network; train it again")
    return NoveltyDetector(encoder, found.features.to(device), found.threshold)
