"""Who is judged: checkpoints as methods, several of them as one by their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines.prediction import Prediction
from episodes.episode import Support
from episodes.errors import UserError
from episodes.store import Collection
from fewshot.checkpoints import load_network
from fewshot.config import MethodConfig
from fewshot.memory.out_of_memory import within_memory
from fewshot.methods.contract import (
    Ingredients,
    Method,
    SamplingMethod,
    Sources,
    build_method,
    default_method,
    needs_support,
)
from fewshot.parsing import ConfigError

LESION = ("lesion",)
# Of what pixels can show, these are told apart in label maps.
KINDS = ("benign", "malignant")


@dataclass(frozen=True, slots=True)
class Member:
    """A checkpoint as a method.

    Attributes:
        path: of the checkpoint.
        facts: what it says of its training.
        method: the method.
        classes: that its masks tell apart, background aside.
        labels: that it gives whole images; none of most.
        adapted: what the method took from the support set.
    """

    path: Path
    facts: Mapping[str, Any]
    method: Method
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    adapted: Any = None

    @property
    def image_size(self) -> int:
        """Working size it was trained at."""
        return int(self.facts["image_size"])

    def after(self, support: Support | None) -> "Member":
        """The same member once it has adapted to a support set.

        Raises:
            NotEnoughMemoryError: if memory does not suffice.
        """
        with torch.inference_mode():
            return replace(self, adapted=within_memory(partial(self.method.adapt, support), f"{self.path}, adapting"))

    def predictions(self, images: Tensor) -> list[Prediction]:
        """One or more predictions of images (n, 3, H, W) in [0, 1]."""
        if isinstance(self.method, SamplingMethod):
            return self.method.sample(images, self.adapted)
        return [Prediction(self.method.segment(images, self.adapted))]


def load_members(
    checkpoints: Sequence[Path],
    method: str | None,
    options: Mapping[str, Any],
    device: torch.device,
    *,
    with_support: bool,
) -> list[Member]:
    """Load checkpoints, several of which are judged as one by their mean; none has adapted yet.

    Args:
        checkpoints: files, different ones.
        method: its name as in a benchmark; None for the one that goes with the network, or `fine-tuned` of a
            supervised network where there is a support set.
        options: of the method.
        device: where to compute.
        with_support: whether there are annotated images to adapt to.

    Raises:
        UserError: if they cannot be read or differ in what they predict, or the method does not fit.
    """
    repeated = [path for path in checkpoints if checkpoints.count(path) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: is given twice; an ensemble needs different checkpoints")
    members = [_load(path, method, options, device, with_support) for path in checkpoints]
    first = members[0]
    for other in members[1:]:
        for what in ("classes", "labels", "image_size"):
            own, others = getattr(first, what), getattr(other, what)
            if own != others:
                raise UserError(
                    f"{other.path}: predicts {_listed(others, what)}, and {first.path} {_listed(own, what)};"
                    " an ensemble's members must agree in that"
                )
    return members


def _listed(value: tuple[str, ...] | int, what: str) -> str:
    return f"at {value} pixels" if isinstance(value, int) else f"the {what} {', '.join(value) or 'none'}"


def _load(
    path: Path, method: str | None, options: Mapping[str, Any], device: torch.device, with_support: bool
) -> Member:
    network, loaded = load_network(path)
    name = method or default_method(loaded.facts["model"]["network"], network, tuned=with_support)
    ingredients = Ingredients(network.to(device), Sources(Collection([]), ()), device)
    built = build_method(MethodConfig(method=name, options=dict(options)), ingredients)
    if not with_support and needs_support(built):
        raise UserError(f"{path}: the method {name!r} needs annotated images; give a folder of them as --support")
    if with_support and not built.uses_support:
        raise UserError(f"{path}: the method {name!r} does not use annotated images; leave out --support")
    # What predicts lesions alone tells no classes apart, whatever its network can do.
    several = isinstance(built, SamplingMethod)
    classes, labels = (_told_apart(network, what) if several else () for what in ("classes", "labels"))
    return Member(path, loaded.facts, built, classes or LESION, labels)


def _told_apart(network: nn.Module, what: str) -> tuple[str, ...]:
    """The classes or labels of a network, which must be those of datasets where there are several."""
    names = tuple(getattr(network, what, ()))
    known = (*KINDS, "normal") if what == "labels" else KINDS
    if len(names) > 1 and (foreign := [name for name in names if name not in known]):
        raise ConfigError(
            f"{type(network).__name__}.{what}: {foreign[0]!r} is not among {', '.join(known)}, which datasets name"
        )
    return names
