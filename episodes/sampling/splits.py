"""Splits by patient, stratified over labels; official folds; patients and look-alikes on both sides of a split."""

import json
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import fsum
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from episodes.curation.near_duplicates import group_patients, look_alike_groups
from episodes.errors import ManifestError, SamplingError
from episodes.io.files import read_text, write_text
from episodes.records import Record, records_hash, require_unique_ids
from episodes.sampling.manifest import require_same_records
from episodes.sampling.streams import Stream
from episodes.storage.store import Collection

VERSION = 1
FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.15, "test": 0.15})
# Of several draws of folds the most even one is taken: at most 16, as more gain next to nothing, and fewer of so many
# patients that each draw is even.
MOST_DRAWS, DRAWN_PATIENTS = 16, 4096
LEFT_OUT = "left-out"  # the part of images that the authors put into no fold: neither trained nor tested on
# Correlation of thumbnails from which two images are taken to be of one patient. In BUS-UCLM and BUS-BRA, which name
# their patients, none of the 38 pairs above it are of two patients; in BUSI 342 images have such a look-alike.
LOOK_ALIKE = 0.9

# part -> stratum -> how many images it still lacks; below zero where it has too many
Lacking = Mapping[str, Mapping[str, float]]
# Of what parts lack, a patient's images by stratum, the stratum being spread, and a stream: the patient's part.
Choose = Callable[[Lacking, Mapping[str, int], str, Stream], str]


@dataclass(frozen=True, slots=True)
class Split:
    """A split: the part, such as `train`, that each record id belongs to, and a hash of the records.

    The seed is what the split was drawn with; None where it was not drawn but given.
    """

    parts: Mapping[str, str]
    records: str
    seed: int | None

    def select(self, records: Sequence[Record], part: str) -> list[Record]:
        """Return the records of one part, in the order given."""
        return [record for record in records if self.parts[record.id] == part]


def split_records(records: Sequence[Record], fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Split:
    """Split into parts of about the given fractions of images, of each label of each dataset.

    A patient's images stay together. A label is in every part if there are as many patients as parts who have images of
    that label alone. The split depends on the seed and the set of records. The fractions, by part, are positive and add
    up to 1.

    Raises:
        SamplingError: if the fractions are not such, or there are too few patients to fill every part.

    >>> records = [Record("d", Path(f"{n}.png"), (), "benign", patient=str(n)) for n in range(20)]
    >>> sorted(Counter(split_records(records).parts.values()).items())
    [('test', 3), ('train', 14), ('val', 3)]
    """
    require_fractions(fractions)
    patients = _patients(records)
    part_of = _assign(patients, fractions, _draw_needy, Stream(seed, 0))
    return Split({record.id: part_of[record.patient_id] for record in records}, records_hash(records), seed)


def require_fractions(fractions: Mapping[str, float]) -> None:
    """Raise a `SamplingError` unless every part has a share, and together they are the whole."""
    if not fractions or not min(fractions.values()) > 0 or not abs(sum(fractions.values()) - 1) <= 1e-6:
        raise SamplingError(f"fractions are {dict(fractions)}; they must be positive and add up to 1")


def k_folds(records: Sequence[Record], n_folds: int, seed: int = 0) -> list[Split]:
    """Split for cross-validation: in split i the part `test` is the i-th of n equal parts, and the rest is `train`.

    What `split_records` promises holds here too. As all parts are equal, no patient is likelier in one than in
    another, so that here each is given where it fits best: several such folds are drawn, and the most even taken.

    Raises:
        SamplingError: if there are fewer than two folds, or too few patients to fill them.

    >>> records = [Record("d", Path(f"{n}.png"), (), "benign", patient=str(n)) for n in range(20)]
    >>> [len(split.select(records, "test")) for split in k_folds(records, 4)]
    [5, 5, 5, 5]
    """
    if n_folds < 2:
        raise SamplingError(f"n_folds is {n_folds}; it must be at least 2")
    patients = _patients(records)
    totals = sum(patients.values(), Counter[str]())
    shares = {str(fold): 1 / n_folds for fold in range(n_folds)}
    choose = partial(_choose_fitting, totals)
    n_draws = min(MOST_DRAWS, 1 + DRAWN_PATIENTS // len(patients)) if patients else 1
    draws = [_assign(patients, shares, choose, Stream(seed, draw)) for draw in range(n_draws)]
    fold_of = min(draws, key=lambda parts: _unevenness(parts, patients, totals))
    hashed = records_hash(records)
    return [
        Split({record.id: _part(fold_of[record.patient_id], fold) for record in records}, hashed, seed)
        for fold in shares
    ]


def _patients(records: Sequence[Record]) -> dict[str, Counter[str]]:
    """Count each patient's images by stratum, that is, by dataset and label; in an order of their own."""
    require_unique_ids(records)
    patients: dict[str, Counter[str]] = {}
    for record in sorted(records, key=lambda record: record.id):
        patients.setdefault(record.patient_id, Counter())[f"{record.dataset}/{record.label}"] += 1
    return patients


def _assign(
    patients: Mapping[str, Counter[str]], fractions: Mapping[str, float], choose: Choose, stream: Stream
) -> dict[str, str]:
    """Give each patient to a part, after iterative stratification (Sechidis et al., ECML PKDD 2011).

    The rarest label comes first, as it is the hardest to spread, and within it the patients with most images, so that
    those with few even out what is left. A SamplingError says that a part gets nobody.
    """
    n_patients = Counter(stratum for images in patients.values() for stratum in images)
    n_images = sum(patients.values(), Counter[str]())
    lacking = {part: {name: share * n_images[name] for name in n_images} for part, share in fractions.items()}
    held: dict[str, set[str]] = {part: set() for part in fractions}
    part_of: dict[str, str] = {}
    for stratum in sorted(n_patients, key=lambda name: (n_patients[name], name)):
        waiting = [name for name in sorted(patients) if stratum in patients[name] and name not in part_of]
        waiting = sorted(stream.shuffled(waiting), key=lambda name: -patients[name].total())
        for n_left, patient in zip(range(len(waiting), 0, -1), waiting, strict=True):
            without = [part for part in fractions if stratum not in held[part]]
            parts = without if len(without) >= n_left else list(fractions)
            part = part_of[patient] = choose(
                {part: lacking[part] for part in parts}, patients[patient], stratum, stream
            )
            held[part] |= patients[patient].keys()
            for name, count in patients[patient].items():
                lacking[part][name] -= count
    for part in fractions:
        if not held[part]:
            raise SamplingError(f"part {part!r} got no patient: {len(patients)} patients, {len(fractions)} parts")
    return part_of


def _draw_needy(lacking: Lacking, images: Mapping[str, int], stratum: str, stream: Stream) -> str:
    """Draw a part with odds of what it lacks of a stratum, among those that lack half of each of the images.

    Were the neediest always served, the patients with many images would be in the largest part under every seed.
    Where no part lacks that much, the one that lacks most altogether has to take them.
    """
    odds = {
        part: lack[stratum]
        for part, lack in lacking.items()
        if all(lack[name] >= count / 2 for name, count in images.items())
    }
    if not odds:
        # Exact sums: the built-in one rounds differently from one version of Python to another.
        return max(lacking, key=lambda part: fsum(lacking[part].values()))
    reach = list(accumulate(odds.values()))
    return list(odds)[bisect(reach, stream.below(2**32) / 2**32 * reach[-1])]


def _choose_fitting(
    totals: Mapping[str, int],
    lacking: Lacking,
    images: Mapping[str, int],
    stratum: str,  # noqa: ARG001 - a patient has to fit with all labels at once
    stream: Stream,
) -> str:
    """Choose the part whose shares of all strata come closest to their due (least squares); drawn among equals."""
    gains = {
        part: fsum((2 * lack[name] - count) * count / totals[name] ** 2 for name, count in images.items())
        for part, lack in lacking.items()
    }
    best = [part for part, gain in gains.items() if gain == max(gains.values())]
    return best[stream.below(len(best))]


def _unevenness(
    part_of: Mapping[str, str], patients: Mapping[str, Mapping[str, int]], totals: Mapping[str, int]
) -> float:
    """Sum over equal parts and strata how far the parts' shares are from equal."""
    held: dict[str, Counter[str]] = {}
    for patient, part in part_of.items():
        held.setdefault(part, Counter()).update(patients[patient])
    return fsum(abs(counts[name] / total - 1 / len(held)) for counts in held.values() for name, total in totals.items())


class _SplitFile(BaseModel):
    """The JSON form of a split."""

    model_config = ConfigDict(extra="forbid")

    format: str
    version: int
    records: str
    seed: int | None
    parts: dict[str, list[str]]


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON, completely or not at all; the records of each part are listed by id."""
    ids: dict[str, list[str]] = {}
    for record_id, part in sorted(split.parts.items()):
        ids.setdefault(part, []).append(record_id)
    content = {"format": "fewshot-split", "version": VERSION, "records": split.records, "seed": split.seed}
    write_text(path, json.dumps(content | {"parts": ids}, indent=1) + "\n")


def read_split(path: Path, records: Sequence[Record]) -> Split:
    """Read a split of the records at hand, in whatever order these are.

    Raises:
        ManifestError: if the file is missing, not a split of a known version, or belongs to other records.
    """
    try:
        file = _SplitFile.model_validate_json(read_text(path, "split"))
    except ValidationError as error:
        raise ManifestError(f"{path}: not a split, or a damaged one; write it again") from error
    if (file.format, file.version) != ("fewshot-split", VERSION):
        raise ManifestError(
            f"{path}: is {file.format} version {file.version}; expected was fewshot-split version {VERSION}"
        )
    parts = {record_id: part for part, ids in file.parts.items() for record_id in ids}
    require_same_records(path, file.records, parts, records)
    if sorted(record_id for ids in file.parts.values() for record_id in ids) != sorted(r.id for r in records):
        raise ManifestError(f"{path}: does not name each record exactly once; write it again")
    return Split(parts, file.records, file.seed)


def official_folds(records: Sequence[Record], n_folds: int) -> dict[str, Split]:
    """Return the splits of the official partition into so many folds: `test` is one fold, and `train` the others.

    BUS-BRA (Gomez-Flores et al. 2024) has one of 5 and one of 10 folds, whose files also choose, within what is not
    tested on, what to validate on. That choice is not taken over: it puts images of more than 200 patients on both
    sides. A record's fold is its `split`, or an extra fact such as `10-fold`.

    The splits are in the order of the folds' names, by which the authors call them. Nobody vouches for their patients:
    see `find_crossings`.

    Raises:
        SamplingError: if the records are of several datasets, or do not state exactly so many folds.
    """
    stated = _stated_folds(records, n_folds)
    names = sorted(set(stated.values()), key=lambda name: (len(name), name))
    hashed = records_hash(records)
    return {
        name: Split({record.id: _part(stated.get(record.id), name) for record in records}, hashed, None)
        for name in names
    }


def without_fold(split: Split) -> list[str]:
    """List the ids of the records that the authors put into no fold."""
    return sorted(record_id for record_id, part in split.parts.items() if part == LEFT_OUT)


def _part(fold: str | None, tested: str) -> str:
    if fold is None:
        return LEFT_OUT
    return "test" if fold == tested else "train"


def _stated_folds(records: Sequence[Record], n_folds: int) -> Mapping[str, str]:
    """Map record ids to folds, from the first place that states so many."""
    places = (
        {record.id: record.split for record in records if record.split},
        {record.id: fold for record in records if (fold := record.extra.get(f"{n_folds}-fold"))},
    )
    datasets = sorted({record.dataset for record in records})
    for place in places:
        if len(set(place.values())) == n_folds and len(datasets) == 1:
            return place
    raise SamplingError(
        f"{', '.join(datasets)}: no official partition into {n_folds} folds; BUS-BRA alone has one of 5 and one of 10,"
        " and --folds makes any number of any datasets"
    )


@dataclass(frozen=True, slots=True)
class Crossing:
    """One patient, named with the dataset, who has images in several parts, so that one part tells of another."""

    patient: str
    records: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        """Such as `d/p1 in train (d/a and 2 more) and test (d/b)`."""
        return f"{self.patient} in {' and '.join(f'{part} ({_some(ids)})' for part, ids in self.records.items())}"


def find_crossings(records: Iterable[Record], parts: Mapping[str, str]) -> list[Crossing]:
    """List the patients who have images in several parts, by name; records that are in no part do not matter.

    Near-duplicates count as well where they bear one patient's name, as those of a store do.

    >>> from pathlib import Path
    >>> a, b, c = (Record("d", Path(f"{name}.png"), (), "benign", patient) for name, patient in ("ap", "bp", "cq"))
    >>> [str(one) for one in find_crossings([a, b, c], {"d/a": "train", "d/b": "test", "d/c": "test"})]
    ['d/p in train (d/a) and test (d/b)']
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for record in records:
        if record.id in parts:
            found[record.patient_id].setdefault(parts[record.id], []).append(record.id)
    return [Crossing(patient, sides) for patient, sides in sorted(found.items()) if len(sides) > 1]


def _some(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"


def look_alikes_together(whole: Collection) -> list[Record]:
    """Merge patients that share look-alike images: BUSI shows many lesions several times, without patient ids."""
    of_patients: dict[str, Record] = {}
    for store in whole.stores:
        merged = group_patients(store.records, look_alike_groups(store.images[:], LOOK_ALIKE))
        of_patients |= {record.id: record for record in merged}
    return [of_patients[record.id] for record in whole.records]
