"""How many images and patients there are, by label."""

from collections import Counter
from collections.abc import Mapping, Sequence

from episodes.records import LABEL_VALUES, Record


def count_labels(records: Sequence[Record]) -> dict[str, int]:
    """Count `images`, `patients`, and the images of each label."""
    labels = Counter(record.label for record in records)
    return {
        "images": len(records),
        "patients": len({record.patient_id for record in records}),
        **{label: labels[label] for label in LABEL_VALUES},
    }


def count_by_patient(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Count each patient's images by label; nothing where the dataset names no patients."""
    if not names_patients(records):
        return {}
    counts: dict[str, Counter[str]] = {}
    for record in sorted(records, key=lambda record: record.patient):
        counts.setdefault(record.patient, Counter())[record.label] += 1
    return {
        patient: {label: found[label] for label in LABEL_VALUES if found[label]} for patient, found in counts.items()
    }


def names_patients(records: Sequence[Record]) -> bool:
    """Whether a dataset says whose images they are: where it does not, each is a patient of its own name."""
    return any(record.patient != record.stem for record in records)


def with_total(published: Mapping[str, int]) -> dict[str, int]:
    """Add the number of images to the published numbers of each label.

    >>> with_total({"benign": 110, "malignant": 53, "patients": 160})
    {'images': 163, 'benign': 110, 'malignant': 53, 'patients': 160}
    """
    labels = [published[label] for label in LABEL_VALUES if label in published]
    return {**({"images": sum(labels)} if labels else {}), **published}
