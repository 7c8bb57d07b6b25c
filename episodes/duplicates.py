"""Near-duplicate images, and what follows from them: their patients are one patient."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from episodes.records import Record

THUMBNAIL = 48  # pixels a side
_BLOCK = 1024


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to 48x48 by area averaging, whatever its aspect ratio.

    Args:
        image: grey values, (H, W).

    Returns:
        Grey values, (48, 48).
    """
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def duplicate_groups(images: NDArray[np.uint8], threshold: float = 0.99) -> list[list[int]]:
    """Group images that show the same, judged by the correlation of their 48x48 thumbnails.

    Two images are near-duplicates if Pearson's correlation of their thumbnails exceeds the threshold; groups
    are the connected components of that relation. An image of one grey value resembles none. Images of a
    sequence from one patient may well be near-duplicates, so inside a patient a group is no fault.

    Args:
        images: grey values, (images, H, W).
        threshold: least correlation, exclusive.

    Returns:
        Groups of two or more indices, sorted.

    >>> images = np.random.default_rng(0).integers(0, 255, (3, 48, 48), dtype=np.uint8)
    >>> images[2] = images[0] // 2
    >>> duplicate_groups(images)
    [[0, 2]]
    """
    count = len(images)
    if not count:
        return []
    vectors = np.stack([thumbnail(image) for image in images]).reshape(count, -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    # By blocks of rows: all correlations of 50,000 images at once would be 10 GB.
    pairs = [
        np.argwhere(vectors[start : start + _BLOCK] @ vectors[start:].T > threshold) + start
        for start in range(0, count, _BLOCK)
    ]
    rows, columns = np.concatenate(pairs).T
    return _components(rows, columns, count)


def group_patients(records: Sequence[Record], groups: Sequence[Sequence[int]]) -> list[Record]:
    """Make one patient of all patients that share a group of near-duplicates.

    So no group straddles a split, and a patient under two names is one again. Patients are merged within a
    dataset only: an image may also resemble one of another dataset, whose patients have a name of their own.

    Args:
        records: of one or several datasets.
        groups: indices into the records, as from `duplicate_groups`.

    Returns:
        The records in the same order; merged patients bear the smallest of their names.

    >>> from pathlib import Path
    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", patient=name) for name in "ab")
    >>> [record.patient for record in group_patients([a, b], [[0, 1]])]
    ['a', 'a']
    """
    patients = sorted({(record.dataset, record.patient) for record in records})
    numbers = {patient: number for number, patient in enumerate(patients)}
    links = [
        (
            numbers[records[first].dataset, records[first].patient],
            numbers[records[i].dataset, records[i].patient],
        )
        for group in groups
        for first, *others in _by_dataset(records, group)
        for i in others
    ]
    rows, columns = np.array(links, dtype=np.intp).reshape(-1, 2).T
    names = {patient: patient[1] for patient in patients}
    for component in _components(rows, columns, len(patients)):
        for number in component:  # patients are sorted, so the component's first has the smallest name
            names[patients[number]] = patients[component[0]][1]
    return [replace(record, patient=names[record.dataset, record.patient]) for record in records]


def _by_dataset(records: Sequence[Record], group: Sequence[int]) -> list[list[int]]:
    parts: dict[str, list[int]] = {}
    for index in group:
        parts.setdefault(records[index].dataset, []).append(index)
    return list(parts.values())


def _components(rows: NDArray[np.intp], columns: NDArray[np.intp], count: int) -> list[list[int]]:
    """List the connected components of two or more nodes, sorted."""
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    components: dict[int, list[int]] = {}
    for node, label in enumerate(labels.tolist()):
        components.setdefault(label, []).append(node)
    return [component for component in components.values() if len(component) > 1]
