"""Group normalisation for encoders that adapt to a handful of images."""

import math

from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from torch import nn

from baselines.encoders import Encoder
from fewshot.parsing import ConfigError


def without_batch_statistics(encoder: Encoder) -> Encoder:
    """The encoder, its batch norms replaced by group norms in place unless they are frozen.

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
