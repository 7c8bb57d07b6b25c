"""What can be configured: frozen, strict schemas, each key with its type, default and range."""

from fewshot.config.benchmark import BenchmarkConfig, BenchmarkModel, ClassicConfig, Control, MethodConfig
from fewshot.config.corrections import CorrectionsConfig
from fewshot.config.data import CurationConfig, DataConfig, DatasetConfig, PhantomConfig
from fewshot.config.episodes import EpisodesConfig, SampleConfig
from fewshot.config.model import EncoderConfig, ModelConfig
from fewshot.config.strict import Strict
from fewshot.config.tracking import Tracking
from fewshot.config.training import FoldConfig, TrainConfig, TrainingConfig, ValidationConfig

__all__ = [
    "BenchmarkConfig",
    "BenchmarkModel",
    "ClassicConfig",
    "Control",
    "CorrectionsConfig",
    "CurationConfig",
    "DataConfig",
    "DatasetConfig",
    "EncoderConfig",
    "EpisodesConfig",
    "FoldConfig",
    "MethodConfig",
    "ModelConfig",
    "PhantomConfig",
    "SampleConfig",
    "Strict",
    "Tracking",
    "TrainConfig",
    "TrainingConfig",
    "ValidationConfig",
]
