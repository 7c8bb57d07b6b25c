"""Records without files, for tests of what never looks at pixels."""

from pathlib import Path

from hypothesis import strategies as st

from episodes.records import LABELS, Label, Record


def made_record(dataset: str, name: str, label: Label, patient: str) -> Record:
    return Record(dataset, Path(f"{name}.png"), (), label, patient)


def made_dataset(dataset: str, n_patients: dict[Label, int], images_per_patient: int = 1) -> list[Record]:
    """Patients with images of one label each, named such as `benign3`, their images `benign3-0`, ..."""
    return [
        made_record(dataset, f"{label}{patient}-{image}", label, f"{label}{patient}")
        for label, count in n_patients.items()
        for patient in range(count)
        for image in range(images_per_patient)
    ]


@st.composite
def any_records(draw: st.DrawFn, n_datasets: int = 2, n_patients: int = 12) -> list[Record]:
    """Datasets whose patients have one to four images each, of any labels, mixed within a patient."""
    label = st.sampled_from(LABELS)
    patients = st.lists(st.lists(label, min_size=1, max_size=4), min_size=1, max_size=n_patients)
    datasets = draw(st.lists(patients, min_size=1, max_size=n_datasets))
    return [
        made_record(f"dataset{d}", f"image{p}-{i}", label, f"patient{p}")
        for d, patients in enumerate(datasets)
        for p, labels in enumerate(patients)
        for i, label in enumerate(labels)
    ]
