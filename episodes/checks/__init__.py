"""The integrity of a dataset on disk: everything is decoded once, and whatever looks wrong is listed.

What is done about near-duplicates is in `episodes.policies`.
"""

from episodes.checks.check import check_dataset, check_records
from episodes.checks.findings import CheckReport, Finding
from episodes.checks.kinds import KINDS, Kind

__all__ = ["KINDS", "CheckReport", "Finding", "Kind", "check_dataset", "check_records"]
