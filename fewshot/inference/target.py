"""One method on one target of a benchmark: features once, then any number of support sets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images.spacing import Spacing
from episodes.parallel import Progress
from episodes.sampling.episode import Support, class_mask, image_tensor, load_support
from episodes.sampling.sampler import Class
from episodes.scoring.mask_scores import Surface, surface_pixels
from episodes.storage.store import Collection, Store
from fewshot.devices import Batching, within_memory
from fewshot.features import FEATURE_MEMORY, Features, SpilledFeatures, release_pages, room_for
from fewshot.inference.loading import adapt_method
from fewshot.inference.predictor import AdaptedMethod, Predictor
from fewshot.methods.contract import EncodingMethod, Method
from fewshot.results.rows import Judgement, judge, working_spacing

Encode = Callable[[Tensor], Features]
# True surfaces that are kept with their k-d trees, of some 10 kB each.
SURFACES = 1024


@dataclass(frozen=True, slots=True)
class Task:
    """A support set and the queries to segment with it, at one number of shots."""

    support: tuple[str, ...]  # ids of the support records, one way; empty for none
    queries: tuple[str, ...]  # ids of the records to segment
    masks: Tensor | None = None  # shown with the support images in place of their own, (1, n_shot, H, W), as a control
    asked: Class = "lesion"  # what is to be segmented


class EncodedTarget:
    """A target's images, and their features from the encoder that was last asked for.

    Args:
        store: the target.
        device: where to compute.
        batch_size: images at once; None for `default_batch_size`. It is halved when memory runs out.
        support: the dataset that support images come from; None for the target itself.
        memory: how much of features may be held in memory, on the device, in bytes; more are kept on disk.
        spill_folder: where that is; None for the folder that the store lies in.

    Attributes:
        encode_seconds: what encoding one image took, the last time that features were computed.
    """

    def __init__(
        self,
        store: Store,
        device: torch.device,
        batch_size: int | None = None,
        support: Store | None = None,
        memory: int = FEATURE_MEMORY,
        spill_folder: Path | None = None,
    ) -> None:
        self.store = store
        self.collection = Collection([store] if support is None else [store, support])
        self.device = device
        self.batching = Batching(device, batch_size)
        self.memory = memory
        self.spill_folder = spill_folder or store.folder.parent
        self.rows = {record.id: row for row, record in enumerate(store.records)}
        self.encode_seconds = 0.0
        self._features: tuple[Encode, Features | SpilledFeatures] | None = None
        self._adapted: tuple[Any, dict[tuple[str, Class], Any]] | None = None
        self.surface = lru_cache(SURFACES)(lambda row, asked: Surface(surface_pixels(self.truth(row, asked))))

    def images(self, rows: Sequence[int]) -> Tensor:
        """Read images (n, 3, H, W) in [0, 1], on the device."""
        images = image_tensor(self.store.images[list(rows)]).to(self.device)
        release_pages(self.store.images.mapped)
        return images

    def truth(self, row: int, asked: Class) -> NDArray[np.bool_]:
        """Read where an image shows what is asked for, (H, W)."""
        mask = class_mask(np.asarray(self.store.label_maps[row]), asked)
        release_pages(self.store.label_maps.mapped)
        return mask

    def spacing(self, row: int) -> Spacing | None:
        """Return millimetres from pixel to pixel at the working size, where they are known."""
        height, width = self.store.label_maps.shape[1:]
        return working_spacing(self.store.records[row].spacing, self.store.original_sizes[row], (height, width))

    def features(self, encode: Encode, progress: Progress | None = None) -> Features | SpilledFeatures:
        """Return features of all the target's images, row by row as in the store.

        They are kept for as long as the same `encode` is asked for.

        Raises:
            StorageError: if they fit neither in memory nor on disk.
            NotEnoughMemoryError: if memory does not suffice to encode a single image.
        """
        if self._features is None or self._features[0] != encode:
            self.forget_features()  # before the next encoder's fill the memory
            began = perf_counter()
            with torch.inference_mode():
                self._features = (encode, self._encode(encode, progress))
            self.encode_seconds = (perf_counter() - began) / len(self.rows)
        return self._features[1]

    def forget_features(self) -> None:
        """Free their memory, or their place on disk, and that of what was learned of them."""
        self._features = self._adapted = None

    def adapted(self, method: Any, task: Task) -> Any:
        """Adapt a method that has a `join`, once to each image, for as long as the same method asks."""
        features = self.features(method.encode)
        if self._adapted is None or self._adapted[0] is not method:
            self._adapted = (method, {})
        known = self._adapted[1]
        for record_id in task.support:
            if (record_id, task.asked) not in known:
                support = _load_support(self, replace(task, support=(record_id,)))
                taken = features.take([self.rows[record_id]])
                known[record_id, task.asked] = adapt_method(method, support, taken)
        return method.join([known[record_id, task.asked] for record_id in task.support])

    def _encode(self, encode: Encode, progress: Progress | None) -> Features | SpilledFeatures:
        count = len(self.rows)
        kept: Features | SpilledFeatures | None = None
        for rows, part in self.batching.over(range(count), lambda rows: encode(self.images(rows))):
            kept = room_for(part, count, self.memory, self.spill_folder) if kept is None else kept
            kept.put(rows[0], part)
            if progress is not None:
                progress(rows[-1] + 1, count)
        if kept is None:
            raise ValueError("a store without images has no features")
        return kept


@dataclass(frozen=True, slots=True)
class Segmented:
    """One query as a method sees it."""

    id: str  # of the record
    row: int  # its row in the target's store
    mask: NDArray[np.bool_]  # where the method sees what is asked for, (H, W)
    probability: NDArray[np.float32]  # of it, (H, W)


@dataclass(slots=True)
class Seconds:
    """The time that a method took, in seconds."""

    adapt: float = 0.0  # to adapt, once for every task
    segment: float = 0.0  # to segment, all queries together; encoding included where it is not shared


def segment_queries(
    method: Method, target: EncodedTarget, task: Task, *, cached: bool = True, seconds: Seconds | None = None
) -> Iterator[Segmented]:
    """Adapt a method to a support set once and segment all queries, in their order.

    With `cached`, a method with an encoder is given the target's features, which are computed at the first call;
    otherwise it is given the images, as a method without an encoder always is. What adapting and segmenting take is
    added to `seconds`.

    Raises:
        NotEnoughMemoryError: if memory does not suffice to adapt, or to segment a single image.
        StorageError: if the features fit neither in memory nor on disk.
    """
    seconds = seconds or Seconds()
    shared = bool(task.support) and all(record_id in target.rows for record_id in task.support)
    joins = cached and shared and task.masks is None and getattr(method, "join", None) is not None
    support = None if joins else _load_support(target, task)
    with torch.inference_mode():
        features = target.features(method.encode) if cached and isinstance(method, EncodingMethod) else None

        def adapt() -> Any:
            if joins:
                return target.adapted(method, task)
            if features is None or not shared:
                return adapt_method(method, support)
            return adapt_method(method, support, features.take([target.rows[one] for one in task.support]))

        began = perf_counter()
        adapted = within_memory(adapt, f"{target.device}, adapting to {len(task.support)} images")
        seconds.adapt += perf_counter() - began
    predictor = Predictor([AdaptedMethod(method, adapted)], target.store.size[0], target.batching)
    rows = [target.rows[record_id] for record_id in task.queries]

    def predict(batch: list[tuple[str, int]]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        taken = [row for _, row in batch]
        return predictor.masks(target.images(taken) if features is None else features.take(taken))

    for batch, found in predictor.over(list(zip(task.queries, rows, strict=True)), predict):
        for (query, row), mask, probability in zip(batch, *found, strict=True):
            yield Segmented(query, row, mask, probability)
    seconds.segment += predictor.seconds


def evaluate(
    method: Method, target: EncodedTarget, task: Task, *, cached: bool = True, seconds: Seconds | None = None
) -> list[Judgement]:
    """Judge a method's masks of a task, in the order of the queries; the arguments are those of `segment_queries`."""
    return [
        judge(
            query.mask,
            target.truth(query.row, task.asked),
            query.probability,
            target.spacing(query.row),
            target.surface(query.row, task.asked),
        )
        for query in segment_queries(method, target, task, cached=cached, seconds=seconds)
    ]


def _load_support(target: EncodedTarget, task: Task) -> Support | None:
    """Load a task's support set onto the target's device; None of a task that has none."""
    if not task.support:
        return None
    support = load_support(target.collection, [task.support], [task.asked])
    return replace(support, masks=support.masks if task.masks is None else task.masks).to(target.device)
