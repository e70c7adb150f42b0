"""How a run that was stopped or killed goes on where its last whole epoch ended.

    resume = Resume(run.folder, config=settings)
    watch = Watch(monitor, past=resume.story)
    resume.restore(model)                       # built and compiled as it was then
    model.fit(..., initial_epoch=resume.initial_epoch,
              callbacks=[watch, resume.saver(lambda: watch.history), KeepBest(watch, run.write_model)])
    resume.clear()                              # all is done

keras.callbacks.BackupAndRestore was tried and is not enough: it writes over its one file in place, so that a kill can
leave half of it, it forgets the states of dropout's generators, and knows nothing of the history.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from keraship.errors import TrainingError
from keraship.models.run import STATE
from keraship.models.whole import WRITING, whole

Array = np.ndarray[Any, Any]


_META = "meta"  # the name of the JSON among the file's arrays
_FORMAT = 1

# What numpy, zipfile and json raise for a file that is not what was written; AttributeError, for one that holds a
# single array, on Python 3.10.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)


class Resume:
    """The state of an unfinished run, in one file of its folder, which is replaced as a whole after every epoch.

    It has all variables of the model and its optimizer, the generators of dropout and augmentation layers among them,
    the states of Python's and numpy's global generators, the number of epochs that are over, and the caller's story.
    config: what the run is made of, as JSON has it; a state of another config is refused.
    initial_epoch: how many epochs are over, what `fit` takes under that name; 0 where there is nothing to resume.
    story: what the saver was given after the last of them; None where there is nothing to resume.
    Raises TrainingError where the file is broken, or not of this config. What a killed process was about to write
    is taken away.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any]) -> None:
        self._path = folder / STATE
        self._config = json.loads(json.dumps(config))  # as it will be read: lists for tuples
        self._meta = self._read_meta() if self._path.exists() else {}
        if self._meta:
            self._check_config()
        for left in folder.glob(f"{WRITING}*-{STATE}"):
            left.unlink()
        self.initial_epoch: int = self._meta.get("epoch", 0)
        self.story: Any = self._meta.get("story")

    def restore(self, model: keras.Model) -> None:
        """Give a model, built and compiled as the saved one was, its state; changes nothing where there is none.

        Raises TrainingError, before anything is changed, where the variables are not those of the saved model.
        """
        if not self._meta:
            return
        variables = _variables(model)
        arrays = self._read_arrays()
        _check_fit(variables, arrays, self._meta["variables"], self._path)
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        _set_generators(self._meta["generators"])

    def saver(self, story: Callable[[], Any]) -> keras.callbacks.Callback:
        """The callback that saves the state after every epoch.

        story: called after every epoch; what it gives, in JSON's types, is the story to resume with.
        """
        return _Saver(lambda model, epoch: self._save(model, epoch, story()))

    def clear(self) -> None:
        """Take the state away: the run is over, or one that starts anew takes its place."""
        self._path.unlink(missing_ok=True)

    def _save(self, model: keras.Model, epoch: int, story: Any) -> None:
        variables = _variables(model)
        meta = {
            "format": _FORMAT,
            "config": self._config,
            "epoch": epoch,
            "story": story,
            "variables": [_description(variable) for variable in variables],
            "generators": _generators(),
        }
        arrays = {_META: np.array(json.dumps(meta))}
        arrays |= {str(index): _storable(variable) for index, variable in enumerate(variables)}
        with whole(self._path) as path:
            np.savez(path, **arrays)  # type: ignore[arg-type]  # a name could be that of its own argument; none is

    def _read_meta(self) -> dict[str, Any]:
        with _reading(self._path) as archive:
            meta: dict[str, Any] = json.loads(str(archive[_META]))
            if meta["format"] != _FORMAT:
                raise ValueError(f"format {meta['format']}, where this version reads {_FORMAT}")
            return meta

    def _read_arrays(self) -> list[Array]:
        with _reading(self._path) as archive:
            return [archive[str(index)] for index in range(len(self._meta["variables"]))]

    def _check_config(self) -> None:
        before, now = self._meta["config"], self._config
        changes = [
            f"{name} was {before.get(name)!r}, now is {now.get(name)!r}"
            for name in (*before, *(name for name in now if name not in before))
            if before.get(name) != now.get(name)
        ]
        if changes:
            raise TrainingError(
                f"expected the configuration that the run to be resumed, {self._path}, was begun with; "
                f"{'; '.join(changes)}: take the former values to go on with it, or --overwrite to begin anew"
            )


class _Saver(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Calls `save` with the model and the number of epochs that are over."""

    def __init__(self, save: Callable[[keras.Model, int], None]) -> None:
        super().__init__()
        self._save = save

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._save(self.model, epoch + 1)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The arrays of a file; whatever is wrong with them is one TrainingError."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except _BROKEN as error:
        raise TrainingError(
            f"expected the state of a run to be resumed in {path}; it cannot be read: {error}: "
            "take --overwrite to begin anew"
        ) from error


def _variables(model: keras.Model) -> list[Any]:
    """All that training changes: the model's, with its generators, and the optimizer's, made where missing."""
    if not model.built or getattr(model, "optimizer", None) is None:
        raise TrainingError(f"expected a model that is built and compiled, to be resumed; {model.name!r} is not")
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _description(variable: Any) -> dict[str, Any]:
    return {"path": variable.path, "shape": list(variable.shape), "dtype": str(variable.dtype)}


def _storable(variable: Any) -> Array:
    """As numpy can write it: of bfloat16, which it cannot, the float32 that holds the same."""
    value: Array = keras.ops.convert_to_numpy(variable)
    return value.astype(np.float32) if variable.dtype == "bfloat16" else value


def _check_fit(
    variables: Sequence[Any], arrays: Sequence[Array], saved: Sequence[Mapping[str, Any]], path: Path
) -> None:
    # By order: names count up in a process that builds a second model.
    now = [_description(variable) for variable in variables]
    changes = [
        f"{new['path']} is {new['dtype']} {new['shape']}, was {old['dtype']} {old['shape']}"
        for new, old, array in zip(now, saved, arrays, strict=False)
        if (new["shape"], new["dtype"]) != (old["shape"], old["dtype"]) or list(array.shape) != old["shape"]
    ]
    if len(now) != len(saved):
        changes.append(f"it has {len(now)} variables, had {len(saved)}")
    if changes:
        raise TrainingError(
            f"expected the model and the optimizer that were saved in {path}; {'; '.join(changes[:5])}: "
            "take --overwrite to begin anew"
        )


def _generators() -> dict[str, Any]:
    """The states of the global generators of Python and numpy."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def _set_generators(states: Mapping[str, Any]) -> None:
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = states["numpy"]
    np.random.set_state((kind, np.array(numbers, np.uint32), *rest))
