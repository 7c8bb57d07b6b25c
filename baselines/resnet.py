"""Feature pyramids of ResNets (He et al., "Deep residual learning for image recognition", CVPR 2016) as timm has them.

The same tensors by the same names, the same feature maps and the same random weights, without timm: importing that
takes two seconds of every command that loads a network, and of every process that it starts.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to their input, or to its projection where the two differ in size."""

    expansion = 1

    def __init__(
        self, before: int, width: int, stride: int, dilations: tuple[int, int], projection: nn.Module | None
    ) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = _convolution(before, width, 3, stride, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution(width, width, 3, 1, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = projection

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (n, width, h, w) of maps (n, before, H, W)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        residual = self.act1(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        residual += shortcut
        activated: Tensor = self.act2(residual)
        return activated


class Bottleneck(nn.Module):
    """The same with a 3x3 convolution between two of 1x1, the last of which has four times the channels."""

    expansion = 4

    def __init__(
        self, before: int, width: int, stride: int, dilations: tuple[int, int], projection: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(before, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution(width, width, 3, stride, dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = _convolution(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample = projection

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (n, 4 * width, h, w) of maps (n, before, H, W)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        residual = self.act1(self.bn1(self.conv1(maps)))
        residual = self.act2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        residual += shortcut
        activated: Tensor = self.act3(residual)
        return activated


# By timm's names: the kind of block, and how many layer1 to layer4 have.
RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
PARTS = ("act1", "layer1", "layer2", "layer3", "layer4")
"""The modules that a ResNet's levels come out of."""


class ResNet(nn.ModuleDict):
    """A ResNet's feature maps; level 0 is its stem (stride 2), 1 to 4 are its layers.

    Args:
        name: of `RESNETS`.
        levels: which feature maps, rising.
        output_stride: input pixels per feature pixel of the deepest level, at most; where it is 8 or 16, deeper layers
            dilate their convolutions in place of striding.

    Attributes:
        channels: of the levels.
        strides: of the levels.

    Raises:
        ValueError: for another stride.
        IndexError: for a level beyond 4.
    """

    def __init__(self, name: str, levels: Sequence[int], output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError("the output stride of a ResNet is 8, 16 or 32")
        block, counts = RESNETS[name]
        self["conv1"] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self["bn1"], self["act1"] = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        channels, strides, dilation = [64], [2], 1
        for place, count in enumerate(counts):
            before, width, total = channels[-1], 64 * 2**place, min(4 * 2**place, output_stride)
            stride, wide = total // (4 if place == 0 else strides[-1]), width * block.expansion
            dilations = dilation, 4 * 2**place // total
            projection = None
            if stride != 1 or before != wide:
                projection = nn.Sequential(_convolution(before, wide, 1, stride), nn.BatchNorm2d(wide))
            blocks = [block(before, width, stride, dilations, projection)]
            dilation = dilations[1]
            blocks += [block(wide, width, 1, (dilation, dilation), None) for _ in range(1, count)]
            self[PARTS[place + 1]] = nn.Sequential(*blocks)
            channels.append(wide)
            strides.append(total)
        nn.Linear(channels[-1], 1000)  # the head, which is left out: timm draws it before the others' final weights
        self._initialise()
        self.channels, self.strides = (tuple(of[level] for level in levels) for of in (channels, strides))
        self._taken = tuple(PARTS[level] for level in levels)
        for name in list(self)[list(self).index(self._taken[-1]) + 1 :]:
            del self[name]

    def _initialise(self) -> None:
        """Draw convolutions as He et al. (ICCV 2015); what a block adds is 0 at first, by its last norm's weight."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_((module.bn2 if isinstance(module, BasicBlock) else module.bn3).weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the levels of normalised images (n, 3, H, W), shallow to deep, each (n, channels, h, w)."""
        maps, levels = images, []
        for name, module in self.items():
            maps = module(maps)
            if name in self._taken:
                levels.append(maps)
        return levels


def _convolution(before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        before, after, kernel, stride=stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False
    )
