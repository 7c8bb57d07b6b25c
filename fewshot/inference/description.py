"""What images look like to an encoder, a few at a time, so that any number fits into memory."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.encoders import Encoder
from episodes.curation.near_duplicates import thumbnail
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import read_image
from episodes.records import Record
from episodes.sampling.episode import image_tensor
from fewshot.checkpoints import load_network
from fewshot.devices import Batching
from fewshot.inference.images import resized_image
from fewshot.inference.out_of_distribution import AnyEncoder, describe, find_encoder

logger = logging.getLogger(__name__)

_READ_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Describer:
    """An encoder, and the size of the images that it is shown.

    Attributes:
        encoder: gives feature maps, shallow to deep; in evaluation mode.
        image_size: images are stretched to a square of so many pixels a side.
        name: what it is called.
    """

    encoder: AnyEncoder
    image_size: int
    name: str

    @classmethod
    def of_checkpoint(cls, path: Path, image_size: int | None = None) -> "Describer":
        """The encoder of a checkpoint's network, at the size that it was trained at unless another is given.

        Raises:
            UserError: if the checkpoint cannot be read, or its network has no encoder.
        """
        network, loaded = load_network(path)
        encoder = find_encoder(network)
        if encoder is None:
            raise UserError(f"{path}: its network has no encoder to describe images by; give another, or --encoder")
        return cls(encoder, image_size or int(loaded.facts["image_size"]), str(path))

    @classmethod
    def named(cls, name: str, weights: str, image_size: int = 256) -> "Describer":
        """A timm encoder, by the level that networks read where nothing else is said.

        Args:
            name: such as `resnet18`.
            weights: `imagenet`, which timm downloads, or a safetensors file.
            image_size: of the images.

        Raises:
            EncoderError: if there is no such encoder, or its weights cannot be had.
        """
        return cls(Encoder(name, weights=weights).eval(), image_size, f"{name}, {weights}")


@dataclass(frozen=True, slots=True)
class Described:
    """Images that could be read.

    Attributes:
        places: which of the given ones they are, rising.
        features: what describes each, unit vectors (n_images, n_values).
        thumbnails: by which those are known that show the same, (n_images, 48, 48).
        unreadable: the others, and why.
    """

    places: list[int]
    features: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]
    unreadable: list[str]


def describe_files(
    records: Sequence[Record], describer: Describer, device: torch.device, update: Callable[[int, int], None]
) -> Described:
    """Decode and encode images.

    Args:
        records: of the files.
        describer: how.
        device: where to compute.
        update: is told how many are done, of how many.

    Raises:
        UserError: if none can be read, or the encoder gives no numbers.
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    encoder, batching = describer.encoder.to(device), Batching(device)
    places: list[int] = []
    features: list[NDArray[np.float32]] = []
    thumbnails: list[NDArray[np.uint8]] = []
    unreadable: list[str] = []
    waiting = iter(enumerate(records))
    while some := list(islice(waiting, _READ_AT_ONCE)):
        images = []
        for place, record in some:
            try:
                images.append(resized_image(read_image(record.image, record.frame), describer.image_size))
                places.append(place)
            except DatasetError as error:
                unreadable.append(str(error))
        if images:
            features.append(_encoded(encoder, images, batching))
        thumbnails += [thumbnail(image) for image in images]
        update(some[-1][0] + 1, len(records))
    if not places:
        raise UserError(f"none of {len(records)} images can be read; the first: {unreadable[0]}")
    every = np.concatenate(features)
    if not np.isfinite(every).all():
        raise UserError(f"{describer.name}: its features are not finite; are its weights damaged?")
    return Described(places, every, np.stack(thumbnails), unreadable)


def describe_images(
    encoder: AnyEncoder, images: Sequence[NDArray[np.uint8]], device: torch.device
) -> NDArray[np.float32]:
    """What describes grey images (H, W) of one size: unit vectors (n_images, n_values).

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    return _encoded(encoder, images, Batching(device))


def _encoded(encoder: AnyEncoder, images: Sequence[NDArray[np.uint8]], batching: Batching) -> NDArray[np.float32]:
    def encode(batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = image_tensor(np.stack(batch)).to(batching.device)
            values: NDArray[np.float32] = describe(encoder(pixels)).cpu().numpy()
        return values

    return np.concatenate([values for _, values in batching.over(images, encode)])
