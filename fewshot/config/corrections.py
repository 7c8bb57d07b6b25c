"""A file of corrections: mistakes of a published dataset that are known, which users write down and share."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from episodes.policies import Corrections, Relabel, Rename
from episodes.records import Label
from fewshot.config.strict import Name, Strict

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class RelabelConfig(Strict):
    """Another label for an image, and why."""

    label: Label
    reason: Reason


class RenameConfig(Strict):
    """Another name for a patient, and why; that of another patient makes one of both."""

    to: Text
    reason: Reason


class CorrectionsConfig(Strict):
    """What is wrong in a dataset, and the reason for each of the corrections.

    `dataset` is the name of its reader, or the one that it has in the configuration. Images are named by id or by file
    name, with or without suffix; patients as the dataset's reader names them.
    """

    version: Literal[1]
    dataset: Name
    exclude: dict[Text, Reason] = Field(default_factory=dict)
    relabel: dict[Text, RelabelConfig] = Field(default_factory=dict)
    rename_patients: dict[Text, RenameConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_correction_each(self) -> "CorrectionsConfig":
        if both := self.exclude.keys() & self.relabel.keys():
            raise ValueError(f"{min(both)}: is under `exclude` and under `relabel`; keep one of the two")
        return self

    def corrections(self, file: str) -> Corrections:
        """The corrections as what a policy follows; `file` names them in messages."""
        return Corrections(
            file,
            dict(self.exclude),
            {name: Relabel(one.label, one.reason) for name, one in self.relabel.items()},
            {name: Rename(one.to, one.reason) for name, one in self.rename_patients.items()},
        )
