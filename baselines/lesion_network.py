"""What supervised networks of one class share: lesion against background."""

from torch import Tensor, nn

from baselines.prediction import Prediction, with_background


class LesionNetwork(nn.Module):
    """A network that gives lesion logits (n, H, W) when called, and tells nothing else apart.

    Attributes:
        classes: of the masks, background aside.
        labels: of whole images; none.
    """

    trains_on = "images"
    classes: tuple[str, ...] = ("lesion",)
    labels: tuple[str, ...] = ()

    def predict(self, images: Tensor) -> Prediction:
        """Logits of lesion and background, of images (n, 3, H, W) in [0, 1]."""
        return Prediction(with_background(self(images)))
