"""Evaluate one method on one target: features once, then any number of support sets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from episodes.episode import Support, image_tensor, load_support
from episodes.metrics import Scores, score
from episodes.store import Collection, Progress, Store
from fewshot.features import Features
from fewshot.methods import EncodingMethod, Method

Encode = Callable[[Tensor], Features]


class EncodedTarget:
    """A target's images, and their features from the encoder that was last asked for.

    Args:
        store: the target.
        device: where to compute.
        batch_size: images at once; None for `default_batch_size`.
    """

    def __init__(self, store: Store, device: torch.device, batch_size: int | None = None) -> None:
        self.store = store
        self.collection = Collection([store])
        self.device = device
        self.batch_size = batch_size or default_batch_size(device)
        self.rows = {record.id: row for row, record in enumerate(store.records)}
        self._features: tuple[Encode, Features] | None = None

    def images(self, rows: Sequence[int]) -> Tensor:
        """Images (n, 3, H, W) in [0, 1], on the device."""
        return image_tensor(self.store.images[list(rows)]).to(self.device)

    def features(self, encode: Encode, progress: Progress | None = None) -> Features:
        """Features of all the target's images, row by row as in the store.

        They are kept for as long as the same `encode` is asked for.
        """
        if self._features is None or self._features[0] != encode:
            self._features = None  # frees the memory before the next encoder's features fill it
            with torch.inference_mode():
                self._features = (encode, self._encode(encode, progress))
        return self._features[1]

    def _encode(self, encode: Encode, progress: Progress | None) -> Features:
        count = len(self.rows)
        levels: tuple[Tensor, ...] = ()
        size = (0, 0)
        for rows in batched(range(count), self.batch_size):
            part = encode(self.images(rows))
            levels = levels or tuple(level.new_empty((count, *level.shape[1:])) for level in part.levels)
            for level, encoded in zip(levels, part.levels, strict=True):
                level[rows[0] : rows[-1] + 1] = encoded
            size = part.size
            if progress is not None:
                progress(rows[-1] + 1, count)
        return Features(levels, size)


def evaluate(
    method: Method,
    target: EncodedTarget,
    support: Sequence[str],
    queries: Sequence[str],
    *,
    masks: Tensor | None = None,
    cached: bool = True,
) -> list[Scores]:
    """Adapt a method to a support set once and score its masks of all queries.

    Args:
        method: what to evaluate.
        target: holds the records' pixels.
        support: ids of the support records, one way of lesions; empty for a method that uses none.
        queries: ids of the records to segment.
        masks: shown with the support images in place of their own, (1, n_shot, H, W), as a control.
        cached: whether a method with an encoder is given the target's features, which are computed at the first call;
            otherwise it is given the images, as a method without an encoder always is.

    Returns:
        The scores, in the order of the queries.
    """
    rows = [target.rows[record_id] for record_id in queries]
    support_set = load_support(target.collection, [support]) if support else None
    if support_set is not None:
        support_set = replace(support_set, masks=support_set.masks if masks is None else masks).to(target.device)
    features = None
    with torch.inference_mode():
        if cached and isinstance(method, EncodingMethod):
            features = target.features(method.encode)
        adapted = _adapt(method, target, support, support_set, features)
        scores = []
        for batch in batched(rows, target.batch_size):
            inputs: Tensor | Features = target.images(batch) if features is None else features.take(batch)
            predicted = lesion_masks(method.segment(inputs, adapted)).cpu().numpy()  # type: ignore[arg-type]
            truths = target.store.label_maps[batch] > 0
            scores += [score(mask, truth) for mask, truth in zip(predicted, truths, strict=True)]
    return scores


def lesion_masks(logits: Tensor) -> Tensor:
    """Where any class has a larger logit than background: boolean (n, H, W) of logits (n, 1 + n_way, H, W).

    The same as `argmax(1) > 0`, which takes a hundred times as long.

    >>> lesion_masks(torch.tensor([[[[0.0, 1.0, 1.0]], [[2.0, 1.0, 0.0]]]])).tolist()
    [[[True, False, False]]]
    """
    return logits[:, 1:].amax(1) > logits[:, 0]


def _adapt(
    method: Method,
    target: EncodedTarget,
    support: Sequence[str],
    support_set: Support | None,
    features: Features | None,
) -> Any:
    if features is None or support_set is None or not isinstance(method, EncodingMethod):
        return method.adapt(support_set)
    rows = [target.rows[record_id] for record_id in support]
    return method.adapt(support_set, features.take(rows).unsqueeze())


def default_batch_size(device: torch.device) -> int:
    """Images to segment at once: few on a CPU, whose caches hold the activations of few, else many."""
    return 4 if device.type == "cpu" else 32


def batched(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """Consecutive pieces of at most `size` items.

    >>> list(batched(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    return (list(items[start : start + size]) for start in range(0, len(items), size))
