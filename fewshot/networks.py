"""Networks by name: from a configuration to a module, with its constructor's arguments checked."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, create_model
from torch import nn
from torch.overrides import TorchFunctionMode

from baselines.encoders import Encoder
from baselines.pyramid_panet import AggregatedEncoder
from baselines.unet import PlainEncoder
from episodes.datasets import import_own
from episodes.errors import UserError
from fewshot.config.parsing import ConfigError, parse_config
from fewshot.config.training import EncoderConfig, ModelConfig

# What makes tensors from sizes; the rest makes them from tensors, or from lists that are there already.
_FROM_SIZES = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.empty_strided),
    *(torch.arange, torch.linspace, torch.logspace, torch.randperm, torch.eye),
}


class TooLargeError(UserError):
    """A network would need more memory than it may have."""


class TensorBudget(TorchFunctionMode):
    """A limit to the bytes of all tensors that are made within the block.

    A description of a network that asks for a billion channels is then an error at once, instead of a machine that
    swaps: a tensor counts before its memory is allocated. Copies do not count, so allow for some.

    Raises:
        TooLargeError: at the tensor that goes beyond.

    >>> with TensorBudget(1000):
    ...     layer = torch.nn.Linear(10, 10)
    >>> with TensorBudget(1000):
    ...     layer = torch.nn.Linear(10**6, 10**6)
    Traceback (most recent call last):
    fewshot.networks.TooLargeError: needs more than 1,000 bytes of weights
    """

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.n_bytes = n_bytes
        self.used = 0

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in _FROM_SIZES:
            sizes = {key: value for key, value in options.items() if key not in {"generator", "out", "pin_memory"}}
            self.used += func(*args, **sizes | {"device": "meta"}).nbytes  # which takes no memory
        if self.used > self.n_bytes:
            raise TooLargeError(f"needs more than {self.n_bytes:,} bytes of weights")
        return func(*args, **options)


LARGEST_NETWORK = 16 * 2**30  # bytes; training takes four times that

# A user's own network is named "module:attribute"; these are ours. Each takes an encoder first and has a
# `loss(**batch)` and a `trains_on`, "episodes" or "images".
NETWORKS = {
    "panet": "fewshot.panet.network:PANet",
    "maml": "fewshot.methods.maml:MAML",
    "unet": "baselines.unet:UNet",
    "multitask-unet": "baselines.multitask_unet:MultitaskUNet",
    "deep-resnet": "baselines.deep_resnet:DeepResNet",
    "pyramid-panet": "baselines.pyramid_panet:PyramidPANet",
}


def build_network(
    encoder: EncoderConfig, model: ModelConfig, *, weights: str | None = None, budget: int = LARGEST_NETWORK
) -> nn.Module:
    """Build the network that a configuration describes.

    `weights` is in place of the encoder's own, such as `none` where a checkpoint fills them next; `budget` is in bytes
    that its weights may take while it is built.

    Raises:
        ConfigError: for an unknown network, options that its constructor does not take, or a network beyond its budget.
        EncoderError: if the encoder or its weights do not fit.
    """
    kind = find_attribute(model.network, NETWORKS, "network")
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):  # a checkpoint may name any function there is
        raise ConfigError(f"network {model.network!r}: is no torch.nn.Module; name a class that is one")
    options = checked_options(kind, model.options, f"{model.network} options", skip=1)
    try:
        with TensorBudget(budget):
            pyramid = _build_pyramid(encoder, model, weights)
            return kind(pyramid, **options)
    except TooLargeError as error:
        raise ConfigError(
            f"{model.network} on {encoder.name}: {error}; choose a smaller encoder, fewer channels or fewer levels"
        ) from error
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"{model.network} options: {error}") from error


def _build_pyramid(encoder: EncoderConfig, model: ModelConfig, weights: str | None) -> nn.Module:
    """Build the encoder, with path aggregation behind it where the model asks for that."""
    pyramid: PlainEncoder | Encoder
    if encoder.name == "plain":
        if "levels" in encoder.options:
            raise ConfigError("encoder.options: levels: the model says which it reads; set model.levels")
        if model.output_stride != ModelConfig().output_stride:
            raise ConfigError("model.output_stride: the plain encoder's strides are fixed; leave it out")
        options = checked_options(PlainEncoder, dict(encoder.options) | {"levels": model.levels}, "encoder options", 0)
        try:
            pyramid = PlainEncoder(**options)
        except ValueError as error:
            raise ConfigError(f"plain encoder: {error}") from error
    else:
        pyramid = Encoder(
            encoder.name,
            weights=encoder.weights if weights is None else weights,
            levels=model.levels,
            output_stride=model.output_stride,
            freeze_norm=encoder.freeze_norm,
            frozen=encoder.frozen,
        )
    return AggregatedEncoder(pyramid, model.pyramid) if model.pyramid else pyramid


def find_attribute(name: str, registry: dict[str, str], what: str) -> Callable[..., Any]:
    """Import what a registered name or `module:attribute` stands for.

    Raises:
        ConfigError: names the nearest registered name, or says why the import failed.
    """
    target = registry.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        nearest = difflib.get_close_matches(name, registry, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(registry)}"
        raise ConfigError(f"{what} {name!r} is unknown; {hint} (your own is named module:attribute)")
    try:
        imported = import_module(module) if name in registry else import_own(module)
        found: Callable[..., Any] = getattr(imported, attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{what} {name!r}: {error}") from error
    return found


def checked_options(kind: Callable[..., Any], options: dict[str, Any], origin: str, skip: int) -> dict[str, Any]:
    """Convert options to what a callable's annotations ask for, its parameters after the first `skip`.

    Raises:
        ConfigError: for an unknown option or one of the wrong type; `origin` names the options.
    """
    target = kind.__init__ if inspect.isclass(kind) else kind
    hints = get_type_hints(target)
    parameters = list(inspect.signature(kind).parameters.values())[skip:]
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is inspect.Parameter.empty else p.default) for p in parameters
    }
    schema = create_model(f"{origin} schema", __config__=ConfigDict(extra="forbid", frozen=True), **fields)
    parsed = parse_config(options, schema, origin)
    return {name: getattr(parsed, name) for name in fields}


def seeded_network(encoder: EncoderConfig, model: ModelConfig, seed: int) -> nn.Module:
    """Build the configured network; its random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(encoder, model)
