"""Model-agnostic meta-learning of a U-Net: weights from which a few gradient steps on a support set lead far."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from importlib import import_module
from io import StringIO
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss
from baselines.unet import UNet
from fewshot.methods.group_norm import without_batch_statistics
from fewshot.parsing import ConfigError


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
        """Lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1], before any adaptation."""
        return cast(Tensor, self.unet(images))

    def adapt(self, images: Tensor, masks: Tensor, *, steps: int | None = None) -> tuple[nn.Module, list[Tensor]]:
        """Go down the loss on a support set from the meta-learned weights, which stay as they are.

        Args:
            images: (1, n_shot, 3, H, W) in [0, 1].
            masks: (1, n_shot, H, W), 0 or 1.
            steps: in place of `inner_steps`.

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
        """Training losses of a batch of episodes, which may differ in nothing but their images.

        Args:
            support_images: (n_episodes, 1, n_shot, 3, H, W) in [0, 1].
            support_masks: (n_episodes, 1, n_shot, H, W), 0 or 1.
            query_images: (n_episodes, n_query, 3, H, W) in [0, 1].
            query_masks: (n_episodes, n_query, H, W), 0 or 1.

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
    """learn2learn's wrapper of a module, with `clone` and `adapt`.

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
    """Full precision in place of float16, whose small gradients vanish: a gradient scaler sees the outer ones alone."""
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return torch.autocast(device, enabled=False)
    return nullcontext()
