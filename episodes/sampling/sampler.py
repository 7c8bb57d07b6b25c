"""Few-shot tasks as record ids: episode i is a pure function of (seed, i)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from episodes.errors import SamplingError
from episodes.records import Record, require_unique_ids
from episodes.sampling.streams import Streams

Class = Literal["lesion", "benign", "malignant"]
Pairing = Literal["within", "across"]

# How many episodes `specs` draws at once.
BLOCK = 2048


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode, by record ids: support (n_way, n_shot), query (n_query,); never pixels.

    Way w's class is w + 1 in masks, 0 is background.
    """

    index: int
    classes: tuple[Class, ...]
    support: tuple[tuple[str, ...], ...]
    query: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.support) != len(self.classes):
            raise ValueError(f"{len(self.support)} support sets for {len(self.classes)} classes")


# The records of one dataset that show one class, as sorted (patient, record ids) pairs.
_Pool = tuple[tuple[str, tuple[str, ...]], ...]


# What an episode draws from: one pool per way for the support, and one per way for the queries.
_Task = tuple[tuple[_Pool, ...], tuple[_Pool, ...]]


class EpisodeSampler:
    """An endless sequence of N-way K-shot episodes; `sampler[i]` depends on records, seed and i alone.

    So an episode is the same in any order, any process, after a resume, and however the records are ordered.

    An episode first chooses one of the class tuples, then one of the datasets (or pairs of datasets) that can
    serve it, all with equal chances. Every image of an episode comes from another patient, so support and
    query share none. A patient is drawn uniformly, then one of the patient's images that show the class: a
    patient with thirty images does not dominate. Each query shows one of the episode's classes, the ways
    taking turns from a random first. Images without a lesion are never drawn; lesions of unknown kind serve
    `lesion` alone.

    Args:
        records: of one or several datasets.
        n_shot: support images per way.
        n_query: query images per episode.
        classes: the class tuples to choose from: `(("lesion",),)` is 1-way; `(("benign",), ("malignant",))`
            1-way with either class; `(("benign", "malignant"),)` 2-way.
        seed: names the sequence.
        pairing: `within` draws support and query from one dataset, `across` from two different ones.

    Attributes:
        left_out: one line per dataset that has too few patients for a class tuple that others can serve.

    Raises:
        SamplingError: if no dataset can serve one of the class tuples; it counts the patients that are there
            and those needed.
        DatasetError: if two records share an id.

    >>> from pathlib import Path
    >>> records = [Record("busi", Path(f"{name}.png"), (), "benign", patient=name) for name in "abc"]
    >>> EpisodeSampler(records, n_shot=2, seed=1)[0]
    EpisodeSpec(index=0, classes=('lesion',), support=(('busi/b', 'busi/a'),), query=('busi/c',))
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        n_shot: int,
        n_query: int = 1,
        classes: Sequence[Sequence[Class]] = (("lesion",),),
        seed: int = 0,
        pairing: Pairing = "within",
    ) -> None:
        require_unique_ids(records)
        _check_request(n_shot, n_query, classes, pairing)
        self.n_shot = n_shot
        self.n_query = n_query
        self.classes = tuple(tuple(ways) for ways in classes)
        self.seed = seed
        self.pairing = pairing
        pools = _pools_by_dataset(records)
        left_out: list[str] = []
        tasks: list[_FlatTasks] = []
        for ways in self.classes:
            found, short = _tasks(ways, pools, n_shot, n_query, pairing)
            if not found:
                raise SamplingError(_impossible(ways, pairing, sorted(pools), short))
            tasks.append(_FlatTasks(found))
            left_out.extend(short)
        self._tasks = tuple(tasks)
        self.left_out = tuple(left_out)

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what distinguishes this sampler from others over the same records, as JSON values."""
        return {
            "n_shot": self.n_shot,
            "n_query": self.n_query,
            "classes": [list(ways) for ways in self.classes],
            "seed": self.seed,
            "pairing": self.pairing,
        }

    def __getitem__(self, index: int) -> EpisodeSpec:
        return next(self.specs(index, index + 1))

    def specs(self, start: int, stop: int) -> Iterator[EpisodeSpec]:
        """Yield episodes start to stop - 1, drawn in blocks: many together take a tenth of the time of each alone."""
        if start < 0:
            raise IndexError(f"episode {start}: the sequence is endless, indices start at 0")
        blocks = range(start, stop, BLOCK)
        return chain.from_iterable(self._block(first, min(first + BLOCK, stop)) for first in blocks)

    def _block(self, start: int, stop: int) -> list[EpisodeSpec]:
        """Draw consecutive episodes together, those of one class tuple at a time."""
        streams = Streams(self.seed, start, stop - start)
        chosen = streams.below(np.full(stop - start, len(self._tasks), np.uint64))
        specs: list[EpisodeSpec] = []
        for place, tasks in enumerate(self._tasks):
            rows = np.flatnonzero(chosen == place)
            support, query = tasks.draw(streams, rows, self.n_shot, self.n_query)
            indices = (start + row for row in rows.tolist())
            specs += map(EpisodeSpec, indices, repeat(self.classes[place]), support, query)
        return sorted(specs, key=attrgetter("index"))


class _FlatTasks:
    """The tasks of one class tuple, with all their pools in arrays, to draw many episodes at once.

    Pools lie one behind the other, and so do their patients' images: pool p has `sizes[p]` patients, the first of them
    at `starts[p]`, and the patient at place q has `counts[q]` images, the first of them at `offsets[q]`.
    """

    def __init__(self, tasks: Sequence[_Task]) -> None:
        pools = list({id(pool): pool for task in tasks for side in task for pool in side}.values())
        places = {id(pool): place for place, pool in enumerate(pools)}
        found = [[[places[id(pool)] for pool in side] for side in task] for task in tasks]
        self.support, self.query = np.array(found).swapaxes(0, 1)  # (n_tasks, n_way) each
        patients, images = zip(*chain.from_iterable(pools), strict=True)
        numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
        self.patients = np.array([numbers[patient] for patient in patients])
        self.sizes, self.counts = (np.array(list(map(len, parts)), np.uint64) for parts in (pools, images))
        self.starts, self.offsets = (
            np.cumsum(sizes).astype(np.intp) - sizes.astype(np.intp) for sizes in (self.sizes, self.counts)
        )
        self.ids = np.array(list(chain.from_iterable(images)), dtype=object)

    def draw(
        self, streams: Streams, rows: NDArray[np.intp], n_shot: int, n_query: int
    ) -> tuple[Iterator[tuple[tuple[str, ...], ...]], Iterator[tuple[str, ...]]]:
        """Draw the support and the queries of an episode from each of the streams in `rows`."""
        n_tasks, n_way = self.support.shape
        task = streams.below(np.full(len(rows), n_tasks, np.uint64), rows)
        taken = np.empty((n_way * n_shot + n_query, len(rows)), np.intp)
        turns = iter(range(len(taken)))

        def drawn(pools: NDArray[np.intp]) -> list[str]:
            return self._draw(pools, streams, rows, taken[: next(turns) + 1])

        support = [zip(*(drawn(self.support[task, way]) for _ in range(n_shot)), strict=True) for way in range(n_way)]
        first = streams.below(np.full(len(rows), n_way, np.uint64), rows)
        queries = [drawn(self.query[task, (first + turn) % n_way]) for turn in range(n_query)]
        return zip(*support, strict=True), zip(*queries, strict=True)

    def _draw(
        self, pools: NDArray[np.intp], streams: Streams, rows: NDArray[np.intp], taken: NDArray[np.intp]
    ) -> list[str]:
        """Draw one image from each pool, of a patient not yet taken, for which `taken` has its last row."""
        *before, patients = taken
        chosen, again = np.empty(len(pools), np.intp), np.arange(len(pools))
        while len(again):
            chosen[again] = self.starts[pools[again]] + streams.below(self.sizes[pools[again]], rows[again])
            patients[again] = self.patients[chosen[again]]
            again = again[np.any([row[again] == patients[again] for row in before], axis=0)] if before else again[:0]
        ids: list[str] = self.ids[self.offsets[chosen] + streams.below(self.counts[chosen], rows)].tolist()
        return ids


def _pools_by_dataset(records: Sequence[Record]) -> dict[str, dict[Class, _Pool]]:
    """Sort records into pools, datasets and patients by name, so that their order does not matter."""
    images: dict[str, dict[Class, dict[str, list[str]]]] = {}
    for record in sorted(records, key=lambda record: record.id):
        by_class = images.setdefault(record.dataset, {name: {} for name in get_args(Class)})
        if record.has_lesion:
            by_class["lesion"].setdefault(record.patient_id, []).append(record.id)
        if record.label == "benign" or record.label == "malignant":
            by_class[record.label].setdefault(record.patient_id, []).append(record.id)
    return {
        dataset: {
            name: tuple((patient, tuple(ids)) for patient, ids in sorted(by_patient.items()))
            for name, by_patient in by_class.items()
        }
        for dataset, by_class in sorted(images.items())
    }


def _tasks(
    ways: tuple[Class, ...],
    pools: Mapping[str, Mapping[Class, _Pool]],
    n_shot: int,
    n_query: int,
    pairing: Pairing,
) -> tuple[tuple[_Task, ...], list[str]]:
    """Return one class tuple's tasks, and a line for each way of a dataset that has too few patients."""
    support, query = {"support": n_shot}, {"query": -(-n_query // len(ways))}  # the most that one way gets
    within = pairing == "within"
    roles = [support | query] if within else [support, query]
    short = {name: [_shortages(name, pools[name], ways, needs) for needs in roles] for name in pools}
    tasks = tuple(
        (tuple(pools[giver][way] for way in ways), tuple(pools[asker][way] for way in ways))
        for giver in pools
        for asker in pools
        if (giver == asker) == within and not short[giver][0] and not short[asker][-1]
    )
    return tasks, [line for by_role in short.values() for lines in by_role for line in lines]


def _shortages(
    dataset: str, pools: Mapping[Class, _Pool], ways: tuple[Class, ...], needs: Mapping[str, int]
) -> list[str]:
    """Return a line for each way that could run out of patients.

    A patient with images of both classes may be taken by the other way, so the way needs one more for each.
    """
    lines = []
    patients = {way: {patient for patient, _ in pools[way]} for way in ways}
    for way, names in patients.items():
        others = {name for other in ways if other != way for name in patients[other]}
        parts = dict(needs)
        if shared := min(len(names & others), sum(needs.values()) * (len(ways) - 1)):
            parts["shared with the other class"] = shared
        count, needed = len(names), sum(parts.values())
        if count < needed:
            reasons = " + ".join(f"{part} {purpose}" for purpose, part in parts.items())
            plural = "patient" if count == 1 else "patients"
            lines.append(f"{dataset}, class {way}: {count} {plural}, {needed} needed ({reasons})")
    return lines


def _impossible(ways: tuple[Class, ...], pairing: Pairing, datasets: list[str], short: list[str]) -> str:
    task = f"no dataset can serve {len(ways)}-way episodes of {' and '.join(ways)}"
    if not datasets:
        return f"{task}: there are no records"
    if pairing == "across" and len(datasets) == 1:
        return f"{task}: pairing 'across' needs two datasets and there is only {datasets[0]}"
    return f"{task}: {'; '.join(short)}. Lower n_shot or n_query, or add records"


def _check_request(n_shot: int, n_query: int, classes: Sequence[Sequence[Class]], pairing: Pairing) -> None:
    for name, value in (("n_shot", n_shot), ("n_query", n_query)):
        if value < 1:
            raise SamplingError(f"{name} is {value}; it must be at least 1")
    if pairing not in get_args(Pairing):
        raise SamplingError(f"pairing is {pairing!r}; choose one of {', '.join(get_args(Pairing))}")
    if not classes:
        raise SamplingError('classes is empty; name at least one task, such as ("lesion",)')
    allowed = {("lesion",), ("benign",), ("malignant",), ("benign", "malignant"), ("malignant", "benign")}
    for ways in classes:
        if tuple(ways) not in allowed:
            raise SamplingError(
                f"classes has {ways!r}; a task is lesion, benign, malignant, or benign and malignant together"
            )
