"""Images unlike those of the training: what is remembered of these, and how far an image is from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.pyramid_panet import AggregatedEncoder
from baselines.unet import PlainEncoder
from episodes.errors import in_short
from episodes.records import Record
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection
from fewshot.checkpoints import CheckpointError, read_tensors
from fewshot.devices import Batching

MOST_IMAGES = 512
MOST_VALUES = 2**18  # of all images together: half a megabyte of a checkpoint

AnyEncoder = AggregatedEncoder | Encoder | PlainEncoder

PREFIX = "familiar."
RARE = 0.99
"""Further from the others than this share of the training images are from each other, an image is flagged."""


@dataclass(frozen=True, slots=True)
class Familiar:
    """Some of the images of a training.

    Attributes:
        features: what describes each, unit vectors (n, n_values).
        distances: of each to the nearest one of another patient, (n,).
    """

    features: Tensor
    distances: Tensor

    @property
    def threshold(self) -> float:
        """The distance beyond which an image is unlike them."""
        return float(torch.quantile(self.distances.double(), RARE))

    @property
    def is_sound(self) -> bool:
        """Whether images can be told by it: nothing is damaged, and they are not all alike."""
        alike = self.distances.shape == self.features.shape[:1] and self.features.dim() == 2
        return alike and bool(self.features.isfinite().all()) and self.threshold > 0

    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them."""
        return {f"{PREFIX}features": self.features.half(), f"{PREFIX}distances": self.distances.float()}


def familiar_tensors(network: nn.Module, part: Collection, device: torch.device) -> dict[str, Tensor]:
    """What a checkpoint is to hold of the images that a network was trained on; nothing where that cannot be told."""
    found = familiar_images(network, part, device)
    return {} if found is None else found.tensors()


def familiar_images(network: nn.Module, part: Collection, device: torch.device) -> Familiar | None:
    """Describe what a network was trained on.

    Args:
        network: in evaluation mode, on the device.
        part: the images of the training; of many, some that are spread evenly over them are taken.
        device: where to compute.

    Returns:
        None of a network whose encoder is not one of ours, or where the images are of one patient or all alike.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    encoder = find_encoder(network)
    if encoder is None:
        return None
    chosen = _spread(sorted(part.records, key=lambda record: record.id), MOST_VALUES // n_values(encoder))
    patients = [record.patient_id for record in chosen]
    if len(set(patients)) < 2:
        return None
    features = torch.cat(list(_described(encoder, part, chosen, device)))
    found = Familiar(features, _to_other_patients(features, patients))
    return found if found.is_sound else None


def _spread(records: Sequence[Record], most: int) -> list[Record]:
    count = min(len(records), most, MOST_IMAGES)
    return [records[place * len(records) // count] for place in range(count)]


def _described(
    encoder: AnyEncoder, part: Collection, records: Sequence[Record], device: torch.device
) -> Iterator[Tensor]:
    def compute(batch: Sequence[Record]) -> Tensor:
        images = image_tensor(np.stack([part.image(record.id) for record in batch]))
        with torch.inference_mode():
            return describe(encoder(images.to(device))).cpu()

    return (features for _, features in Batching(device).over(records, compute))


def _to_other_patients(features: Tensor, patients: Sequence[str]) -> Tensor:
    """Of each image the distance to the nearest one of another patient."""
    places = {patient: place for place, patient in enumerate(dict.fromkeys(patients))}
    numbers = torch.tensor([places[patient] for patient in patients])
    distances = torch.cdist(features.double(), features.double())
    return distances.masked_fill(numbers[:, None] == numbers[None, :], torch.inf).amin(1).float()


def find_encoder(network: nn.Module) -> AnyEncoder | None:
    """The part of a network that gives feature maps of images; None if it is not one of ours."""
    return next((module for module in network.modules() if isinstance(module, AnyEncoder)), None)


def n_values(encoder: AnyEncoder) -> int:
    """How many values describe an image."""
    return encoder.channels[-1]


def describe(levels: Sequence[Tensor]) -> Tensor:
    """Unit vectors (n, n_values) of feature maps (n, channels, h, w), of which the deepest count."""
    return nn.functional.normalize(levels[-1].float().mean((2, 3)), dim=1)


def load_familiar(path: Path) -> Familiar | None:
    """What a checkpoint holds of the images of its training; None of one from before this was kept.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    tensors = read_tensors(path, PREFIX)
    if not tensors:
        return None
    try:
        found = Familiar(tensors[f"{PREFIX}features"].float(), tensors[f"{PREFIX}distances"].float())
        if not found.is_sound:
            raise ValueError("not one distance for every image")
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: what it says of its training images is damaged ({in_short(error)}); train it again"
        ) from error
    return found


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
