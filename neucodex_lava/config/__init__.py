"""Configuration: frozen dataclasses that check themselves when made and go to JSON and back."""

from neucodex_lava.config.checking import from_dict, require, to_dict
from neucodex_lava.config.data import (
    BINNINGS,
    DATASETS,
    ENCODINGS,
    EVENT_DATASETS,
    Binning,
    DataConfig,
    DatasetName,
    EncodingConfig,
    EncodingName,
)
from neucodex_lava.config.model import (
    ARCHITECTURES,
    RESNETS,
    VGGS,
    BottleneckConfig,
    ModelConfig,
    ResNetConfig,
    VGGConfig,
    architecture,
    parse_split,
)
from neucodex_lava.config.own import OwnConfig, OwnLayer
from neucodex_lava.config.training import (
    AugmentConfig,
    DeviceName,
    LossConfig,
    OptimizerName,
    PolicyName,
    PrecisionName,
    TrainConfig,
)

__all__ = [
    "ARCHITECTURES",
    "BINNINGS",
    "DATASETS",
    "ENCODINGS",
    "EVENT_DATASETS",
    "RESNETS",
    "VGGS",
    "AugmentConfig",
    "Binning",
    "BottleneckConfig",
    "DataConfig",
    "DatasetName",
    "DeviceName",
    "EncodingConfig",
    "EncodingName",
    "LossConfig",
    "ModelConfig",
    "OptimizerName",
    "PolicyName",
    "PrecisionName",
    "OwnConfig",
    "OwnLayer",
    "ResNetConfig",
    "TrainConfig",
    "VGGConfig",
    "architecture",
    "from_dict",
    "parse_split",
    "require",
    "to_dict",
]
