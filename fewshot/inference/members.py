"""Trained networks as members of an ensemble, and what they predict of a dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.prediction import UNKNOWN, Prediction, lesion_logits
from episodes.errors import UserError
from episodes.parallel import Progress
from episodes.records import LABEL_VALUES, Record
from episodes.sampling.episode import Support, image_tensor
from episodes.scoring.class_scores import count_pixels
from episodes.scoring.curves import ProbabilityHistogram
from episodes.scoring.mask_scores import Scores, score
from episodes.storage.store import Collection, Store
from fewshot.checkpoints import load_network
from fewshot.config.benchmark import MethodConfig
from fewshot.config.parsing import ConfigError
from fewshot.devices import Batching, within_memory
from fewshot.methods.contract import (
    Ingredients,
    Method,
    SamplingMethod,
    Sources,
    build_method,
    default_method,
    needs_support,
)
from fewshot.methods.uncertainty import pool

LESION = ("lesion",)
# Of what pixels can show, these are told apart in label maps.
KINDS = ("benign", "malignant")


@dataclass(frozen=True, slots=True)
class Member:
    """A checkpoint as a method.

    Attributes:
        path: of the checkpoint.
        facts: what it says of its training.
        method: the method.
        classes: that its masks tell apart, background aside.
        labels: that it gives whole images; none of most.
        adapted: what the method took from the support set.
    """

    path: Path
    facts: Mapping[str, Any]
    method: Method
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    adapted: Any = None

    @property
    def image_size(self) -> int:
        """Working size it was trained at."""
        return int(self.facts["image_size"])

    def after(self, support: Support | None) -> "Member":
        """The same member once it has adapted to a support set.

        Raises:
            NotEnoughMemoryError: if memory does not suffice.
        """
        with torch.inference_mode():
            return replace(self, adapted=within_memory(partial(self.method.adapt, support), f"{self.path}, adapting"))

    def predictions(self, images: Tensor) -> list[Prediction]:
        """One or more predictions of images (n, 3, H, W) in [0, 1]."""
        if isinstance(self.method, SamplingMethod):
            return self.method.sample(images, self.adapted)
        return [Prediction(self.method.segment(images, self.adapted))]


def load_members(
    checkpoints: Sequence[Path],
    method: str | None,
    options: Mapping[str, Any],
    device: torch.device,
    *,
    with_support: bool,
) -> list[Member]:
    """Load checkpoints, several of which are judged as one by their mean; none has adapted yet.

    Args:
        checkpoints: files, different ones.
        method: its name as in a benchmark; None for the one that goes with the network, or `fine-tuned` of a
            supervised network where there is a support set.
        options: of the method.
        device: where to compute.
        with_support: whether there are annotated images to adapt to.

    Raises:
        UserError: if they cannot be read or differ in what they predict, or the method does not fit.
    """
    repeated = [path for path in checkpoints if checkpoints.count(path) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: is given twice; an ensemble needs different checkpoints")
    members = [_load(path, method, options, device, with_support) for path in checkpoints]
    first = members[0]
    for other in members[1:]:
        for what in ("classes", "labels", "image_size"):
            own, others = getattr(first, what), getattr(other, what)
            if own != others:
                raise UserError(
                    f"{other.path}: predicts {_listed(others, what)}, and {first.path} {_listed(own, what)};"
                    " an ensemble's members must agree in that"
                )
    return members


def _listed(value: tuple[str, ...] | int, what: str) -> str:
    return f"at {value} pixels" if isinstance(value, int) else f"the {what} {', '.join(value) or 'none'}"


def _load(
    path: Path, method: str | None, options: Mapping[str, Any], device: torch.device, with_support: bool
) -> Member:
    network, loaded = load_network(path)
    name = method or default_method(loaded.facts["model"]["network"], network, tuned=with_support)
    ingredients = Ingredients(network.to(device), Sources(Collection([]), ()), device)
    built = build_method(MethodConfig(method=name, options=dict(options)), ingredients)
    if not with_support and needs_support(built):
        raise UserError(f"{path}: the method {name!r} needs annotated images; give a folder of them as --support")
    if with_support and not built.uses_support:
        raise UserError(f"{path}: the method {name!r} does not use annotated images; leave out --support")
    # What predicts lesions alone tells no classes apart, whatever its network can do.
    several = isinstance(built, SamplingMethod)
    classes, labels = (_told_apart(network, what) if several else () for what in ("classes", "labels"))
    return Member(path, loaded.facts, built, classes or LESION, labels)


def _told_apart(network: nn.Module, what: str) -> tuple[str, ...]:
    """The classes or labels of a network, which must be those of datasets where there are several."""
    names = tuple(getattr(network, what, ()))
    known = (*KINDS, "normal") if what == "labels" else KINDS
    if len(names) > 1 and (foreign := [name for name in names if name not in known]):
        raise ConfigError(
            f"{type(network).__name__}.{what}: {foreign[0]!r} is not among {', '.join(known)}, which datasets name"
        )
    return names


Bytes = NDArray[np.uint8]
CLASS_VALUES: Mapping[str, int] = {kind: LABEL_VALUES[kind] for kind in KINDS}  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """What is predicted of one image.

    Attributes:
        classes: probabilities of background and of each class, (1 + n_classes, H, W).
        lesion: probability of any lesion, (H, W).
        labels: probabilities of the image's labels, (n_labels,); empty of a network that gives none.
        entropy: of lesion against background, in bits, (H, W).
        disagreement: its part that several predictions' parting makes, (H, W).
        n_predictions: how many predictions these are the mean of.
    """

    classes: NDArray[np.float32]
    lesion: NDArray[np.float32]
    labels: NDArray[np.float32]
    entropy: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    n_predictions: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where a lesion is more probable than none, (H, W)."""
        return self.lesion > 0.5

    @property
    def class_map(self) -> Bytes:
        """The more probable class, 1 and up, wherever the mask has a lesion; background, 0, elsewhere; (H, W).

        Not the most probable of background and classes: where a network is sure of a lesion and not of its kind, each
        kind by itself is less probable than background, and every such lesion would be lost.
        """
        kinds: Bytes = (1 + self.classes[1:].argmax(0)).astype(np.uint8)
        return np.where(self.mask, kinds, np.uint8(0))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's scores.

    Attributes:
        record: the image.
        shows_lesion: whether its label map has one.
        scores: of the lesion mask.
        lesion_counts: pixels of lesion, (1, 4), as `count_pixels` counts.
        class_counts: of the classes, (n_classes, 4); None where a lesion's kind is unknown, or there is one class.
        label_probabilities: by label, of a network that gives any.
        entropy: mean over the image, in bits.
        disagreement: likewise.
    """

    record: Record
    shows_lesion: bool
    scores: Scores
    lesion_counts: NDArray[np.int64]
    class_counts: NDArray[np.int64] | None
    label_probabilities: Mapping[str, float]
    entropy: float
    disagreement: float


@dataclass(frozen=True, slots=True)
class Results:
    """A dataset's results.

    Attributes:
        classes: that the masks tell apart, background aside.
        labels: that the images were given.
        images: in the order in which they were added.
        lesion_histogram: of every pixel's lesion probability.
        class_histograms: by class, where there are several, of images whose lesions' kind is known.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    images: list[ImageResult] = field(default_factory=list)
    lesion_histogram: ProbabilityHistogram = field(default_factory=ProbabilityHistogram)
    class_histograms: dict[str, ProbabilityHistogram] = field(default_factory=dict)

    def add(self, record: Record, prediction: ImagePrediction, truth: Bytes) -> None:
        """Score what is predicted of an image against its label map (H, W)."""
        lesion = truth > 0
        self.lesion_histogram.add(prediction.lesion, lesion)
        kinds_known = len(self.classes) > 1 and not (truth == UNKNOWN).any()
        if kinds_known:
            for channel, name in enumerate(self.classes, start=1):
                histogram = self.class_histograms.setdefault(name, ProbabilityHistogram())
                histogram.add(prediction.classes[channel], truth == CLASS_VALUES[name])
        result = ImageResult(
            record,
            shows_lesion=bool(lesion.any()),
            scores=score(prediction.mask, lesion),
            lesion_counts=count_pixels(prediction.mask.astype(np.uint8), lesion.astype(np.uint8), 1),
            class_counts=self._class_counts(prediction, truth) if kinds_known else None,
            label_probabilities=dict(zip(self.labels, prediction.labels.tolist(), strict=True)),
            entropy=float(prediction.entropy.mean()),
            disagreement=float(prediction.disagreement.mean()),
        )
        self.images.append(result)

    def _class_counts(self, prediction: ImagePrediction, truth: Bytes) -> NDArray[np.int64]:
        channels = np.zeros(len(LABEL_VALUES), np.uint8)  # by value of a label map
        for channel, name in enumerate(self.classes, start=1):
            channels[CLASS_VALUES[name]] = channel
        return count_pixels(prediction.class_map, channels[truth], len(self.classes))


OnImage = Callable[[Record, ImagePrediction], None]


def predict_records(
    members: Sequence[Member],
    store: Store,
    records: Sequence[Record],
    device: torch.device,
    *,
    on_image: OnImage | None = None,
    progress: Progress | None = None,
) -> Results:
    """Predict every record by the members' mean, and score it.

    Args:
        members: one, or several as an ensemble; they have adapted.
        store: holds the records' pixels.
        records: which.
        device: where to compute.
        on_image: given what is predicted of each image.
        progress: given the number done and in all.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image; of several, the batch is halved.
    """
    results = Results(members[0].classes, members[0].labels)
    rows = {record.id: row for row, record in enumerate(store.records)}

    def predict(batch: Sequence[Record]) -> list[ImagePrediction]:
        pixels = store.images[[rows[record.id] for record in batch]]
        return predict_images(members, image_tensor(pixels).to(device))

    for batch, predictions in Batching(device).over(records, predict):
        for record, prediction in zip(batch, predictions, strict=True):
            results.add(record, prediction, np.asarray(store.label_maps[rows[record.id]]))
            if on_image is not None:
                on_image(record, prediction)
        if progress is not None:
            progress(len(results.images), len(records))
    return results


def predict_images(members: Sequence[Member], images: Tensor) -> list[ImagePrediction]:
    """What the members together predict of images (n, 3, H, W) in [0, 1]."""
    with torch.inference_mode():
        found = [prediction for member in members for prediction in member.predictions(images)]
        pooled = pool(found)
        logits, labels = pooled.prediction.classes.float(), pooled.prediction.labels
        parts = {
            "classes": logits.softmax(1),
            "lesion": lesion_logits(logits).sigmoid(),
            "labels": logits.new_zeros(len(images), 0) if labels is None else labels.float().softmax(1),
            "entropy": pooled.entropy,
            "disagreement": pooled.disagreement,
        }
        arrays = {name: part.float().cpu().numpy() for name, part in parts.items()}
    return [
        ImagePrediction(**{name: array[place] for name, array in arrays.items()}, n_predictions=len(found))
        for place in range(len(images))
    ]
