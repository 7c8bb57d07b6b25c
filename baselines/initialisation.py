"""Random weights to begin with, for networks of convolutions and ReLU."""

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw convolutions as He et al. (ICCV 2015) and linear layers as Glorot and Bengio (AISTATS 2010); biases are 0.

    Changes the network in place. Norms stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
