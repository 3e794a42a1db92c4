"""The schema of configurations, and how they are read."""

from memae_tf.config.benchmark import BenchmarkConfig
from memae_tf.config.data import (
    AvenueData,
    ImageData,
    ImageFolderData,
    KDDCup99Data,
    ShanghaiTechData,
    TabularData,
    TFDSData,
    UCSDData,
    VideoData,
    VideoFolderData,
)
from memae_tf.config.evaluation import EvaluationConfig, FrameScoring
from memae_tf.config.experiment import Config, differing_keys, essence, flattened, identifies_data
from memae_tf.config.model import (
    BaselineSection,
    Conv2DModel,
    Conv3DModel,
    DenseModel,
    DSEBMModel,
    KDEModel,
    MemoryConfig,
    Model,
    ModelSection,
    OCSVMModel,
    PixelCNNModel,
    VAEModel,
)
from memae_tf.config.reading import (
    load_benchmark,
    load_config,
    load_model,
    parse_config,
    read_yaml,
    set_key,
)
from memae_tf.config.section import Section
from memae_tf.config.training import Augmentation, PseudoAnomalies, TrainingConfig

__all__ = [
    "Augmentation",
    "AvenueData",
    "BaselineSection",
    "BenchmarkConfig",
    "Config",
    "Conv2DModel",
    "Conv3DModel",
    "DSEBMModel",
    "DenseModel",
    "EvaluationConfig",
    "FrameScoring",
    "ImageData",
    "ImageFolderData",
    "KDDCup99Data",
    "KDEModel",
    "MemoryConfig",
    "Model",
    "ModelSection",
    "OCSVMModel",
    "PixelCNNModel",
    "PseudoAnomalies",
    "Section",
    "ShanghaiTechData",
    "TFDSData",
    "TabularData",
    "TrainingConfig",
    "UCSDData",
    "VAEModel",
    "VideoData",
    "VideoFolderData",
    "differing_keys",
    "essence",
    "flattened",
    "identifies_data",
    "load_benchmark",
    "load_config",
    "load_model",
    "parse_config",
    "read_yaml",
    "set_key",
]
