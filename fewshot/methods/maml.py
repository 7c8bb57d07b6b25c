"""Meta-learned networks as a method: a few gradient steps on the support set, as in training."""

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from importlib import import_module
from io import StringIO
from typing import Any, Literal, cast

import torch
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss
from baselines.prediction import with_background
from baselines.unet import UNet
from episodes.sampling.episode import Support
from fewshot.config.parsing import ConfigError
from fewshot.methods.contract import Ingredients


def without_batch_statistics(encoder: Encoder) -> Encoder:
    """Replace an encoder's batch norms by group norms, in place, unless they are frozen.

    The statistics of a batch of one to five images are noise, and those collected over a training belong to no weights
    in particular once every task moves the weights. Frozen batch norms are constants and stay; those of an encoder with
    random weights hold nothing yet, so 8 groups of channels take their place, as in the U-Net's decoder.

    Raises:
        ConfigError: if a batch norm is not frozen and holds statistics, which pretrained weights rely on.
    """
    modules = encoder.train().named_modules()  # what is frozen stays in evaluation mode
    norms = {name: module for name, module in modules if isinstance(module, nn.BatchNorm2d) and module.training}
    if any(norm.running_mean is not None and bool(norm.running_mean.any()) for norm in norms.values()):
        raise ConfigError(
            "encoder.freeze_norm: the inner loop sees too few images to go on with the batch-norm statistics"
            " of pretrained weights; set it to true"
        )
    for name, norm in norms.items():
        encoder.set_submodule(name, _group_norm(norm))
    return encoder


def _group_norm(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    groups = math.gcd(8, norm.num_features)
    if not isinstance(norm, BatchNormAct2d):
        replacement = nn.GroupNorm(groups, norm.num_features, norm.eps)
    else:
        replacement = GroupNormAct(norm.num_features, groups, norm.eps)
        replacement.drop, replacement.act = norm.drop, norm.act
    # timm starts the last norm of a residual branch at zero.
    replacement.load_state_dict({"weight": norm.weight.detach(), "bias": norm.bias.detach()}, strict=False)
    return replacement


class MAML(nn.Module):
    """A U-Net, lesion against background, trained so that gradient descent on a support set improves it.

    Finn et al., "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017. With
    `adapted="head"` it is ANIL (Raghu et al., "Rapid learning or feature reuse?", ICLR 2020): the inner loop moves the
    last layer alone, and the outer loop all weights. The mathematics is learn2learn's.

    Args:
        encoder: of the U-Net. Its batch norms have to be frozen, or are replaced by group norms.
        decoder_channels: of the U-Net.
        inner_steps: gradient steps on the support set.
        inner_rate: learning rate of these steps.
        adapted: what these steps move: `all` weights (MAML) or the `head`, a 1x1 convolution (ANIL).
        first_order: leave out how the inner gradients depend on the weights (section 5.2 of the paper): several times
            less memory and about half the time. MobileNetV3's activations have no second order in torch.

    Raises:
        ConfigError: if learn2learn is not installed, or the batch norms are of no use.
        ValueError: if an option is out of range, or does not suit the encoder.
    """

    trains_on = "episodes"

    def __init__(
        self,
        encoder: Encoder,
        *,
        decoder_channels: Sequence[int] = (128, 64, 32),
        inner_steps: int = 5,
        inner_rate: float = 0.01,
        adapted: Literal["all", "head"] = "all",
        first_order: bool = True,
    ) -> None:
        super().__init__()
        if inner_steps < 1 or inner_rate <= 0:
            raise ValueError(f"inner_steps {inner_steps}, inner_rate {inner_rate}; expected both above 0")
        self.algorithm = learn2learn_maml()
        self.unet = UNet(without_batch_statistics(encoder), decoder_channels=decoder_channels)
        self.inner_steps = inner_steps
        self.inner_rate = inner_rate
        self.adapted = adapted
        self.first_order = first_order

    def forward(self, images: Tensor) -> Tensor:
        """Compute lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1], before any adaptation."""
        return cast(Tensor, self.unet(images))

    def adapt(self, images: Tensor, masks: Tensor, *, steps: int | None = None) -> tuple[nn.Module, list[Tensor]]:
        """Go down the loss on a support set from the meta-learned weights, which stay as they are.

        Images are (1, n_shot, 3, H, W) in [0, 1], masks (1, n_shot, H, W), 0 or 1; `steps` is in place of
        `inner_steps`.

        Returns:
            The adapted U-Net, through which gradients flow back to this network's weights, and the loss before each
                step, as a number alone.

        Raises:
            ConfigError: if there is more than one way.
        """
        if images.shape[0] != 1:
            raise ConfigError(
                f"{images.shape[0]} ways: maml segments one, lesion against background; give one class, or use panet"
            )
        # Where nobody asks for outer gradients, the second order would be thrown away.
        options = {"lr": self.inner_rate, "first_order": self.first_order or not torch.is_grad_enabled()}
        losses = []
        with torch.enable_grad(), _inner_precision(images.device.type):
            learner = self.algorithm(self.unet, allow_nograd=True, **options).clone()  # no_grad: frozen batch norms
            adapted: nn.Module = learner.module
            if self.adapted == "head":
                learner = self.algorithm(adapted.head, **options)
            for _ in range(self.inner_steps if steps is None else steps):
                loss = bce_dice_loss(adapted(images[0]), masks[0])
                learner.adapt(loss)
                losses.append(loss.detach())
        return adapted, losses

    def loss(
        self, support_images: Tensor, support_masks: Tensor, query_images: Tensor, query_masks: Tensor
    ) -> dict[str, Tensor]:
        """Compute the training losses of a batch of 1-way episodes, shaped as in `PublishedPANet.loss`.

        Returns:
            Scalars, averaged over the episodes: `loss`, the adapted U-Net's on the queries, which is minimised, and
                `support`, the loss on the support set before any step.
        """
        outer, inner = [], []
        for task in zip(support_images, support_masks, query_images, query_masks, strict=True):
            images, masks, queries, truths = task
            adapted, losses = self.adapt(images, masks)
            outer.append(bce_dice_loss(adapted(queries), truths.float()))
            inner.append(losses[0])
        return {"loss": torch.stack(outer).mean(), "support": torch.stack(inner).mean()}


def learn2learn_maml() -> Any:
    """Import learn2learn's wrapper of a module, with `clone` and `adapt`.

    Raises:
        ConfigError: says how to install it.
    """
    try:
        # It imports gym, which prints that it is unmaintained; nothing here uses it.
        with redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("learn2learn.algorithms").MAML
    except ImportError as error:
        raise ConfigError(
            f"maml needs learn2learn ({error}); install it, with a C compiler at hand, by",
            '  pip install "fewshot-bus[maml]"',
            '  pip install --no-deps --config-settings=--build-option=build_ext "learn2learn==0.2.0"',
        ) from error


def _inner_precision(device: str) -> AbstractContextManager[object]:
    """Turn float16 off, whose small gradients vanish: a gradient scaler sees the outer ones alone."""
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return torch.autocast(device, enabled=False)
    return nullcontext()


class InnerLoop:
    """A method that takes a MAML's inner steps on the support set: as many as in training where `steps` is None."""

    uses_support = True
    needs_support = False

    def __init__(self, ingredients: Ingredients, *, steps: int | None = None) -> None:
        self.network: MAML = ingredients.require_network(MAML)
        if steps is not None and steps < 0:
            raise ValueError(f"steps {steps}: expected 0 or more")
        self.steps = steps

    def adapt(self, support: Support | None) -> nn.Module:
        """Return an adapted copy of the U-Net, the same for the same support set; without one, the U-Net itself."""
        if support is None:
            return self.network.unet
        with torch.inference_mode(False), torch.no_grad():
            # Autograd refuses tensors that were made in inference mode, but takes copies of them.
            adapted, _ = self.network.adapt(support.images.clone(), support.masks.clone(), steps=self.steps)
            for module in adapted.modules():
                for name, weight in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(weight.detach(), requires_grad=False))
        return adapted

    def segment(self, images: Tensor, adapted: nn.Module) -> Tensor:
        """Compute logits (n, 2, H, W)."""
        return with_background(adapted(images))
