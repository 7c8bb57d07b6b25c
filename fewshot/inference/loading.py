"""Checkpoints as methods: one, or several that predict as an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from episodes.errors import UserError
from episodes.sampling.episode import Support
from episodes.storage.store import Collection
from fewshot.checkpoints import load_network
from fewshot.config.parsing import ConfigError
from fewshot.devices import Batching, choose_device, placed, within_memory
from fewshot.features import Features
from fewshot.inference.out_of_distribution import NoveltyDetector, load_novelty_detector
from fewshot.inference.predictor import KINDS, AdaptedMethod, Predictor
from fewshot.methods.contract import (
    Ingredients,
    Method,
    SamplingMethod,
    Sources,
    build_method,
    default_method,
    needs_support,
)

LESION = ("lesion",)


@dataclass(frozen=True, slots=True)
class LoadedMethod:
    """A network as a method that has not adapted yet."""

    method: Method
    name: str  # of the method, as in a benchmark
    image_size: int  # working size: images are stretched to a square of so many pixels a side
    device: torch.device  # where it computes
    # Tells images that are unlike those of the training; None where these are not known.
    novelty_detector: NoveltyDetector | None = None
    path: Path | None = None  # of the checkpoint; None of a network that was never trained
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the checkpoint says of its training
    classes: tuple[str, ...] = LESION  # that the masks of an ensemble's member tell apart, background aside
    labels: tuple[str, ...] = ()  # that it gives whole images; none of most

    def adapt(
        self,
        support: Support | None,
        features: Features | None = None,
        *,
        batch_size: int | None = None,
        doing: str | None = None,
    ) -> Predictor:
        """Adapt to a support set. Nothing is kept here: one loaded method serves any number of support sets.

        Features (n_shot, ...) are those of the support images, of a method that encodes, where they are at hand.
        `batch_size` images are predicted at once, or what suits the device; `doing` says where and what, for the error.

        Raises:
            UserError: if memory does not suffice, or the method cannot use the support set.
        """
        support = None if support is None else support.to(self.device)
        n_images = 0 if support is None else support.images.shape[1]
        detector = self.novelty_detector
        with torch.inference_mode():
            adapt = partial(adapt_method, self.method, support, features)
            adapted = within_memory(adapt, doing or f"{self.device}, adapting to {n_images} images")
            if detector is not None and support is not None:
                shared = features is not None and detector.shares_encoder(self.method)
                levels = features.levels if features is not None and shared else None
                detector = detector.including(levels or detector.encoder(support.images.flatten(0, 1)))
        members = [AdaptedMethod(self.method, adapted)]
        return Predictor(members, self.image_size, Batching(self.device, batch_size), detector)


def adapt_method(method: Method, support: Support | None, features: Features | None = None) -> Any:
    """Adapt a method to a support set on its device, from features (n_shot, ...) of the images where they are given."""
    if features is None:
        return method.adapt(support)
    return method.adapt(support, features.unsqueeze())  # type: ignore[call-arg]


def as_method(
    network: nn.Module, name: str, image_size: int, device: torch.device, options: Mapping[str, Any]
) -> LoadedMethod:
    """Build a method of a network, which is moved to the device.

    Raises:
        ConfigError: if the method or its options do not fit.
    """
    built = build_method(name, options, without_sources(network, device))
    return LoadedMethod(built, name, image_size, device)


def without_sources(network: nn.Module, device: torch.device) -> Ingredients:
    """Return what methods of a checkpoint alone are made of; the network is moved to the device."""
    return Ingredients(placed(network, device), Sources(Collection([]), ()), device)


def load_method(
    checkpoint: Path,
    name: str | None,
    device: str,
    options: Mapping[str, Any],
    image_size: int | None = None,
    trust: Sequence[str] = (),
) -> LoadedMethod:
    """Load a checkpoint as a method.

    Without a name, it is the method that goes with the network; without a working size, the one that the network was
    trained at. The device is `auto`, `cpu`, `cuda`, ...; `trust` is that of `load_network`.

    Raises:
        UserError: if the file is missing or damaged, or the method or its options do not fit.
    """
    network, loaded = load_network(checkpoint, trust)
    name = name or default_method(loaded.facts["model"]["network"], network)
    place = choose_device(device)
    found = as_method(network, name, image_size or int(loaded.facts["image_size"]), place, options)
    detector = load_novelty_detector(checkpoint, network, place)
    return replace(found, novelty_detector=detector, path=checkpoint, facts=loaded.facts)


def load_ensemble(
    checkpoints: Sequence[Path],
    method: str | None,
    options: Mapping[str, Any],
    device: torch.device,
    *,
    with_support: bool,
    trust: Sequence[str] = (),
) -> list[LoadedMethod]:
    """Load checkpoints, several of which are judged as one by their mean; none has adapted yet.

    Without a name, the method is the one that goes with the network, or `fine-tuned` of a supervised network where
    there is a support set. `trust` is that of `load_network`.

    Raises:
        UserError: if they cannot be read or differ in what they predict, or the method does not fit.
    """
    repeated = [path for path in checkpoints if checkpoints.count(path) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: is given twice; an ensemble needs different checkpoints")
    members = [_load_member(path, method, options, device, with_support, trust) for path in checkpoints]
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


def adapt_ensemble(members: Sequence[LoadedMethod], support: Support | None) -> Predictor:
    """Adapt checkpoints to a support set, each by itself; they predict as one from then on."""
    adapted = [one.adapt(support, doing=f"{one.path}, adapting").members[0] for one in members]
    return Predictor(adapted, members[0].image_size, Batching(members[0].device))


def _listed(value: tuple[str, ...] | int, what: str) -> str:
    return f"at {value} pixels" if isinstance(value, int) else f"the {what} {', '.join(value) or 'none'}"


def _load_member(
    path: Path,
    method: str | None,
    options: Mapping[str, Any],
    device: torch.device,
    with_support: bool,
    trust: Sequence[str],
) -> LoadedMethod:
    network, loaded = load_network(path, trust)
    name = method or default_method(loaded.facts["model"]["network"], network, tuned=with_support)
    found = as_method(network, name, int(loaded.facts["image_size"]), device, options)
    if not with_support and needs_support(found.method):
        raise UserError(f"{path}: the method {name!r} needs annotated images; give a folder of them as --support")
    if with_support and not found.method.uses_support:
        raise UserError(f"{path}: the method {name!r} does not use annotated images; leave out --support")
    # What predicts lesions alone tells no classes apart, whatever its network can do.
    several = isinstance(found.method, SamplingMethod)
    classes, labels = (_names(network, what) if several else () for what in ("classes", "labels"))
    return replace(found, path=path, facts=loaded.facts, classes=classes or LESION, labels=labels)


def _names(network: nn.Module, what: str) -> tuple[str, ...]:
    """Return the classes or labels of a network, which must be those of datasets where there are several."""
    names = tuple(getattr(network, what, ()))
    known = (*KINDS, "normal") if what == "labels" else KINDS
    if len(names) > 1 and (foreign := [name for name in names if name not in known]):
        raise ConfigError(
            f"{type(network).__name__}.{what}: {foreign[0]!r} is not among {', '.join(known)}, which datasets name"
        )
    return names
