"""The contract that every benchmarked method honours, few-shot or supervised, and the methods by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from baselines.prediction import Prediction
from episodes.errors import DatasetError
from episodes.records import Record
from episodes.sampling.episode import Support
from episodes.storage.store import Collection
from fewshot.config.parsing import ConfigError
from fewshot.features import Features
from fewshot.networks import checked_options, find_attribute


class Method(Protocol):
    """A way of segmenting images, given a few annotated ones.

    `adapt` returns what it learned from the support set; nothing is stored on the method, so one method serves many
    support sets in any order.

    `uses_support` is False for a method whose masks do not depend on the support set; it is called without one. A
    method that uses a support set but can do without has `needs_support`, False: `adapt(None)` is then a valid call,
    and the benchmark's K = 0. It is known of the built method alone, since it may depend on the network.
    """

    uses_support: bool

    def adapt(self, support: Support | None) -> Any:
        """Learn from a support set; what is learned is returned."""

    def segment(self, images: Tensor, adapted: Any) -> Tensor:
        """Compute logits (n, 1 + n_way, H, W) of images (n, 3, H, W) in [0, 1]; index 0 is background."""


@runtime_checkable
class EncodingMethod(Protocol):
    """A method with an encoder: its features do not depend on the support set, so they are computed once.

    Its `adapt` and `segment` give the same from features as from the images they were encoded from. Methods whose
    `encode` is one and the same, such as the `encode` of the network they are given, share what it computed.

    Where a method has a `join` that is not None, each support image is adapted to once, by itself, for all support sets
    that show it: `join` makes of a list of what `adapt` returned what `adapt` returns of their images together.
    """

    def encode(self, images: Tensor) -> Features:
        """Compute features of images (..., 3, H, W)."""

    def adapt(self, support: Support | None, features: Features | None = None) -> Any:
        """Adapt as `Method.adapt`; `features` are the support images', (n_way, n_shot, ...)."""

    def segment(self, images: Tensor | Features, adapted: Any) -> Tensor:
        """Segment as `Method.segment`, or from the images' features."""


@runtime_checkable
class SamplingMethod(Protocol):
    """A method that may answer several times, and whose answers may tell classes and labels apart."""

    def sample(self, images: Tensor, adapted: Any) -> list[Prediction]:
        """Return one or more predictions of images (n, 3, H, W) in [0, 1]; `segment` goes by their mean."""


def needs_support(method: Method) -> bool:
    """Tell whether a method cannot do without a support set: one that uses it cannot, unless it says so."""
    return bool(getattr(method, "needs_support", method.uses_support))


@dataclass(frozen=True, slots=True)
class Sources:
    """The source datasets as a method may know them: pixels, and the records that may be used."""

    collection: Collection
    records: Sequence[Record]

    def lesions(self) -> list[Record]:
        """Return the records with a lesion drawn in, by id.

        Raises:
            DatasetError: if there are none.
        """
        # A store has labelled normal what shows no lesion, so no label map need be read here.
        with_lesion = [record for record in self.records if record.has_lesion]
        if not with_lesion:
            raise DatasetError("sources: none of their images has a lesion drawn in; add a dataset with lesions")
        return sorted(with_lesion, key=lambda record: record.id)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """All that a method may be built from; the network, if any, is in evaluation mode and on its device."""

    network: nn.Module | None
    sources: Sources
    device: torch.device
    seed: int = 0

    def require_network(self, kind: type[nn.Module] | Any) -> Any:
        """Return the network, which must be of a kind (or have what a protocol asks for).

        Raises:
            ConfigError: says what is there instead.
        """
        if not isinstance(self.network, kind):
            found = "no model" if self.network is None else type(self.network).__name__
            raise ConfigError(f"the method needs a model of kind {kind.__name__}, and was given {found}; set `model`")
        return self.network


# A user's own method is named "module:attribute"; these are ours. Each is a callable
# `(ingredients, **options) -> Method`.
METHODS = {
    "empty": "fewshot.methods.floors:Empty",
    "centre-ellipse": "fewshot.methods.floors:CentreEllipse",
    "prototypes": "fewshot.methods.prototypical:SupportPrototypes",
    "source-prototypes": "fewshot.methods.prototypical:SourcePrototypes",
    "tuned-prototypes": "fewshot.methods.prototypical:TunedPrototypes",
    "zero-shot": "fewshot.methods.supervised:ZeroShot",
    "fine-tuned": "fewshot.methods.supervised:FineTuned",
    "maml": "fewshot.methods.maml:InnerLoop",
}

# Networks that train on episodes, and the method that each goes with.
DEFAULT_METHODS = {"panet": "prototypes", "maml": "maml"}


def build_method(name: str, options: Mapping[str, Any], ingredients: Ingredients) -> Method:
    """Build a registered method, or one named `module:attribute`, with its options.

    Raises:
        ConfigError: for an unknown method, options that it does not take, or a model that it cannot use.
    """
    kind: Callable[..., Method] = find_method(name)
    checked = checked_options(kind, dict(options), f"{name} options", skip=1)
    try:
        return kind(ingredients, **checked)
    except ValueError as error:
        raise ConfigError(f"{name} options: {error}") from error


def find_method(name: str) -> type[Method]:
    """Import the class of a registered name or `module:attribute`; its `uses_support` is known unbuilt."""
    kind = find_attribute(name, METHODS, "method")
    if not hasattr(kind, "uses_support"):
        raise ConfigError(f"method {name!r}: has no attribute uses_support; see fewshot.methods.contract.Method")
    return cast(type[Method], kind)


def default_method(network_name: str, network: nn.Module, *, tuned: bool = False) -> str:
    """Name the method that goes with a network, by its name in a configuration, unless another is asked for.

    `tuned` says that there are annotated images to tune a supervised network on; else it is used as it is.

    Raises:
        ConfigError: if no method goes with the network by itself.
    """
    if network_name in DEFAULT_METHODS:
        return DEFAULT_METHODS[network_name]
    if network.trains_on == "images":
        return "fine-tuned" if tuned else "zero-shot"
    raise ConfigError(f"no method goes with the network {network_name!r} by itself; name one")
