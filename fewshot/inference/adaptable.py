"""The methods in Python: load a checkpoint, adapt it to a few annotated images, segment any others.

    from fewshot.api import load

    segmenter = load("runs/panet/checkpoint.safetensors").adapt(images, masks)
    masks = segmenter.masks(new_images)

Images are paths, arrays or Pillow's, of any size; everything is computed as in the benchmark. `adapt_folder` takes a
folder of annotated images, and `predict` says more of each image than its mask.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from episodes.errors import UserError
from episodes.sampling.episode import Support, image_tensor
from episodes.storage.store import Collection
from fewshot.checkpoints import load_network
from fewshot.config.benchmark import MethodConfig
from fewshot.config.parsing import parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.devices import Batching, choose_device, within_memory
from fewshot.inference.images import Picture, grey_image, lesion_mask, listed, picture_name, resized_image, resized_mask
from fewshot.inference.out_of_distribution import Familiarity, load_familiarity
from fewshot.inference.segmenter import Segmenter
from fewshot.inference.support import load_support_folder
from fewshot.methods.contract import Ingredients, Method, Sources, build_method, default_method, needs_support
from fewshot.networks import seeded_network

__all__ = ["Adaptable", "Segmenter", "build", "load"]


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
    built = _adaptable(network, method, image_size or int(loaded.facts["image_size"]), device, options)
    return replace(built, familiarity=load_familiarity(Path(checkpoint), network, built.device))


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
    built = build_method(MethodConfig(method=method, options=dict(options)), ingredients)
    return Adaptable(built, image_size, place, method)


@dataclass(frozen=True, slots=True)
class Adaptable:
    """A method that waits for annotated images.

    Attributes:
        method: the method.
        image_size: working size: images are stretched to a square of so many pixels a side.
        device: where it computes.
        name: of the method, as in a benchmark.
        familiarity: tells images that are unlike those of the training; None where these are not known.
    """

    method: Method
    image_size: int
    device: torch.device
    name: str = ""
    familiarity: Familiarity | None = None

    def adapt(self, images: Iterable[Picture] = (), masks: Iterable[Picture] = ()) -> "Segmenter":
        """Adapt to annotated images; without any, use what was learned in training alone.

        Nothing is kept here: one loaded method serves any number of support sets.

        Args:
            images: paths, Pillow's images or arrays (H, W) or (H, W, 3), 0 to 255 or floats in [0, 1]; of any sizes.
            masks: one per image, of its size; a lesion is 1 or 255 (or True), all else 0.

        Raises:
            UserError: if the counts or sizes differ, a mask is empty, something cannot be read, or the method needs
                annotated images or cannot use any, or memory does not suffice.
        """
        return self.adapt_to(self._support(listed(images, "images"), listed(masks, "masks")))

    def adapt_folder(self, folder: str | Path, shots: int | None = None) -> "Segmenter":
        """Adapt to the annotated images of a folder, in any layout that the reader `folder` reads.

        Args:
            folder: with `images/` and `masks/`, for instance; every image that is taken must show a lesion.
            shots: how many images to take, the first by name; None for all.

        Raises:
            UserError: if the folder cannot be read, or else as `adapt` does.
        """
        return self.adapt_to(load_support_folder(Path(folder), self.image_size, shots))

    def adapt_to(self, support: Support | None, batch_size: int | None = None) -> "Segmenter":
        """Adapt to a support set.

        Args:
            support: at the working size; None for none.
            batch_size: images to segment at once; None for what suits the device.

        Raises:
            UserError: as `adapt` does.
        """
        if support is None and needs_support(self.method):
            raise UserError("the method needs annotated images; give them as adapt(images, masks)")
        if support is not None and not self.method.uses_support:
            raise UserError('the method cannot use annotated images; try load(..., "fine-tuned"), or adapt() without')
        support = None if support is None else support.to(self.device)
        n_images = 0 if support is None else support.images.shape[1]
        familiarity = self.familiarity
        with torch.inference_mode():
            adapt = partial(self.method.adapt, support)
            adapted = within_memory(adapt, f"{self.device}, adapting to {n_images} images")
            if familiarity is not None and support is not None:
                familiarity = familiarity.joined_by(support.images.flatten(0, 1))
        return Segmenter(
            self.method, adapted, self.image_size, self.device, Batching(self.device, batch_size), familiarity
        )

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
        return Support(pixels.unsqueeze(0), lesions.unsqueeze(0), (names,))

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
