"""ONNX Runtime, on the CPU."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from keraship import bundle, dtypes
from keraship.errors import BundleError, FailedPrecondition, Internal, InvalidArgument, StatusError, Unimplemented
from keraship.serving.backend import Array, BackendOptions
from keraship.signature import DEFAULT_SIGNATURE, Shape, Signature, TensorSpec, shape_fits
from keraship.wire.signatures import to_signature_def_map

_LOG = logging.getLogger(__name__)

# onnxruntime's name of an element type -> ours and the number in ONNX's TensorProto.DataType.
_TYPES = {
    "tensor(float)": ("float32", 1),
    "tensor(uint8)": ("uint8", 2),
    "tensor(int8)": ("int8", 3),
    "tensor(uint16)": ("uint16", 4),
    "tensor(int16)": ("int16", 5),
    "tensor(int32)": ("int32", 6),
    "tensor(int64)": ("int64", 7),
    "tensor(string)": ("string", 8),
    "tensor(bool)": ("bool", 9),
    "tensor(float16)": ("float16", 10),
    "tensor(double)": ("float64", 11),
    "tensor(uint32)": ("uint32", 12),
    "tensor(uint64)": ("uint64", 13),
    "tensor(bfloat16)": ("bfloat16", 16),
    "tensor(float8e4m3fn)": ("float8_e4m3fn", 17),
    "tensor(float8e4m3fnuz)": ("float8_e4m3fnuz", 18),
    "tensor(float8e5m2)": ("float8_e5m2", 19),
    "tensor(float8e5m2fnuz)": ("float8_e5m2fnuz", 20),
}
_ONNX_NUMBERS = dict(_TYPES.values())

# numpy has these only by ml_dtypes, which onnxruntime does not know: they cross as plain memory of the same width.
_BY_MEMORY = {name for name in _ONNX_NUMBERS if name == "bfloat16" or name.startswith("float8")}

_FAILED_NODE = re.compile(r"running (\w+) node\. Name:'([^']*)'")


class OnnxBackend:
    """A version's model.onnx, with the manifest's signatures or, without one, the file's own inputs and outputs.

    Raises FailedPrecondition for a file that onnxruntime cannot load or whose tensors nobody could send.
    """

    def __init__(self, version_dir: Path, options: BackendOptions) -> None:
        self._session = _load(version_dir / bundle.ONNX, options)
        own = Signature(
            inputs=tuple(_spec(node, "input") for node in self._session.get_inputs()),
            outputs=tuple(_spec(node, "output") for node in self._session.get_outputs()),
        )
        self.signatures: dict[str, Signature] = _signatures(version_dir, own)
        self.defaults: dict[str, dict[str, Array]] = {}
        self.signature_defs: Any = to_signature_def_map(self.signatures)
        self._by_memory = any(spec.dtype in _BY_MEMORY for spec in (*own.inputs, *own.outputs))

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """See Backend.run. onnxruntime is not stopped by `timeout`: its runs are short."""
        signature = self.signatures[signature_name]
        feeds = {spec.tensor: _checked(index, spec, inputs[spec.name]) for index, spec in enumerate(signature.inputs)}
        outputs = {spec.name: spec for spec in signature.outputs}
        fetched = [outputs[name] for name in output_names]
        arrays = self._run([spec.tensor for spec in fetched], feeds)
        return [
            _as_bytes(array) if spec.dtype == "string" else array for spec, array in zip(fetched, arrays, strict=True)
        ]

    def _run(self, fetches: list[str], feeds: dict[str, Array]) -> list[Array]:
        try:
            if not self._by_memory:
                arrays: list[Array] = self._session.run(fetches, feeds)
                return arrays
            values = {name: _to_value(array) for name, array in feeds.items()}
            return [_from_value(value) for value in self._session.run_with_ort_values(fetches, values)]
        except Exception as error:  # onnxruntime's errors share no base class
            raise _translate(error, feeds) from error

    def close(self) -> None:
        del self._session


def _load(path: Path, options: BackendOptions) -> Any:
    settings = ort.SessionOptions()
    # Runs go in parallel, one thread each: two callers beat one caller with two threads.
    settings.intra_op_num_threads = options.intra_op or 1
    settings.inter_op_num_threads = options.inter_op or 1
    settings.log_severity_level = 3  # what it warns of is in the errors that we raise
    try:
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise FailedPrecondition(f"onnxruntime cannot load {path}: {_first_line(error)}") from error


def _spec(node: Any, side: str) -> TensorSpec:
    if node.type not in _TYPES:
        raise FailedPrecondition(f"expected tensors in {bundle.ONNX}; its {side} '{node.name}' is {node.type}")
    shape: Shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorSpec(node.name, _TYPES[node.type][0], shape, tensor=node.name)


def _signatures(version_dir: Path, own: Signature) -> dict[str, Signature]:
    if not (version_dir / bundle.MANIFEST).exists():
        return {DEFAULT_SIGNATURE: own, "predict": own}
    try:
        manifest = bundle.read_manifest(version_dir)
    except BundleError as error:
        raise FailedPrecondition(str(error)) from error
    offered = manifest.offered("onnx") or set(manifest.signatures)  # a file may have been put there by hand
    declared = {name: signature for name, signature in manifest.signatures.items() if name in offered}
    lacking = sorted(manifest.signatures.keys() - offered)
    if lacking:
        _LOG.warning("%s lacks %s, which the SavedModel beside it has", version_dir / bundle.ONNX, ", ".join(lacking))
    bound = {name: _bind(signature, own) for name, signature in declared.items()}
    found = {name: signature for name, signature in bound.items() if signature is not None}
    if not found:
        raise FailedPrecondition(
            f"expected {bundle.ONNX} to have the inputs and outputs of a signature in {bundle.MANIFEST} "
            f"({'; '.join(f'{name} {signature}' for name, signature in declared.items())}); it has {own}"
        )
    return found


def _bind(signature: Signature, own: Signature) -> Signature | None:
    """The signature with the file's names for its tensors; None where the file was made for another signature."""
    inputs, outputs = _bind_side(signature.inputs, own.inputs), _bind_side(signature.outputs, own.outputs)
    if inputs is None or outputs is None or len(inputs) != len(own.inputs):
        return None
    return Signature(inputs, outputs, signature.method_name)


def _bind_side(specs: tuple[TensorSpec, ...], own: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...] | None:
    names = {spec.name: spec for spec in own}
    bound = []
    for spec in specs:
        there = names.get(spec.name) or names.get(spec.tensor)
        if there is None or there.dtype != spec.dtype:
            return None
        bound.append(TensorSpec(spec.name, spec.dtype, spec.shape, tensor=there.tensor))
    return tuple(bound)


def _checked(index: int, spec: TensorSpec, array: Array) -> Array:
    have, want = dtypes.of_array(array), dtypes.by_name(spec.dtype)
    if have is not want:
        raise InvalidArgument(f"Expects arg[{index}] to be {want.tf_name} but {have.tf_name} is provided")
    if not shape_fits(spec.shape, array.shape):
        raise InvalidArgument(f"{_expects(spec)}, got {TensorSpec('', have.name, array.shape)}")
    return _as_text(spec, array) if want is dtypes.STRING else array


def _expects(spec: TensorSpec) -> str:
    return f"'{spec.name}' expects {spec}"


def _as_text(spec: TensorSpec, array: Array) -> Array:
    """onnxruntime takes strings as str and holds them as UTF-8."""
    decoded = np.empty(array.shape, object)
    try:
        decoded.reshape(-1)[:] = [item.decode() for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{_expects(spec)} in UTF-8, got bytes that are not: {error.reason}") from error
    return decoded


def _as_bytes(array: Array) -> Array:
    encoded = np.empty(array.shape, object)
    encoded.reshape(-1)[:] = [item.encode() for item in array.reshape(-1)]
    return encoded


def _to_value(array: Array) -> Any:
    name = dtypes.of_array(array).name
    if name not in _BY_MEMORY:
        return ort.OrtValue.ortvalue_from_numpy(array)
    memory = np.ascontiguousarray(array).view(f"u{array.itemsize}")
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(memory, _ONNX_NUMBERS[name])


def _from_value(value: Any) -> Array:
    name = _TYPES[value.data_type()][0]
    if name not in _BY_MEMORY:
        plain: Array = value.numpy()
        return plain
    dtype, shape = dtypes.by_name(name).numpy, tuple(value.shape())
    memory = ctypes.string_at(value.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(memory, dtype).reshape(shape)


def _translate(error: Exception, feeds: Mapping[str, Array]) -> StatusError:
    """One sentence for the caller; all that onnxruntime says is for the log."""
    _LOG.warning("onnxruntime refused a run: %s", error)
    given = ", ".join(
        f"'{name}' {TensorSpec('', dtypes.of_array(array).name, array.shape)}" for name, array in feeds.items()
    )
    kind = type(error).__name__
    if kind == "NotImplemented":
        return Unimplemented(f"onnxruntime cannot run this model: {_first_line(error)}")
    if kind not in ("InvalidArgument", "RuntimeException", "Fail"):
        return Internal(f"onnxruntime failed on {given}")
    node = _FAILED_NODE.search(str(error))
    where = f": its {node[1]} node '{node[2]}' refuses them" if node else ""
    return InvalidArgument(f"the model cannot run on {given}{where}")


def _first_line(error: Exception) -> str:
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).partition("\n")[0]
