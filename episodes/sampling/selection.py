"""Choose a few of many images, in an order: the first K of a longer choice are the choice of K."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

By = Literal["k-medoids", "k-centres"]

FARTHEST = 2.0  # that two unit vectors can be from each other
_BLOCK = 256  # images compared with all others at a time: with 50,000 of them that makes 50 MB
_DECIMALS = 3  # of summed distances: nearer ones count as equal, so that rounding decides nothing


def choose(features: NDArray[np.float32], patients: Sequence[str], count: int, by: By = "k-medoids") -> list[int]:
    """Choose images that cover the space that all of them fill; return their indices, the most useful first.

    No patient is chosen twice while there is one of whom no image is, nor a third time while there is one of whom only
    one is. Of images that are as good, the first is chosen; all of them, if there are not more than `count`.

    Features are unit vectors, (n_images, n_values), each with its patient. `k-medoids` brings images near the chosen
    ones on average, `k-centres` the one that is farthest from them as near as may be.

    Raises:
        ValueError: if the counts differ.

    >>> angles = np.radians([0, 4, 8, 50, 80])
    >>> features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    >>> choose(features, ["a", "a", "b", "c", "d"], 4)
    [2, 3, 4, 0]
    >>> choose(features, ["a", "b", "c", "d", "e"], 3, "k-centres")
    [2, 4, 3]
    """
    if len(features) != len(patients):
        raise ValueError(f"{len(features)} images, and the patients of {len(patients)}")
    turns = _Turns(patients)
    order = _ORDERS[by](features, turns)
    return [next(order) for _ in range(min(count, len(features)))]


def nearest_chosen(
    features: NDArray[np.float32], chosen: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find the chosen image that stands for each image, by its place among them, and how far it is; both (n_images,).

    A chosen image stands for itself; of two that are as near, the one that was chosen first does.
    """
    far = np.concatenate([_distances(features[[index]], features) for index in chosen])
    far[np.arange(len(chosen)), chosen] = 0
    nearest = far.argmin(0)
    nearest[list(chosen)] = np.arange(len(chosen))  # also where another one shows the same
    return nearest, far[nearest, np.arange(len(features))]


class _Turns:
    """The images that may be chosen next, so that no patient has two more than another one who has images left.

    >>> turns = _Turns(["a", "a", "b"])
    >>> turns.take(0)
    >>> turns.open.tolist()
    [False, False, True]
    >>> turns.take(2)
    >>> turns.open.tolist()
    [False, True, False]
    """

    def __init__(self, patients: Sequence[str]) -> None:
        _, self._patient = np.unique(np.array(patients, dtype=str), return_inverse=True)
        self._taken = np.zeros(len(patients), bool)
        self._of_patient = np.zeros(len(patients), np.intp)  # by number of patient; there are not more than images

    @property
    def open(self) -> NDArray[np.bool_]:
        """Return which images may be chosen, (n_images,)."""
        counts = np.where(self._taken, len(self._taken), self._of_patient[self._patient])
        return np.asarray(~self._taken & (counts == counts.min(initial=len(counts))))

    def take(self, index: int) -> None:
        """Choose an image."""
        self._taken[index] = True
        self._of_patient[self._patient[index]] += 1


def _medoids(features: NDArray[np.float32], turns: _Turns) -> Iterator[int]:
    """Yield each time the image that most reduces the summed distance of all to the nearest chosen one.

    This is how PAM begins (BUILD; Kaufman and Rousseeuw, "Finding groups in data", 1990, section 2.4); what PAM swaps
    afterwards would break the order. Marginal gains only shrink as others are chosen, so that few images need
    be looked at again (lazy greedy: Minoux, 1978) and n images cost n^2 comparisons once, not for every choice.
    """
    nearest = np.full(len(features), FARTHEST, np.float32)
    gains = _marginal_gains(features, nearest, np.arange(len(features)))
    while True:
        index = _best(features, nearest, gains, turns.open)
        turns.take(index)
        yield index
        nearest = np.minimum(nearest, _distances(features[[index]], features)[0])
        nearest[index] = 0


def _best(
    features: NDArray[np.float32], nearest: NDArray[np.float32], gains: NDArray[np.float64], may: NDArray[np.bool_]
) -> int:
    """Find the image of the largest marginal gain; those of others are corrected in `gains` as far as needed for it."""
    known = np.zeros(len(features), bool)
    while True:
        known_best = gains[may & known].max(initial=-np.inf)
        waiting = np.flatnonzero(may & ~known & (gains >= known_best))
        if not len(waiting):
            return int(np.flatnonzero(may & known & (gains == known_best))[0])
        looked_at = waiting[np.argsort(-gains[waiting], kind="stable")[:_BLOCK]]
        gains[looked_at] = _marginal_gains(features, nearest, looked_at)
        known[looked_at] = True


def _marginal_gains(
    features: NDArray[np.float32], nearest: NDArray[np.float32], indices: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute by how much each of some images would reduce the summed distance to the nearest chosen one."""
    blocks = [indices[start : start + _BLOCK] for start in range(0, len(indices), _BLOCK)]
    sums = [np.maximum(nearest - _distances(features[block], features), 0).sum(1, dtype=np.float64) for block in blocks]
    return np.round(np.concatenate(sums), _DECIMALS)


def _centres(features: NDArray[np.float32], turns: _Turns) -> Iterator[int]:
    """Yield the most central image, then each time the one that is farthest from those chosen.

    At most twice as far from all as any choice could be (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985).
    """
    index = next(_medoids(features, turns))
    yield index
    nearest = np.full(len(features), FARTHEST, np.float32)
    while True:
        nearest = np.minimum(nearest, _distances(features[[index]], features)[0])
        nearest[index] = 0
        index = int(np.where(turns.open, np.round(nearest, _DECIMALS), -1).argmax())
        turns.take(index)
        yield index


_ORDERS: Mapping[By, Callable[[NDArray[np.float32], _Turns], Iterator[int]]] = {
    "k-medoids": _medoids,
    "k-centres": _centres,
}


def _distances(some: NDArray[np.float32], all_of_them: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute Euclidean distances of unit vectors, (n_some, n_all)."""
    squares: NDArray[np.float32] = 2 - 2 * (some @ all_of_them.T)
    return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
