"""A method that has adapted, as a network."""

from torch import Tensor, nn

from episodes.episode import Support
from episodes.errors import DatasetError, UserError
from fewshot.assessment.members import Member
from fewshot.methods.uncertainty import mean_prediction


def adapted_member(member: Member, support: Support | None) -> Member:
    """The member after adapting, if its answers are a function of the images alone.

    Raises:
        UserError: if they are random, or the method takes what it knows from the source datasets.
    """
    sampling = getattr(member.method, "sampling", None)
    if getattr(sampling, "dropout_samples", 0):
        raise UserError("dropout_samples: an export computes the same each time; leave dropout_samples out")
    try:
        return member.after(support)
    except DatasetError as error:
        if member.method.uses_support:
            raise
        raise UserError(
            f"{type(member.method).__name__}: adapts to source datasets, which a checkpoint does not hold;"
            " export another method"
        ) from error


class Baked(nn.Module):
    """A method after it has adapted, as a network.

    Args:
        member: the method, and what it took from the support set.
    """

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member
        self.outputs = ("probabilities", "logits", *(("labels",) if member.labels else ()))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Probabilities and logits (n, 1 + n_classes, H, W), and the labels' probabilities (n, n_labels) if any."""
        prediction = mean_prediction(self.member.predictions(images))
        logits = prediction.classes.float()
        labels = () if prediction.labels is None or not self.member.labels else (prediction.labels.float().softmax(1),)
        return logits.softmax(1), logits, *labels
