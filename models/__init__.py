"""The trainer: from data to the best epoch of a Keras model, on disk.

    from pathlib import Path
    from keraship.models import TrainConfig, train

    result = train(TrainConfig("cnn", Path("run")))
    print(result.model, result.quality)

TensorFlow is imported when training starts, and by `keraship.models.layers`.
"""

from keraship.models.config import TrainConfig
from keraship.models.train import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]
