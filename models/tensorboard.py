"""Logs that TensorBoard shows, written by TensorFlow alone: the package tensorboard is only needed to look at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

_VALIDATION = "val_"


class TensorBoardLogs(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Writes every epoch's values as scalars: `epoch_loss` and its like, as Keras names them, in `train` and
    `validation` of the folder, so that TensorBoard lays the two over each other.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith(_VALIDATION) else "train"
            self._write(part, f"epoch_{name.removeprefix(_VALIDATION)}", float(value), epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, part: str, tag: str, value: float, epoch: int) -> None:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))
        with self._writers[part].as_default(step=epoch):
            tf.summary.write(tag, tf.constant(value, tf.float32), metadata=_scalar())


def _scalar() -> Any:
    """What tells TensorBoard that a tensor is a scalar to draw."""
    metadata = tf.compat.v1.SummaryMetadata
    return metadata(plugin_data=metadata.PluginData(plugin_name="scalars"), data_class=1)  # DATA_CLASS_SCALAR
