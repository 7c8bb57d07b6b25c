"""What can be configured: frozen, strict schemas, each key with its type, default and range."""

from fewshot.config.benchmark import BenchmarkConfig, BenchmarkModel, Control, MethodConfig
from fewshot.config.data import DataConfig, DatasetConfig, PhantomConfig
from fewshot.config.episodes import EpisodesConfig, SampleConfig
from fewshot.config.model import EncoderConfig, ModelConfig
from fewshot.config.strict import Strict
from fewshot.config.training import TrainConfig, TrainingConfig, ValidationConfig

__all__ = [
    "BenchmarkConfig",
    "BenchmarkModel",
    "Control",
    "DataConfig",
    "DatasetConfig",
    "EncoderConfig",
    "EpisodesConfig",
    "MethodConfig",
    "ModelConfig",
    "PhantomConfig",
    "SampleConfig",
    "Strict",
    "TrainConfig",
    "TrainingConfig",
    "ValidationConfig",
]
