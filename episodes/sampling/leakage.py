"""Leakage: patients and look-alikes that stand on both sides of a split."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from episodes.curation.near_duplicates import group_patients, look_alike_groups
from episodes.records import Record
from episodes.storage.store import Collection


@dataclass(frozen=True, slots=True)
class Crossing:
    """One patient with images in several parts: what is learned of them in one is no news in the other.

    Attributes:
        patient: their name, with that of the dataset.
        records: ids of their images by part.
    """

    patient: str
    records: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        """Such as `d/p1 in train (d/a and 2 more) and test (d/b)`."""
        return f"{self.patient} in {' and '.join(f'{part} ({_some(ids)})' for part, ids in self.records.items())}"


def find_crossings(records: Iterable[Record], parts: Mapping[str, str]) -> list[Crossing]:
    """List the patients who have images in several parts, by name.

    Near-duplicates count as well where they bear one patient's name, as those of a store do.

    Args:
        records: of one or several datasets; those that are in no part do not matter.
        parts: record id -> part.

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


# Correlation of thumbnails from which two images are taken to be of one patient. In BUS-UCLM and BUS-BRA, which name
# their patients, none of the 38 pairs above it are of two patients; in BUSI 342 images have such a look-alike.
LOOK_ALIKE = 0.9


def look_alikes_together(whole: Collection) -> list[Record]:
    """The records, patients that share look-alike images merged: BUSI shows many lesions several times, without ids."""
    of_patients: dict[str, Record] = {}
    for store in whole.stores:
        merged = group_patients(store.records, look_alike_groups(store.images, LOOK_ALIKE))
        of_patients |= {record.id: record for record in merged}
    return [of_patients[record.id] for record in whole.records]
