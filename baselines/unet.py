"""U-Net (Ronneberger et al., MICCAI 2015) on a feature pyramid: lesion against background."""

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.convolutions import Norm
from baselines.expanding_path import Upsampling, expand, expanding_stages, resized
from baselines.lesion_network import LesionNetwork
from baselines.losses import bce_dice_loss
from baselines.monitors import mask_scores
from baselines.prediction import Pyramid, lesion_targets


class UNet(LesionNetwork):
    """A decoder with skip connections over an encoder's levels, and one logit per pixel.

    Over a `PlainEncoder`, with `upsampling: transposed` and `norm: none`, it is the published network but for its
    padded convolutions. The defaults suit a pretrained encoder, and fine-tuning on few images.

    Args:
        encoder: its levels, shallow to deep, are the contracting path.
        decoder_channels: of the decoder's stages, deep to shallow: one fewer than the encoder's levels.
        upsampling: between the stages.
        norm: of the stages' convolutions.
        dropout: share of the last features' channels that training leaves out; what Monte-Carlo dropout samples.

    Raises:
        ValueError: if the numbers of stages and levels do not go together, or the dropout is no share.
    """

    def __init__(
        self,
        encoder: Pyramid,
        *,
        decoder_channels: Sequence[int] = (128, 64, 32),
        upsampling: Upsampling = "bilinear",
        norm: Norm = "group",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(encoder.channels) < 2:
            raise ValueError("one encoder level, and so nothing to skip over; expected at least two in `levels`")
        self.encoder = encoder
        self.stages = expanding_stages(encoder.channels, decoder_channels, upsampling=upsampling, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(decoder_channels[-1], 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        return self.decode(self.encoder(images), images.shape[-2:])

    def decode(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Lesion logits (n, H, W) of the encoder's levels."""
        features = self.dropout(expand(self.stages, levels)[-1])
        logits = self.head(features).float()  # full precision from here, also under mixed precision
        return resized(logits, size).squeeze(1)

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Training losses; `loss` is minimised, the others are watched.

        Args:
            images: (n, 3, H, W) in [0, 1].
            label_maps: (n, H, W) int64, values as in `LABEL_VALUES`.
            labels: (n,) of the whole images; not looked at.
        """
        del labels
        logits, masks = self(images), lesion_targets(label_maps)
        return {"loss": bce_dice_loss(logits, masks), **mask_scores(logits, masks)}
