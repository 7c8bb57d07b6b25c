"""U-Net (Ronneberger et al., MICCAI 2015) on a feature pyramid: lesion against background."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from baselines.blocks import DoubleConvolution, Norm, Upsampling, expand, expanding_stages, initialise, resized
from baselines.losses import bce_dice_loss
from baselines.prediction import Pyramid, SegmentationNetwork, lesion_targets, mask_scores


class PlainEncoder(nn.Module):
    """Pairs of 3x3 convolutions with 2x2 max pooling between them, channels doubling (Ronneberger et al., MICCAI 2015).

    Takes images in [0, 1] and looks at their first channel: ultrasound is grey. The counterpart of `Encoder`, whose
    networks come pretrained.

    Args:
        levels: which feature maps to give, rising from 0, which has the image's size; level i has a stride of 2**i.
        width: channels of level 0; 64 as published.
        norm: of the convolutions; `none` as published.

    Raises:
        ValueError: if the levels do not rise from 0 or more, the width is below 1, or no multiple of 8 with group norm.
    """

    def __init__(self, *, levels: Sequence[int] = (0, 1, 2, 3, 4), width: int = 64, norm: Norm = "none") -> None:
        super().__init__()
        if not levels or list(levels) != sorted(set(levels)) or levels[0] < 0:
            raise ValueError(f"levels {tuple(levels)} do not rise from 0 or more, such as (0, 1, 2, 3, 4)")
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1 channel")
        if norm == "group" and width % 8:
            raise ValueError(f"width is {width}; expected a multiple of 8, which group norm needs")
        widths = [1, *(width * 2**level for level in range(levels[-1] + 1))]
        self.blocks = nn.ModuleList(DoubleConvolution(before, after, norm) for before, after in pairwise(widths))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # a last odd row or column is not lost
        self.levels = tuple(levels)
        self.channels = tuple(widths[level + 1] for level in levels)
        self.strides = tuple(2**level for level in levels)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, channels, h, w)."""
        features = (images[:, :1] - 0.5) / 0.25
        given = []
        for level, block in enumerate(self.blocks):
            features = block(features if level == 0 else self.pool(features))
            given.append(features)
        return [given[level] for level in self.levels]


class UNet(SegmentationNetwork):
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
        """Return lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        return self.decode(self.encoder(images), images.shape[-2:])

    def decode(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return lesion logits (n, H, W) of the encoder's levels."""
        features = self.dropout(expand(self.stages, levels)[-1])
        logits = self.head(features).float()  # full precision from here, also under mixed precision
        return resized(logits, size).squeeze(1)

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute binary cross-entropy with Dice; see `SegmentationNetwork.loss`."""
        del labels
        logits, masks = self(images), lesion_targets(label_maps)
        return {"loss": bce_dice_loss(logits, masks), **mask_scores(logits, masks)}
