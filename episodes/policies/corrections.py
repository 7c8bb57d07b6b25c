"""Corrections: mistakes of a published dataset that are known and mended, each with the reason for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from episodes.policies.dropped import Curated, Dropped
from episodes.policies.names import ImageNames, require_known
from episodes.records import Label, Record

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
