"""The methods in Python: load a checkpoint, adapt it to a few annotated images, segment any others.

    from fewshot.api import load

    segmenter = load("runs/panet/checkpoint.safetensors").adapt(images, masks)
    masks = segmenter.masks(new_images)

Images are paths, arrays or Pillow's, of any size, and files of more than 8 bits that are given together have one grey
scale; everything is computed as in the benchmark. `adapt_folder` takes a folder of annotated images, and `predict` says
more of each image than its mask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import UserError
from episodes.images.decoding import read_image
from episodes.images.grey_scales import full_scales
from episodes.images.masks import MaskPixels, decode_mask, read_binary_mask
from episodes.images.rasters import upright
from episodes.sampling.episode import Support
from fewshot.config.parsing import parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.devices import choose_device
from fewshot.inference.loading import LoadedMethod, as_method, load_method
from fewshot.inference.predictor import ImagePrediction, Predictor
from fewshot.inference.support import build_support, load_support_folder
from fewshot.methods.contract import Method, default_method, needs_support
from fewshot.networks import seeded_network

__all__ = ["Adaptable", "Segmenter", "build", "load"]

Picture = str | Path | Image.Image | NDArray[Any]


def load(
    checkpoint: str | Path,
    method: str | None = None,
    *,
    image_size: int | None = None,
    device: str = "auto",
    trust: Sequence[str] = (),
    **options: Any,
) -> "Adaptable":
    """Load a checkpoint that `fewshot train`, `fewshot finetune` or a benchmark wrote.

    Args:
        checkpoint: the file.
        method: a method's name as in a benchmark, such as `fine-tuned`; None for the one that goes with the network:
            `prototypes` for PANet, `zero-shot` for a supervised network.
        image_size: working size; None for the one that the network was trained at.
        device: where to compute: `auto`, `cpu`, `cuda`, ...
        trust: modules of your own that the checkpoint's network may be of, such as `("mine",)` for `mine:Net`; loading
            imports them, and refuses a file that names any other.
        options: the method's own, such as `steps=60` of `fine-tuned`.

    Raises:
        UserError: if the file is missing or damaged, or the method or its options do not fit.
    """
    trusted = (trust,) if isinstance(trust, str) else trust
    return Adaptable(load_method(Path(checkpoint), method, device, options, image_size, trusted))


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
    name = method or default_method(network, built)
    return Adaptable(as_method(built, name, image_size, choose_device(device), options))


@dataclass(frozen=True, slots=True)
class Adaptable:
    """A method that waits for annotated images."""

    loaded: LoadedMethod  # the method as it was loaded

    @property
    def method(self) -> Method:
        """Return the method."""
        return self.loaded.method

    @property
    def name(self) -> str:
        """Return the method's name, as in a benchmark."""
        return self.loaded.name

    @property
    def image_size(self) -> int:
        """Return the working size: images are stretched to a square of so many pixels a side."""
        return self.loaded.image_size

    def adapt(self, images: Iterable[Picture] = (), masks: Iterable[Picture] = ()) -> "Segmenter":
        """Adapt to annotated images; without any, use what was learned in training alone.

        Nothing is kept here: one loaded method serves any number of support sets.

        Args:
            images: paths, Pillow's images or arrays (H, W) or (H, W, 3), 0 to 255 or floats in [0, 1]; of any sizes.
            masks: one per image, of its size; the ground is 0, whatever differs from it lesion, see
                `episodes.images.masks.decode_mask`.

        Raises:
            UserError: if the counts or sizes differ, a mask is empty or unclear, something cannot be read, the method
                needs annotated images or cannot use any, or memory does not suffice.
        """
        return self._adapt(self._support(listed(images, "images"), listed(masks, "masks")))

    def adapt_folder(self, folder: str | Path, shots: int | None = None, *, invert_masks: bool = False) -> "Segmenter":
        """Adapt to the annotated images of a folder, in any layout that the reader `folder` reads.

        Args:
            folder: with `images/` and `masks/`, for instance; every image that is taken must show a lesion.
            shots: how many images to take, the first by name; None for all.
            invert_masks: whether the masks have a light ground and dark lesions.

        Raises:
            UserError: if the folder cannot be read, or else as `adapt` does.
        """
        return self._adapt(load_support_folder(Path(folder), self.image_size, shots, invert_masks=invert_masks))

    def _adapt(self, support: Support | None) -> "Segmenter":
        if support is None and needs_support(self.method):
            raise UserError("the method needs annotated images; give them as adapt(images, masks)")
        if support is not None and not self.method.uses_support:
            raise UserError('the method cannot use annotated images; try load(..., "fine-tuned"), or adapt() without')
        return Segmenter(self.loaded.adapt(support))

    def _support(self, images: list[Picture], masks: list[Picture]) -> Support | None:
        if len(images) != len(masks):
            raise UserError(f"{len(images)} images and {len(masks)} masks; give every image its mask")
        if not images:
            return None
        names = [picture_name("images", place, image) for place, image in enumerate(images)]
        mask_names = [picture_name("masks", place, mask) for place, mask in enumerate(masks)]
        scales = _full_scales(images)
        pairs = [_read_pair(*pair) for pair in zip(images, masks, names, mask_names, scales, strict=True)]
        return build_support([image for image, _ in pairs], [mask for _, mask in pairs], names, self.image_size)


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A method after it has adapted."""

    predictor: Predictor  # segments grey images

    def masks(self, images: Iterable[Picture]) -> list[NDArray[np.bool_]]:
        """Segment images: boolean (H, W) of each image's own size, True where it shows a lesion; else as `predict`."""
        return [found.mask for found in self.predict(images)]

    def probabilities(self, images: Iterable[Picture]) -> list[NDArray[np.float32]]:
        """Compute how probable a lesion is at each pixel: (H, W) in [0, 1]; masks are set where it is above 0.5."""
        return [found.probability for found in self.predict(images)]

    def predict(self, images: Iterable[Picture]) -> Iterator[ImagePrediction]:
        """Predict the images one after the other: masks, probabilities, labels and novelty.

        Args:
            images: as in `Adaptable.adapt`; they are read a few at a time.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        pictures = listed(images, "images")
        waiting = enumerate(zip(pictures, _full_scales(pictures), strict=True))
        while read := list(islice(waiting, self.predictor.batching.size)):
            grey = [grey_image(image, picture_name("images", place, image), scale) for place, (image, scale) in read]
            yield from self.predictor.predict_images(grey)


def listed(pictures: Iterable[Picture], name: str) -> list[Picture]:
    """Return several pictures as a list.

    Raises:
        UserError: if it is a single picture; an array of several is (n, H, W).
    """
    single = isinstance(pictures, str | Path | Image.Image)
    if isinstance(pictures, np.ndarray):
        single = pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[-1] in (3, 4))
    if single:
        raise UserError(f"{name}: found a single picture; give a list of pictures, or an array (n, H, W)")
    return list(pictures)


def picture_name(pictures: str, place: int, picture: Picture) -> str:
    """Name a picture for errors: by its path, or its place among the others.

    >>> picture_name("images", 2, np.zeros((8, 8))), picture_name("images", 2, "mine/a.png")
    ('images[2]', 'mine/a.png')
    """
    return str(picture) if isinstance(picture, str | Path) else f"{pictures}[{place}]"


def grey_image(picture: Picture, name: str, full_scale: float | None = None) -> NDArray[np.uint8]:
    """Read the grey values (H, W) of a picture: its luma, without alpha.

    Args:
        picture: a path; or (H, W), (H, W, 3) or (H, W, 4) of 0 to 255, or of floats in [0, 1].
        name: for errors.
        full_scale: the value that is shown white, of a file of more than 8 bits; None for what fits it alone.

    Raises:
        UserError: if it cannot be read as one.
    """
    if isinstance(picture, str | Path):
        return read_image(Path(picture), full_scale=full_scale)
    pixels = _bytes(_values(picture, name), name)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def lesion_mask(picture: Picture, name: str) -> NDArray[np.bool_]:
    """Read where a mask shows a lesion, (H, W), as `episodes.images.masks.decode_mask` says.

    Raises:
        UserError: if it cannot be read as a mask, or may not mean what it says.
    """
    if isinstance(picture, str | Path):
        found = read_binary_mask(Path(picture))
    elif isinstance(picture, Image.Image):
        found = decode_mask(MaskPixels.of_picture(upright(picture)), name)
    else:
        values = _values(picture, name)
        if values.dtype.kind not in "biuf":
            raise UserError(f"{name}: expected numbers, found {values.dtype}")
        opacity = picture[:, :, 3] if picture.ndim == 3 and picture.shape[2] == 4 else None
        found = decode_mask(MaskPixels(values, opacity), name)
    if found.doubts:
        raise UserError(f"{name}: {found.doubts[0]}")
    return found.lesion


def _full_scales(pictures: Sequence[Picture]) -> list[float | None]:
    """Choose one scale for the files of more than 8 bits among pictures."""
    scales = iter(full_scales([(Path(one), None) for one in pictures if isinstance(one, str | Path)]))
    return [next(scales) if isinstance(one, str | Path) else None for one in pictures]


def _read_pair(
    image: Picture, mask: Picture, image_name: str, mask_name: str, full_scale: float | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read an image and its mask, (H, W) both."""
    grey, lesion = grey_image(image, image_name, full_scale), lesion_mask(mask, mask_name)
    if grey.shape != lesion.shape:
        raise UserError(f"{mask_name}: is {_by(lesion)}, but {image_name} is {_by(grey)}; give them one size")
    if not lesion.any():
        raise UserError(f"{mask_name}: the mask is empty; outline the lesion, or leave the image out")
    return grey, lesion


def _by(picture: NDArray[Any]) -> str:
    return f"{picture.shape[0]}x{picture.shape[1]}"


def _values(picture: Image.Image | NDArray[Any], name: str) -> NDArray[Any]:
    """Return values (H, W), or (H, W, 3) of colours."""
    if isinstance(picture, Image.Image):
        picture = upright(picture)
        picture = picture.convert("RGBA") if picture.mode == "P" else picture
        picture = picture.convert("L") if picture.mode in ("1", "LA") else picture
        picture = picture if picture.mode.startswith(("L", "I", "F")) else picture.convert("RGB")
    values = np.asarray(picture)
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = values[:, :, :3]
    elif values.ndim != 2:
        raise UserError(f"{name}: has the shape {values.shape}; expected (H, W) or (H, W, 3)")
    if not values.size:
        raise UserError(f"{name}: has no pixels, its shape is {values.shape}")
    return values


def _bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    kind = values.dtype.kind
    full_scale = {"b": 1, "f": 1, "i": 255, "u": 255}.get(kind, 0)
    # NaN is neither above nor below.
    if not (full_scale and values.min() >= 0 and values.max() <= full_scale):
        raise UserError(f"{name}: expected integers from 0 to 255 or floats from 0 to 1, found {_range(values)}")
    scaled = values if full_scale == 255 else np.round(values * 255.0)
    return np.ascontiguousarray(scaled.astype(np.uint8))


def _range(values: NDArray[Any]) -> str:
    return f"{values.dtype} from {values.min()} to {values.max()}" if values.dtype.kind in "biuf" else str(values.dtype)
