"""Policies: what of a dataset is used and as what, one file for each of the decisions.

`near_duplicates` is not repeated here: it needs SciPy, for which `fewshot --help` does not wait.
"""

from episodes.policies.corrections import Corrections, Relabel, Rename, correct
from episodes.policies.curated_list import CuratedList, keep_listed
from episodes.policies.curating import curate, require_some
from episodes.policies.doppler import drop_doppler
from episodes.policies.dropped import Curated, Dropped, count_by_reason
from episodes.policies.policy import Doppler, Duplicates, Policy

__all__ = [
    "Corrections",
    "Curated",
    "CuratedList",
    "Doppler",
    "Dropped",
    "Duplicates",
    "Policy",
    "Relabel",
    "Rename",
    "correct",
    "count_by_reason",
    "curate",
    "drop_doppler",
    "keep_listed",
    "require_some",
]
