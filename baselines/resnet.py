"""Feature pyramids of ResNets (He et al., "Deep residual learning for image recognition", CVPR 2016) as timm has them.

The same tensors by the same names, the same feature maps and the same random weights, without timm: importing that
takes two seconds of every command that loads a network, and of every process that it starts.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Convolutions whose result is added to their input, or to its projection where the two differ in size.

    Two of 3x3 or, of a bottleneck, a 3x3 one between two of 1x1, the last of which has four times the channels.
    """

    def __init__(
        self, before: int, width: int, stride: int, dilations: tuple[int, int], projects: bool, bottleneck: bool
    ) -> None:
        super().__init__()
        wide = width * 4 if bottleneck else width
        convolutions = [(before, width, 3, stride, dilations[0]), (width, width, 3, 1, dilations[1])]
        if bottleneck:
            convolutions = [(before, width, 1, 1, 1), (width, width, 3, stride, dilations[0]), (width, wide, 1, 1, 1)]
        projection = nn.Sequential(_convolution(before, wide, 1, stride), nn.BatchNorm2d(wide)) if projects else None
        for place, sizes in enumerate(convolutions, start=1):  # by timm's names
            self.add_module(f"conv{place}", _convolution(*sizes))
            self.add_module(f"bn{place}", nn.BatchNorm2d(sizes[1]))
            self.add_module(f"act{place}", nn.ReLU(inplace=True))
        self.downsample = projection
        self.depth = len(convolutions)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (n, width or 4 * width, h, w) of maps (n, before, H, W)."""
        residual = maps
        for place in range(1, self.depth + 1):
            convolution, norm, activation = (getattr(self, f"{part}{place}") for part in ("conv", "bn", "act"))
            residual = norm(convolution(residual))
            if place == self.depth:  # not before: gradients are summed in the order that timm sums them in
                residual += maps if self.downsample is None else self.downsample(maps)
            residual = activation(residual)
        return residual


# By timm's names: whether blocks are bottlenecks, and how many layer1 to layer4 have.
RESNETS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
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
        bottleneck, counts = RESNETS[name]
        self["conv1"] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self["bn1"], self["act1"] = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        channels, strides, dilation = [64], [2], 1
        for place, count in enumerate(counts):
            before, width, total = channels[-1], 64 * 2**place, min(4 * 2**place, output_stride)
            stride, wide = total // (4 if place == 0 else strides[-1]), width * (4 if bottleneck else 1)
            dilations = dilation, 4 * 2**place // total
            projects = stride != 1 or before != wide
            blocks = [ResidualBlock(before, width, stride, dilations, projects, bottleneck)]
            dilation = dilations[1]
            blocks += [ResidualBlock(wide, width, 1, (dilation, dilation), False, bottleneck) for _ in range(1, count)]
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
            elif isinstance(module, ResidualBlock):
                nn.init.zeros_(getattr(module, f"bn{module.depth}").weight)

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
