"""Where a training runs: on one device, on several of this machine, or on several machines, by tf.distribute."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from keraship.errors import TrainingError
from keraship.models.config import TrainConfig
from keraship.reasons import reason

TF_CONFIG = "TF_CONFIG"


@dataclass(frozen=True)
class Devices:
    """What a model is trained on.

    strategy: tf.distribute's, None for one device. count: how many share each step's rows. is_chief: whether this
    process writes the run's files; of several workers, one does.
    """

    strategy: Any = None
    count: int = 1
    is_chief: bool = True

    @property
    def _has_workers(self) -> bool:
        return self.strategy is not None and bool(self.strategy.extended._in_multi_worker_mode())

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Where the model and its optimizer are to be made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def share(self, batches: Any) -> Any:
        """A tf.data.Dataset as the devices can share it: as many rows of every batch for each.

        Of a last batch that cannot be shared so, the one row or more that are too many are left out: a device with
        fewer rows than another would have each of them count more.
        """
        if self.strategy is None:
            return batches
        import tensorflow as tf

        def even(*parts: Any) -> Any:
            count = tf.shape(tf.nest.flatten(parts)[0])[0] // self.count * self.count
            return tf.nest.map_structure(lambda part: part[:count], parts)

        return self.by_rows(batches.map(even, tf.data.AUTOTUNE))

    def by_rows(self, batches: Any) -> Any:
        """A tf.data.Dataset of which every worker takes rows, rather than files."""
        import tensorflow as tf

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return batches.with_options(options)

    def prepare(self, model: Any, batch: Any) -> None:
        """Make a compiled model ready to be fitted: its metrics from a batch of inputs and targets, and its logs.

        Keras makes the metrics from the first batch of the training data. That batch is of an epoch that is then begun
        again, in another order; and with several workers Keras 3.15 fails to put it together. It also takes the mean
        of the workers' logs along their first axis, which numbers do not have.
        """
        if self.strategy is None:
            return
        with self.strategy.scope():
            model._symbolic_build(data_batch=batch)
        model._maybe_symbolic_build = lambda *_args, **_named: None
        if self._has_workers:
            model.train_step = _with_axis(type(model).train_step, model)
            model.test_step = _with_axis(type(model).test_step, model)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Of several workers, one that is lost is a TrainingError of the others'."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            if not self._has_workers:
                raise
            raise TrainingError(
                f"expected all workers of {TF_CONFIG} to go on to the end; one cannot be reached: {reason(error)}: "
                "the same command on each of them goes on behind the last whole epoch"
            ) from error

    def wait_for_all(self) -> None:
        """Come back when all workers have come here."""
        if self._has_workers:
            import tensorflow as tf

            one = self.strategy.run(lambda: tf.ones(()))
            float(self.strategy.reduce(tf.distribute.ReduceOp.SUM, one, axis=None))


def is_chief(config: TrainConfig) -> bool:
    """Whether this process writes the run's files; asked before there are devices. Raises TrainingError."""
    return config.distribute != "multi_worker" or _read_tf_config() == 0


def open_devices(config: TrainConfig) -> Devices:
    """The devices that a configuration asks for; comes before any other use of TensorFlow in the process.

    Raises TrainingError where they are not there, or cannot be had any more.
    """
    return _STRATEGIES[config.distribute](config)


def _with_axis(step: Callable[..., Any], model: Any) -> Callable[[Any], Any]:
    """A step of Keras's whose logs are of shape [1]."""
    import tensorflow as tf

    return lambda data: tf.nest.map_structure(lambda value: tf.reshape(value, (1,)), step(model, data))


def _one(_config: TrainConfig) -> Devices:
    return Devices()


def _mirrored(config: TrainConfig) -> Devices:
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        _divide_cpu(config.devices or 1)
    found = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]
    count = config.devices or len(found)
    if count > len(found):
        raise TrainingError(f"expected {count} devices to train on; there are {len(found)}: {', '.join(found)}")
    across = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return Devices(tf.distribute.MirroredStrategy(found[:count], cross_device_ops=across), count)


def _divide_cpu(count: int) -> None:
    """Make so many devices of the CPU, which is possible until TensorFlow first uses it."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise TrainingError(
                f"expected a process in which TensorFlow has not used the CPU yet, to make {count} devices of it: "
                "train in a new one"
            ) from error


def _multi_worker(_config: TrainConfig) -> Devices:
    import tensorflow as tf

    number = _read_tf_config()
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise TrainingError(f"cannot reach the workers of {TF_CONFIG}: {reason(error)}") from error
    return Devices(strategy, strategy.num_replicas_in_sync, number == 0)


def _read_tf_config() -> int:
    """Which of the workers this process is; the first is the chief."""
    text = os.environ.get(TF_CONFIG, "")
    try:
        parsed = json.loads(text)
        workers, task = parsed["cluster"]["worker"], parsed["task"]
        number = int(task["index"])
        if set(parsed["cluster"]) != {"worker"} or task["type"] != "worker" or not 0 <= number < len(workers):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"expected the environment's {TF_CONFIG} to name the workers and which of them this is, such as "
            '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}; '
            f"got {text!r}"
        ) from error
    return number


_STRATEGIES = {"none": _one, "mirrored": _mirrored, "multi_worker": _multi_worker}
