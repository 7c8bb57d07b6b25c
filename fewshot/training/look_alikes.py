"""Who is taken to be one patient when parts are divided: more than the near-duplicates that a store knows of."""

from episodes.duplicates import group_patients, look_alike_groups
from episodes.records import Record
from episodes.store import Collection

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
