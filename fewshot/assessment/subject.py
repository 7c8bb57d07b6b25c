"""Who is judged, and on which images: checkpoints as methods, and the records that none of them was trained on."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.prediction import Prediction
from episodes.episode import Support
from episodes.errors import UserError
from episodes.records import Record
from episodes.store import Collection, Store
from fewshot.checkpoints import load_network
from fewshot.config import MethodConfig
from fewshot.methods import Ingredients, Method, SamplingMethod, Sources, build_method, default_method, needs_support

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A checkpoint as a method that has adapted.

    Attributes:
        path: of the checkpoint.
        facts: what it says of its training.
        method: the method.
        adapted: what it took from the support set.
        classes: that its masks tell apart, background aside.
        labels: that it gives whole images; none of most.
    """

    path: Path
    facts: Mapping[str, Any]
    method: Method
    adapted: Any
    classes: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def image_size(self) -> int:
        """Working size it was trained at."""
        return int(self.facts["image_size"])

    def predictions(self, images: Tensor) -> list[Prediction]:
        """One or more predictions of images (n, 3, H, W) in [0, 1]."""
        if isinstance(self.method, SamplingMethod):
            return self.method.sample(images, self.adapted)
        return [Prediction(self.method.segment(images, self.adapted))]


def load_members(
    checkpoints: Sequence[Path],
    method: str | None,
    options: Mapping[str, Any],
    support: Support | None,
    device: torch.device,
) -> list[Member]:
    """Load checkpoints, several of which are judged as one by their mean, and adapt them.

    Args:
        checkpoints: files.
        method: its name as in a benchmark; None for the one that goes with the network, or `fine-tuned` of a
            supervised network where a support set is given.
        options: of the method.
        support: annotated images to adapt to.
        device: where to compute.

    Raises:
        UserError: if they cannot be read or differ in what they predict, or the method does not fit.
    """
    members = [_load(path, method, options, support, device) for path in checkpoints]
    first = members[0]
    for other in members[1:]:
        for what in ("classes", "labels", "image_size"):
            own, others = getattr(first, what), getattr(other, what)
            if own != others:
                raise UserError(
                    f"{other.path}: its {what} are {others}, those of {first.path} {own}; an ensemble needs equal ones"
                )
    return members


def _load(
    path: Path, method: str | None, options: Mapping[str, Any], support: Support | None, device: torch.device
) -> Member:
    network, loaded = load_network(path)
    name = method or default_method(loaded.facts["model"]["network"], network, tuned=support is not None)
    ingredients = Ingredients(network.to(device), Sources(Collection([]), ()), device)
    built = build_method(MethodConfig(method=name, options=dict(options)), ingredients)
    if support is None and needs_support(built):
        raise UserError(f"{path}: the method {name!r} needs annotated images; give a folder of them as --support")
    if support is not None and not built.uses_support:
        raise UserError(f"{path}: the method {name!r} does not use annotated images; leave out --support")
    with torch.inference_mode():
        adapted = built.adapt(support)
    classes, labels = (tuple(getattr(network, attribute, ())) for attribute in ("classes", "labels"))
    return Member(path, loaded.facts, built, adapted, classes or ("lesion",), labels)


def unseen_records(store: Store, members: Sequence[Member], part: str) -> list[Record]:
    """The records to judge on: `all`, or of a dataset that a checkpoint was trained on those that it never saw.

    Raises:
        UserError: if a checkpoint was trained on all of the dataset, or holds a test part of other files.
    """
    records = list(store.records)
    if part == "all":
        return records
    name = records[0].dataset
    for member in members:
        if name not in member.facts["sources"]:
            continue
        test = set(member.facts.get("test_ids", ()))
        of_dataset = {record_id for record_id in test if record_id.split("/")[0] == name}
        if not of_dataset:
            raise UserError(
                f"{member.path}: was trained on all of {name}, so that its scores there would mean nothing; train with"
                " test_share, judge it on another dataset, or give --part all to do it nonetheless"
            )
        if foreign := of_dataset - {record.id for record in store.records}:
            raise UserError(
                f"{member.path}: its test part of {name} has {len(foreign)} images that are not here, such as"
                f" {min(foreign)}; give the folder that it was trained on, or another --name if it is another dataset"
            )
        records = [record for record in records if record.id in of_dataset]
    if not records:
        raise UserError(f"{name}: the checkpoints' test parts have no image in common; judge them one by one")
    logger.info("%s: judged on %d of %d images", name, len(records), len(store.records))
    return records
