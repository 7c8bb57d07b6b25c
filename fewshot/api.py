"""The methods in Python: load a checkpoint, adapt it to a few annotated images, segment any others.

    from fewshot.api import load

    segmenter = load("runs/panet/checkpoint.safetensors").adapt(images, masks)
    masks = segmenter.masks(new_images)

Images are paths, arrays or Pillow's, of any size; everything is computed as in the benchmark.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.episode import Support, image_tensor
from episodes.errors import UserError
from episodes.store import Collection
from fewshot.benchmark.evaluation import default_batch_size, lesion_masks
from fewshot.checkpoints import load_network
from fewshot.config import EncoderConfig, MethodConfig, ModelConfig
from fewshot.devices import choose_device
from fewshot.images import Picture, grey_image, lesion_mask, listed, picture_name, resized_image, resized_mask
from fewshot.methods import Ingredients, Method, Sources, build_method, default_method, needs_support
from fewshot.parsing import parse_config
from fewshot.training import seeded_network


def load(
    checkpoint: str | Path,
    method: str | None = None,
    *,
    image_size: int | None = None,
    device: str = "auto",
    **options: Any,
) -> "Adaptable":
    """Load a checkpoint that `fewshot train`, `fewshot finetune` or a benchmark wrote.

    Args:
        checkpoint: the file.
        method: a method's name as in a benchmark, such as `fine-tuned`; None for the one that goes with the network:
            `prototypes` for PANet, `zero-shot` for a supervised network.
        image_size: working size; None for the one that the network was trained at.
        device: where to compute: `auto`, `cpu`, `cuda`, ...
        options: the method's own, such as `steps=60` of `fine-tuned`.

    Raises:
        UserError: if the file is missing or damaged, or the method or its options do not fit.
    """
    network, loaded = load_network(Path(checkpoint))
    method = method or default_method(loaded.facts["model"]["network"], network)
    return _adaptable(network, method, image_size or int(loaded.facts["image_size"]), device, options)


def build(
    network: str,
    method: str | None = None,
    *,
    encoder: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    image_size: int = 256,
    seed: int = 0,
    device: str = "auto",
    **options: Any,
) -> "Adaptable":
    """Build a network that was never trained, but for its encoder's weights.

    Args:
        network: `panet`, or `module:Class`.
        method: as in `load`.
        encoder: as in a configuration, such as `{"name": "resnet18", "weights": "imagenet"}`.
        model: as in a configuration, such as `{"levels": [3], "output_stride": 8}`.
        image_size: working size.
        seed: of weights that are random.
        device: as in `load`.
        options: the method's own.

    Raises:
        UserError: if something is unknown or does not fit.
    """
    pyramid = parse_config(encoder or {}, EncoderConfig, "encoder")
    head = parse_config({"network": network, **(model or {})}, ModelConfig, "model")
    built = seeded_network(pyramid, head, seed).eval()
    return _adaptable(built, method or default_method(network, built), image_size, device, options)


def _adaptable(
    network: nn.Module, method: str, image_size: int, device: str, options: Mapping[str, Any]
) -> "Adaptable":
    place = choose_device(device)
    ingredients = Ingredients(network.to(place), Sources(Collection([]), ()), place)
    return Adaptable(build_method(MethodConfig(method=method, options=dict(options)), ingredients), image_size, place)


@dataclass(frozen=True, slots=True)
class Adaptable:
    """A method that waits for annotated images.

    Attributes:
        method: the method.
        image_size: working size: images are stretched to a square of so many pixels a side.
        device: where it computes.
    """

    method: Method
    image_size: int
    device: torch.device

    def adapt(self, images: Iterable[Picture] = (), masks: Iterable[Picture] = ()) -> "Segmenter":
        """Adapt to annotated images; without any, use what was learned in training alone.

        Nothing is kept here: one loaded method serves any number of support sets.

        Args:
            images: paths, Pillow's images or arrays (H, W) or (H, W, 3), 0 to 255 or floats in [0, 1]; of any sizes.
            masks: one per image, of its size; a lesion is 1 or 255 (or True), all else 0.

        Raises:
            UserError: if the counts or sizes differ, a mask is empty, something cannot be read, or the method needs
                annotated images or cannot use any.
        """
        support = self._support(listed(images, "images"), listed(masks, "masks"))
        if support is None and needs_support(self.method):
            raise UserError("the method needs annotated images; give them as adapt(images, masks)")
        if support is not None and not self.method.uses_support:
            raise UserError('the method cannot use annotated images; try load(..., "fine-tuned"), or adapt() without')
        with torch.inference_mode():
            return Segmenter(self.method, self.method.adapt(support), self.image_size, self.device)

    def _support(self, images: list[Picture], masks: list[Picture]) -> Support | None:
        if len(images) != len(masks):
            raise UserError(f"{len(images)} images and {len(masks)} masks; give every image its mask")
        if not images:
            return None
        names = tuple(picture_name("images", place, image) for place, image in enumerate(images))
        pairs = [
            self._pair(image, mask, name, picture_name("masks", place, mask))
            for place, (image, mask, name) in enumerate(zip(images, masks, names, strict=True))
        ]
        pixels = image_tensor(np.stack([image for image, _ in pairs]))
        lesions = torch.from_numpy(np.stack([mask for _, mask in pairs])).float()
        return Support(pixels.unsqueeze(0), lesions.unsqueeze(0), (names,)).to(self.device)

    def _pair(
        self, image: Picture, mask: Picture, image_name: str, mask_name: str
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """An image and its mask, (H, W) at the working size."""
        grey, lesion = grey_image(image, image_name), lesion_mask(mask, mask_name)
        if grey.shape != lesion.shape:
            raise UserError(f"{mask_name}: is {_by(lesion)}, but {image_name} is {_by(grey)}; give them one size")
        if not lesion.any():
            raise UserError(f"{mask_name}: the mask is empty; outline the lesion, or leave the image out")
        resized = resized_mask(lesion, self.image_size)
        if not resized.any():
            raise UserError(f"{mask_name}: its lesion vanishes at {self.image_size} pixels; leave the image out")
        return resized_image(grey, self.image_size), resized


def _by(picture: NDArray[Any]) -> str:
    return f"{picture.shape[0]}x{picture.shape[1]}"


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A method after it has adapted.

    Attributes:
        method: the method.
        adapted: what it took from its support set.
        image_size: working size.
        device: where it computes.
    """

    method: Method
    adapted: Any
    image_size: int
    device: torch.device

    def masks(self, images: Iterable[Picture]) -> list[NDArray[np.bool_]]:
        """Where each image shows a lesion: boolean (H, W) of the image's own size.

        Args:
            images: as in `Adaptable.adapt`; they are read a few at a time.

        Raises:
            UserError: if one of them cannot be read.
        """
        return [lesion_masks(logits)[0].cpu().numpy() for logits in self._logits(images)]

    def probabilities(self, images: Iterable[Picture]) -> list[NDArray[np.float32]]:
        """How probable a lesion is at each pixel: (H, W) in [0, 1], of the image's own size.

        Args:
            images: as in `masks`, which are set where the probability is above 0.5.

        Raises:
            UserError: if one of them cannot be read.
        """
        return [1 - logits.softmax(1)[0, 0].cpu().numpy() for logits in self._logits(images)]

    def _logits(self, images: Iterable[Picture]) -> Iterator[Tensor]:
        """Logits (1, 2, H, W) of each image, at its own size."""
        waiting = enumerate(listed(images, "images"))
        while batch := list(islice(waiting, default_batch_size(self.device))):
            grey = [grey_image(image, picture_name("images", place, image)) for place, image in batch]
            pixels = image_tensor(np.stack([resized_image(image, self.image_size) for image in grey]))
            with torch.inference_mode():
                logits = self.method.segment(pixels.to(self.device), self.adapted)
            yield from (_stretched(part, image.shape) for part, image in zip(logits, grey, strict=True))


def _stretched(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Logits (classes, h, w) as (1, classes, H, W)."""
    if logits.shape[1:] == size:
        return logits.unsqueeze(0)
    return F.interpolate(logits.unsqueeze(0), size=size, mode="bilinear", align_corners=False, antialias=True)
