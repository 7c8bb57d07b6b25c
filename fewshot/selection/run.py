"""`fewshot select`: from a folder of images without masks to those to annotate first."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes.duplicates import duplicate_groups, group_patients
from episodes.locks import only_process
from episodes.records import Record
from fewshot.devices import choose_device
from fewshot.prediction.inputs import Input, find_inputs
from fewshot.selection.candidates import find_candidates
from fewshot.selection.choice import By, choose, nearest_chosen
from fewshot.selection.description import Described, Describer, describe_files
from fewshot.selection.results import SELECTED, Chosen, require_free, write_selection
from fewshot.terminal.progress import Reporter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be selected.

    Attributes:
        images: a file, a folder or a pattern.
        budget: how many images to choose.
        by: what makes a choice good.
        metadata: a table of patients and labels; None for the one beside the images, if there is one.
        device: where to compute.
    """

    images: str
    budget: int
    by: By = "k-medoids"
    metadata: Path | None = None
    device: str = "auto"


def select_images(
    request: Request, describer: Describer, out: Path, reporter: Reporter, *, overwrite: bool = False
) -> Path:
    """Choose images, and write the table, the contact sheet and copies.

    Args:
        request: what from, and how many.
        describer: what images look like.
        out: the folder to write.
        reporter: shows progress.
        overwrite: replace an earlier selection.

    Returns:
        The table, `selected.csv`.

    Raises:
        UserError: if there is no image, none can be read, the table is none, or the folder holds something else.
    """
    require_free(out, overwrite=overwrite)
    with only_process(out):
        inputs = find_inputs(request.images, without=[out])
        if inputs.left_out:
            logger.info("%d files are left out: they look like masks", len(inputs.left_out))
        found = find_candidates(inputs, request.metadata)
        with reporter.step(f"describe {len(found)} images") as update:
            described = describe_files(list(found.values()), describer, choose_device(request.device), update)
        _say_what_is_unreadable(described, len(found))
        with reporter.step("select"):
            chosen = _chosen(found, described, request)
        with reporter.step("write"):
            title = f"{len(chosen)} of {len(described.places)} images to annotate"
            write_selection(out, chosen, len(described.places), title=title)
    return out / SELECTED


def _chosen(found: Mapping[Input, Record], described: Described, request: Request) -> list[Chosen]:
    inputs = [list(found)[place] for place in described.places]
    records = [found[item] for item in inputs]
    records = group_patients(records, duplicate_groups(described.thumbnails))
    if request.budget > len(records):
        logger.warning("%d images are all there are to choose from", len(records))
    order = choose(described.features, [record.patient for record in records], request.budget, request.by)
    of_rank = _stand_ins(described, order)
    return [
        Chosen(rank, inputs[index], records[index], [inputs[other] for other in of_rank[rank]])
        for rank, index in enumerate(order, start=1)
    ]


def _stand_ins(described: Described, order: Sequence[int]) -> Mapping[int, list[int]]:
    """By rank the images that a chosen one stands for, near to far; itself is the nearest."""
    rank_of, far = nearest_chosen(described.features, order)
    of_rank: dict[int, list[int]] = defaultdict(list)
    for index in np.lexsort((np.arange(len(far)), ~np.isin(np.arange(len(far)), order), far)).tolist():
        of_rank[int(rank_of[index]) + 1].append(index)
    return of_rank


def _say_what_is_unreadable(described: Described, asked: int) -> None:
    for reason in described.unreadable[:5]:
        logger.warning("left out: %s", reason)
    if described.unreadable:
        logger.warning("%d of %d images could not be read", len(described.unreadable), asked)
