"""What a dataset leaves out, and known mistakes that are corrected."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from episodes.errors import DatasetError
from episodes.records import Label, Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """An image that is not used.

    Attributes:
        id: the record's.
        reason: what it has in common with others that are dropped for it, such as `near-duplicate of an image kept`.
        detail: what is to be said of this one beyond that, such as the other's id; may be empty.
    """

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Curated:
    """What is left of a dataset.

    Attributes:
        records: those kept, in the order given.
        dropped: the others, in the order in which they were dropped.
    """

    records: tuple[Record, ...]
    dropped: tuple[Dropped, ...] = ()


def count_by_reason(dropped: Sequence[Dropped]) -> dict[str, int]:
    """How many images each reason cost, in the order of the reasons' first.

    >>> count_by_reason([Dropped("a", "Doppler"), Dropped("b", "Doppler")])
    {'Doppler': 2}
    """
    return dict(Counter(one.reason for one in dropped))


class ImageNames:
    """Finds records by id (`busi/benign (1)`), by the id's last part, or by file name with or without suffix.

    A file of several frames is named as a whole by its file's name.

    >>> from pathlib import Path
    >>> record = Record("busi", Path("benign/benign (1).png"), (), "benign", "benign (1)")
    >>> ImageNames([record]).ids(["benign (1)", "benign (1).png"], "list.txt")
    {'busi/benign (1)': 'benign (1).png'}
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._dataset = records[0].dataset if records else "the dataset"
        self._ids: dict[str, list[str]] = {}
        for record in records:
            for spelling in {record.id, record.id.partition("/")[2], record.image.name, record.image.stem}:
                self._ids.setdefault(spelling, []).append(record.id)

    def ids(self, names: Iterable[str], file: str) -> dict[str, str]:
        """The ids of the images named, each with its name in the file.

        Args:
            names: in any spelling.
            file: the file that they stand in, for the message.

        Raises:
            DatasetError: if there is no such image; it names the first three.
        """
        names = list(names)
        require_known(names, self._ids, f"images that {self._dataset} does not have", file)
        return {record_id: name for name in names for record_id in self._ids[name]}


def require_known(names: Iterable[str], known: Iterable[str], what: str, file: str) -> None:
    """Refuse names that are not known.

    Raises:
        DatasetError: names the first three, what they are, and the file that they stand in.
    """
    known = set(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DatasetError(f"{file}: names {what}: {', '.join(unknown[:3])}{more}; correct the names, or take them out")


EXCLUDED = "excluded by corrections"


@dataclass(frozen=True, slots=True)
class Relabel:
    """Another label for an image, and why."""

    label: Label
    reason: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name for a patient, which may be that of another one, and why."""

    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class Corrections:
    """What is wrong in a dataset, as far as it is known.

    Attributes:
        file: where the corrections stand, for messages.
        exclude: images that are not used, each with the reason.
        relabel: images with another label.
        rename_patients: patients with another name, by the name that the dataset gives them.
    """

    file: str
    exclude: Mapping[str, str] = field(default_factory=dict)
    relabel: Mapping[str, Relabel] = field(default_factory=dict)
    rename_patients: Mapping[str, Rename] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """What they say as JSON has it, wherever their file lies."""
        content = asdict(self)
        del content["file"]
        return content


def correct(records: Sequence[Record], corrections: Corrections) -> Curated:
    """Mend what is wrong.

    The masks of an image with another label take their class from it, also where they said it by colour.

    Args:
        records: of one dataset.
        corrections: of this dataset.

    Raises:
        DatasetError: if they name an image or a patient that the dataset does not have.
    """
    names, file = ImageNames(records), corrections.file
    excluded, relabelled = (names.ids(by_name, file) for by_name in (corrections.exclude, corrections.relabel))
    patients = {record.patient for record in records}
    require_known(corrections.rename_patients, patients, f"patients that {records[0].dataset} does not have", file)
    kept = tuple(
        _renamed(_relabelled(record, corrections.relabel.get(relabelled.get(record.id, ""))), corrections)
        for record in records
        if record.id not in excluded
    )
    dropped = [Dropped(record_id, EXCLUDED, corrections.exclude[name]) for record_id, name in excluded.items()]
    return Curated(kept, tuple(dropped))


def _relabelled(record: Record, relabel: Relabel | None) -> Record:
    return record if relabel is None else replace(record, label=relabel.label, mask_format="binary")


def _renamed(record: Record, corrections: Corrections) -> Record:
    rename = corrections.rename_patients.get(record.patient)
    return record if rename is None else replace(record, patient=rename.to)
