"""Supervised networks as methods: used as they are, or fine-tuned on the support set."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from baselines.prediction import Prediction, lesion_logits, with_background
from episodes.sampling.episode import Support
from fewshot.config.parsing import ConfigError
from fewshot.methods.contract import Ingredients
from fewshot.methods.tuning import BatchNorm, SupportImages, Tuning
from fewshot.methods.uncertainty import Sampling, mean_prediction


@runtime_checkable
class LesionNetwork(Protocol):
    """A supervised network for lesion against background; it trains on images, not on episodes."""

    trains_on: Literal["images"]

    def __call__(self, images: Tensor) -> Tensor:
        """Compute lesion logits (n, H, W) of images (n, 3, H, W)."""

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute training losses, among them `loss`."""


class Supervised:
    """A supervised network as a method, but for how it adapts; the options are those of `Sampling`."""

    def __init__(self, ingredients: Ingredients, flips: bool, dropout_samples: int) -> None:
        self.network: nn.Module = ingredients.require_network(LesionNetwork)
        if self.network.trains_on != "images":  # a few-shot network has a `loss` as well
            found = type(self.network).__name__
            raise ConfigError(f"the method needs a supervised model, and was given {found}; set `model`")
        self.sampling = Sampling(flips, dropout_samples, ingredients.seed)
        self.sampling.check(self.network)

    def sample(self, images: Tensor, adapted: nn.Module) -> list[Prediction]:
        """Return the network's predictions, one or several."""
        return self.sampling.predictions(adapted, images)

    def segment(self, images: Tensor, adapted: nn.Module) -> Tensor:
        """Compute logits (n, 2, H, W)."""
        return with_background(lesion_logits(mean_prediction(self.sample(images, adapted)).classes))


class ZeroShot(Supervised):
    """The network as it was trained on the sources; arguments as in `Supervised`."""

    uses_support = False

    def __init__(self, ingredients: Ingredients, *, flips: bool = False, dropout_samples: int = 0) -> None:
        super().__init__(ingredients, flips, dropout_samples)

    def adapt(self, support: Support | None) -> nn.Module:
        """Return the network itself."""
        del support
        return self.network


@dataclass(eq=False)
class FineTuned(Tuning, Supervised):
    """Go on training a copy of the network on the support set, augmented.

    One to five images leave none to stop early by, so the budget is fixed. It was chosen on sources alone, BUSI to
    BUS-BRA and back (docs/baselines.md): all the way, one image does harm; a part of the way it helps. The options are
    those of `Tuning` and `Sampling`.
    """

    batch_norm: BatchNorm = field(default="kept", kw_only=True)  # see `tune`
    flips: bool = field(default=False, kw_only=True)
    dropout_samples: int = field(default=0, kw_only=True)

    uses_support: ClassVar[bool] = True
    name: ClassVar[str] = "fine-tuned"

    def __post_init__(self) -> None:
        Supervised.__init__(self, self.ingredients, self.flips, self.dropout_samples)
        super().__post_init__()

    def adapt(self, support: Support | None) -> nn.Module:
        """Return a fine-tuned copy of the network; the same for the same support set."""
        if support is None:
            raise ValueError("fine-tuning needs a support set")
        return self.tune(self.network, support, SupportImages, self.batch_norm)
