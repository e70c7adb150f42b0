"""TFLite: a version's model.tflite, in interpreters enough for several callers at once.

Source: tensorflow_serving/servables/tensorflow/tflite_session.cc, tflite_interpreter_pool.cc.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keraship import bundle, dtypes
from keraship.errors import BundleError, DeadlineExceeded, FailedPrecondition, InvalidArgument
from keraship.quiet import import_tensorflow

tf = import_tensorflow()

from keraship.serving.backend import Array, BackendOptions  # noqa: E402  # after the quiet import
from keraship.serving.tflite_signatures import Tensors, read_tensors, signature_defs  # noqa: E402
from keraship.signature import DEFAULT_SIGNATURE, Signature, TensorSpec  # noqa: E402
from keraship.wire.messages import SignatureDefMap  # noqa: E402
from keraship.wire.signatures import to_signature, to_signature_def_map  # noqa: E402


class TfliteBackend:
    """A version's model.tflite; its signatures are those of the manifest, of the file's metadata, or of its tensors.

    Raises FailedPrecondition for a file that TFLite cannot run, InvalidArgument for metadata that cannot be read.
    """

    def __init__(self, version_dir: Path, options: BackendOptions) -> None:
        path = version_dir / bundle.TFLITE
        interpreter = _Interpreter(path, options.intra_op)
        self._inputs, self._outputs = interpreter.inputs, interpreter.outputs
        of_manifest = _signatures_of_manifest(version_dir, interpreter)
        if of_manifest:
            self.signatures: dict[str, Signature] = of_manifest
            self.signature_defs: Any = to_signature_def_map(of_manifest)
        else:
            self.signature_defs = SignatureDefMap()
            for name, message in signature_defs(path.read_bytes(), self._inputs, self._outputs).items():
                self.signature_defs.signature_def[name].CopyFrom(message)
            self.signatures = {name: to_signature(each) for name, each in self.signature_defs.signature_def.items()}
        self.defaults: dict[str, dict[str, Array]] = {}
        self._pool = _Pool(path, options, interpreter)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """See Backend.run; `timeout` ends the wait for an interpreter, never its run."""
        signature = self.signatures[signature_name]
        feeds = {
            self._inputs.indices[spec.tensor]: _checked(index, self._inputs.specs[spec.tensor], inputs[spec.name])
            for index, spec in enumerate(signature.inputs)
        }
        tensors = {spec.name: spec.tensor for spec in signature.outputs}
        fetches = [self._outputs.indices[tensors[name]] for name in output_names]
        with self._pool.take(timeout) as interpreter:
            return interpreter.run(feeds, fetches)

    def close(self) -> None:
        self._pool.close()


class _Pool:
    """Interpreters of one file, made as callers need them, never more than `size`; the weights are in memory once."""

    def __init__(self, path: Path, options: BackendOptions, first: _Interpreter) -> None:
        self._path, self._threads = path, options.intra_op
        self._free = [first]
        self._slots = threading.Semaphore(max(options.tflite_interpreters, 1))

    @contextmanager
    def take(self, timeout: float | None) -> Iterator[_Interpreter]:
        if not self._slots.acquire(timeout=timeout):
            raise DeadlineExceeded("the deadline passed before an interpreter was free")
        try:
            try:  # the last that was used first: most likely its tensors have the right size already
                interpreter = self._free.pop()
            except IndexError:
                interpreter = _Interpreter(self._path, self._threads)
            yield interpreter
            self._free.append(interpreter)  # one that failed is not used again
        finally:
            self._slots.release()

    def close(self) -> None:
        self._free.clear()


class _Interpreter:
    """One interpreter, for one caller at a time; it remembers for which shapes its memory is laid out."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is moving to a package of its own
                # Callers run in parallel, one thread each, as onnxruntime's do.
                self._interpreter = tf.lite.Interpreter(str(path), num_threads=threads or 1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise FailedPrecondition(f"TFLite cannot run {path}: {_first_line(error)}") from error
        sides = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        self.inputs, self.outputs = (
            read_tensors(side, [_spec(detail) for detail in side], what)
            for side, what in zip(sides, ("Input", "Output"), strict=True)
        )
        self._shapes = {int(detail["index"]): tuple(map(int, detail["shape"])) for detail in sides[0]}

    def run(self, feeds: Mapping[int, Array], fetches: Sequence[int]) -> list[Array]:
        """The tensors of `fetches`, with those of `feeds` given; the inputs are resized to what comes."""
        interpreter = self._interpreter
        try:
            shapes = {index: array.shape for index, array in feeds.items()}
            changed = {index: shape for index, shape in shapes.items() if shape != self._shapes[index]}
            for index, shape in changed.items():
                interpreter.resize_tensor_input(index, shape)
            if changed:
                interpreter.allocate_tensors()
                self._shapes.update(changed)
            for index, array in feeds.items():
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [_as_array(interpreter.get_tensor(index)) for index in fetches]
        except (ValueError, RuntimeError) as error:
            given = ", ".join(
                f"'{name}' {TensorSpec('', self.inputs.specs[name].dtype, feeds[index].shape)}"
                for name, index in self.inputs.indices.items()
                if index in feeds
            )
            raise InvalidArgument(f"the model cannot run on {given}: {_first_line(error)}") from error

    def own_signatures(self) -> dict[str, dict[str, dict[str, int]]]:
        """What the converter wrote: signature -> "inputs" and "outputs" -> name -> index."""
        found: dict[str, dict[str, dict[str, int]]] = self._interpreter._get_full_signature_list()
        return found


def _signatures_of_manifest(version_dir: Path, interpreter: _Interpreter) -> dict[str, Signature]:
    """Those of a version that keraship exported, as far as the file has them, bound to its tensors."""
    if not (version_dir / bundle.MANIFEST).exists():
        return {}
    try:
        manifest = bundle.read_manifest(version_dir)
    except BundleError as error:
        raise FailedPrecondition(str(error)) from error
    own = interpreter.own_signatures()
    found = {}
    for name in sorted(manifest.offered("tflite")):
        tensors = own.get(name) or own.get(DEFAULT_SIGNATURE)  # the converter writes one, whatever it is called by
        if tensors is not None:
            signature = manifest.signatures[name]
            found[name] = Signature(
                _bind(signature.inputs, tensors["inputs"], interpreter.inputs),
                _bind(signature.outputs, tensors["outputs"], interpreter.outputs),
                signature.method_name,
            )
    return found


def _bind(specs: Sequence[TensorSpec], own: Mapping[str, int], tensors: Tensors) -> tuple[TensorSpec, ...]:
    names = {index: name for name, index in tensors.indices.items()}
    if not {spec.name for spec in specs} <= own.keys():
        raise FailedPrecondition(
            f"expected {bundle.TFLITE} to have {', '.join(spec.name for spec in specs)}, as {bundle.MANIFEST} says; "
            f"it has {', '.join(own)}"
        )
    return tuple(TensorSpec(spec.name, spec.dtype, spec.shape, tensor=names[own[spec.name]]) for spec in specs)


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return TensorSpec(detail["name"], dtypes.of_array(np.empty(0, detail["dtype"])).name, shape, tensor=detail["name"])


def _checked(index: int, spec: TensorSpec, array: Array) -> Array:
    have, want = dtypes.of_array(array), dtypes.by_name(spec.dtype)
    if have is not want:
        raise InvalidArgument(f"Expects arg[{index}] to be {want.tf_name} but {have.tf_name} is provided")
    if want is dtypes.STRING and not array.ndim:  # the interpreter would take the object's address for its text
        text = array.item()
        return np.ndarray((), f"S{len(text)}", buffer=text)
    return array


def _as_array(value: Any) -> Array:
    array: Array = np.asarray(value)
    return array.astype(object) if array.dtype.kind == "S" else array


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
