"""What came of a prediction, in a few lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.errors import UserError
from fewshot.prediction.folder import FAILED, TABLE
from fewshot.prediction.inputs import Input
from fewshot.prediction.table import Row


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a prediction.

    Attributes:
        folder: of the results.
        rows: of its table.
        n_images: that were asked for.
        failed: those that could not be read, each with the reason.
    """

    folder: Path
    rows: Sequence[Row]
    n_images: int
    failed: Mapping[Input, str]

    def lines(self) -> list[str]:
        """What a user is told."""
        flags = [flag for row in self.rows for flag in row["flags"].split()]
        flagged = [f"{flags.count(flag)} {flag}" for flag in ("empty", "unsure", "unlike") if flag in flags]
        told = f" ({', '.join(flagged)})" if flagged else ""
        dice = [float(row["dice"]) for row in self.rows if row["dice"]]
        scored = f"Lesion Dice {sum(dice) / len(dice):.4f}, mean over {len(dice)} images with a lesion" if dice else ""
        return [f"{len(self.rows)} images{told}", *([scored] if scored else []), str(self.folder / TABLE)]

    def require_all_read(self) -> None:
        """Say which images could not be read, if any.

        Raises:
            UserError: names the first.
        """
        if self.failed:
            first = next(iter(self.failed.values()))
            raise UserError(
                f"{len(self.failed)} of {self.n_images} images could not be read: {first}"
                + (f"; all are listed in {self.folder / FAILED}" if len(self.failed) > 1 else "")
            )
