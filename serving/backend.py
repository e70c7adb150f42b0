"""What runs a version: the seam that every runtime stands behind, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keraship import bundle
from keraship.errors import BundleError, NotFound
from keraship.extras import require
from keraship.serving.memory import set_imports_aside
from keraship.signature import Signature

Array = np.ndarray[Any, Any]


class Backend(Protocol):
    """A loaded model.

    signatures: what can be asked of it. defaults: per signature, the arrays for inputs that a request may leave out.
    signature_defs: a SignatureDefMap, as GetModelMetadata answers it.
    """

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def defaults(self) -> Mapping[str, Mapping[str, Array]]: ...

    @property
    def signature_defs(self) -> Any: ...

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """The outputs asked for, in that order.

        inputs: an array for every input of the signature; strings as object arrays of bytes.
        timeout: seconds; where the runtime can be stopped it is.
        Raises StatusError: InvalidArgument for arrays that the model does not take.
        """

    def close(self) -> None:
        """Give the memory back; no run is under way and none comes."""


@runtime_checkable
class JointBackend(Protocol):
    """A backend that can run several signatures at once."""

    def run_together(
        self, wanted: Mapping[str, Sequence[str]], array: Array, *, timeout: float | None = None
    ) -> dict[str, list[Array]]:
        """The outputs asked for, by signature, of one run; `array` is fed to the one input of each."""


@dataclass(frozen=True)
class BackendOptions:
    """What the flags say about how models are run.

    kind: "onnx", "tensorflow" or "tflite"; None lets the version's files and the installed packages decide.
    prefer_tflite: where the version has a model.tflite, that it is. tflite_interpreters: runs of one at once, at most.
    tags: of the SavedModel's graph. intra_op, inter_op: threads of one run; 0 is the runtime's choice.
    session_config: a serialized ConfigProto, op_libraries: files with more operations; both for TensorFlow.
    """

    kind: str | None = None
    tags: tuple[str, ...] = ("serve",)
    intra_op: int = 0
    inter_op: int = 0
    session_config: bytes = b""
    op_libraries: tuple[str, ...] = ()
    prefer_tflite: bool = False
    tflite_interpreters: int = 1


@dataclass(frozen=True)
class _Runtime:
    """A runtime: the files it runs, what the manifest calls them, the module and the extra it needs, how it opens."""

    files: tuple[str, ...]
    format: str
    module: str
    extra: str
    open: Callable[[Path, BackendOptions], Backend]

    def finds(self, version_dir: Path) -> bool:
        return any((version_dir / file).is_file() for file in self.files)


def _open_onnx(version_dir: Path, options: BackendOptions) -> Backend:
    from keraship.serving.backend_onnx import OnnxBackend

    return OnnxBackend(version_dir, options)


def _open_tensorflow(version_dir: Path, options: BackendOptions) -> Backend:
    from keraship.serving.backend_tensorflow import TensorFlowBackend

    set_imports_aside()
    return TensorFlowBackend(version_dir, options)


def _open_tflite(version_dir: Path, options: BackendOptions) -> Backend:
    from keraship.serving.backend_tflite import TfliteBackend

    return TfliteBackend(version_dir, options)


# In order of preference: onnxruntime starts ten times faster and needs a tenth of the memory.
RUNTIMES = {
    "onnx": _Runtime((bundle.ONNX,), "onnx", "onnxruntime", "serve", _open_onnx),
    "tensorflow": _Runtime(
        (bundle.SAVED_MODEL, "saved_model.pbtxt", "saved_model.cpb"),
        "saved_model",
        "tensorflow",
        "tensorflow",
        _open_tensorflow,
    ),
    "tflite": _Runtime((bundle.TFLITE,), "tflite", "tensorflow", "tensorflow", _open_tflite),
}


def open_backend(version_dir: Path, options: BackendOptions) -> Backend:
    """The version in `version_dir`, loaded: by the first runtime that has all its signatures, else by the first.

    Raises NotFound where it holds no model, MissingExtra where no installed package can run it, and other StatusErrors
    for a model that is broken.
    """
    if options.kind is None and options.prefer_tflite and RUNTIMES["tflite"].finds(version_dir):
        options = replace(options, kind="tflite")
    kinds = [options.kind] if options.kind else list(RUNTIMES)
    runtimes = [runtime for runtime in map(RUNTIMES.__getitem__, kinds) if runtime.finds(version_dir)]
    if not runtimes:
        raise _nothing_to_run(version_dir, kinds)
    runtime = _preferred(version_dir, [each for each in runtimes if find_spec(each.module)] or runtimes[-1:])
    require(runtime.extra, runtime.module)
    return runtime.open(version_dir, options)


def _preferred(version_dir: Path, runtimes: list[_Runtime]) -> _Runtime:
    if len(runtimes) == 1 or not (version_dir / bundle.MANIFEST).exists():
        return runtimes[0]
    try:
        manifest = bundle.read_manifest(version_dir)
    except BundleError:
        return runtimes[0]  # which says what is wrong with it
    return next((each for each in runtimes if manifest.offered(each.format) == set(manifest.signatures)), runtimes[0])


def _nothing_to_run(version_dir: Path, kinds: list[str]) -> NotFound:
    if kinds in (["onnx"], ["tflite"]):
        (file,) = RUNTIMES[kinds[0]].files
        return NotFound(f"Could not find {file} at supplied export directory path: {version_dir}.")
    return NotFound(
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {version_dir}. "
        "Check that the directory exists and that you have the right permissions for accessing it."
    )
