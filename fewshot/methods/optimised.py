"""Meta-learned networks as a method: a few gradient steps on the support set, as in training."""

import torch
from torch import Tensor, nn

from baselines.prediction import with_background
from episodes.episode import Support
from fewshot.methods.contract import Ingredients
from fewshot.methods.maml import MAML


class InnerLoop:
    """Take the network's inner steps on the support set.

    Args:
        ingredients: with a MAML.
        steps: gradient steps; as many as in training where not given, and 0 for the network as it is.
    """

    uses_support = True
    needs_support = False

    def __init__(self, ingredients: Ingredients, *, steps: int | None = None) -> None:
        self.network: MAML = ingredients.require_network(MAML)
        if steps is not None and steps < 0:
            raise ValueError(f"steps {steps}: expected 0 or more")
        self.steps = steps

    def adapt(self, support: Support | None) -> nn.Module:
        """An adapted copy of the U-Net, the same for the same support set; without one, the U-Net before any step."""
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
        """Logits (n, 2, H, W)."""
        return with_background(adapted(images))
