"""Networks, and the encoders under them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fewshot.config.strict import Options, Strict, Whole

# A ResNet has 5, the plain encoder one for each time that its channels double.
Level = Annotated[int, Field(ge=0, lt=16)]


class EncoderConfig(Strict):
    """The timm network under every model.

    `freeze_norm` keeps batch norms as loaded, `frozen` that many of the shallowest levels, counted as `levels` are.
    The name `plain` is not timm's: it stands for the published U-Net's own encoder, whose `options` are its `width` and
    `norm`.
    """

    name: str = "resnet18"
    weights: str = "none"
    freeze_norm: bool = False
    frozen: Whole = 0
    options: Options = Field(default_factory=dict)

    @model_validator(mode="after")
    def _weights_to_keep(self) -> "EncoderConfig":
        if self.freeze_norm and self.weights == "none":
            raise ValueError("freeze_norm: random weights have no batch-norm statistics worth keeping; set it to false")
        if self.frozen and self.weights == "none":
            raise ValueError("frozen: random weights are not worth keeping; set it to 0")
        if self.name == "plain" and self.weights != "none":
            raise ValueError("weights: the plain encoder is trained from random weights; set it to none")
        if self.name != "plain" and self.options:
            raise ValueError("options: those are of the plain encoder; remove them, or set name to plain")
        return self


class ModelConfig(Strict):
    """A network and which encoder levels it reads; `options` are its constructor's further arguments.

    `pyramid` puts path aggregation with that many channels between the encoder and the network; 0 for none.
    """

    network: str = "panet"
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (3,)
    output_stride: Literal[8, 16, 32] = 32
    pyramid: Annotated[int, Field(ge=0, le=65_536, multiple_of=8)] = 0
    options: Options = Field(default_factory=dict)
