"""Where metrics go beside the local files."""

from typing import Literal

# `local`: to files of the run's folder, as always; `wandb`: to Weights & Biases as well.
Tracking = Literal["local", "wandb"]
