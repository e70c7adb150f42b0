"""The model repository on disk: what a version holds, which versions there are, and how a new one gets there whole.

    repo/digits/1/  saved_model.pb  variables/  model.onnx  model.tflite  assets.extra/tf_serving_warmup_requests
                    keraship/manifest.json  keraship/golden.npz  keraship/report.html

A version is written into a hidden sibling and renamed into place, so nobody ever sees half of one; afterwards it is
never changed. manifest.json is described by manifest.schema.json beside this file, which is made from the classes
below (`make schema`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import inspect
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from keraship.errors import BundleError, InvalidArgument, VersionExists
from keraship.signature import DEFAULT_SIGNATURE, Signature
from keraship.wire import to_array, to_tensor
from keraship.wire.messages import TensorProto

FORMAT_VERSION = 1
MANIFEST = "keraship/manifest.json"
GOLDEN = "keraship/golden.npz"
WARMUP = "assets.extra/tf_serving_warmup_requests"
SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables"
ONNX = "model.onnx"
ONNX_DATA = "model.onnx.data"  # the weights of a model of more than 2 GB
TFLITE = "model.tflite"
REPORT = "keraship/report.html"

Arrays = dict[str, np.ndarray[Any, Any]]

_STAGING = ".staging-"
_AS_TENSOR = "#TensorProto"  # marks an array of golden.npz that is stored as the bytes of a TensorProto
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_INT64_MAX = 2**63 - 1
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its size in bytes and the SHA-256 of its content, in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Parity:
    """How far an artifact's answers were from the Keras model's, in a fresh process.

    max_abs_error: the largest difference of any element. max_rel_error: the same over the largest magnitude of that
    output. tolerance: the max_rel_error that was allowed. agreement: the share of samples with the same top-1 class;
    None where no output has classes. batch_sizes: the sizes tried.
    """

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    agreement: float | None
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Quality:
    """A metric on held-out data, with its 95 % confidence interval [low, high] and the number of samples."""

    metric: str
    value: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class KeptFloat:
    """A layer of a quantized artifact that computes in floating point all the same: its name, its op, and why."""

    layer: str
    op: str
    reason: str


@dataclass(frozen=True)
class LayerError:
    """How much one layer's quantization alone moves the model's outputs from the float model's.

    error: root mean square of the difference over that of the float outputs, on calibration samples.
    """

    layer: str
    op: str
    error: float


@dataclass(frozen=True)
class Coverage:
    """How much of an artifact is quantized.

    quantized, total: the number of ops that hold weights, by op; of those quantized, and of all. weights_share: the
    share of all weights' elements that is stored in the scheme's type. kept_float: what is not, and why.
    layer_errors: the largest first; empty where they were not measured.
    """

    quantized: dict[str, int]
    total: dict[str, int]
    weights_share: float
    kept_float: tuple[KeptFloat, ...] = ()
    layer_errors: tuple[LayerError, ...] = ()


@dataclass(frozen=True)
class Drop:
    """How much worse than the Keras model an artifact is on held-out data: percentage points of its metric.

    low, high: the 95 % confidence interval of the drop, from the same samples put to both.
    """

    points: float
    low: float
    high: float


@dataclass(frozen=True)
class Artifact:
    """One way in which a version can be run.

    format: "saved_model", "onnx" or "tflite". files: by path inside the version's folder. load_seconds: from the file
    to a model ready to run, in a fresh process, without imports. latency_ms: the median of one call, by batch size.
    signatures: those of the manifest's that it has; all of them where it is empty. opset: of ONNX artifacts.
    row_independent: whether a batch was proven to answer as its rows do one by one; only
    then may a server put requests together. latency_ratio: of quantized artifacts, their latency over the float one's
    of the same format, measured side by side, by batch size. coverage, drop: of quantized artifacts.
    """

    format: str
    files: dict[str, FileEntry]
    load_seconds: float
    parity: Parity
    row_independent: bool
    latency_ms: dict[str, float] = field(default_factory=dict)
    quality: Quality | None = None
    opset: int | None = None
    latency_ratio: dict[str, float] = field(default_factory=dict)
    coverage: Coverage | None = None
    drop: Drop | None = None
    signatures: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(entry.bytes for entry in self.files.values())


@dataclass(frozen=True)
class Source:
    """The exported model: its file's name and SHA-256, its class, its weights in bytes, and its own quality."""

    file: str
    sha256: str
    model: str
    weights_bytes: int
    quality: Quality | None = None


@dataclass(frozen=True)
class Manifest:
    """What a version holds and what was proven of it. The model's name and version are those of its folders.

    scheme: how its weights and computations are quantized; empty for the float model. golden: the samples of
    serving_default; more_golden: those of signatures with other inputs, by their names.
    """

    source: Source
    signatures: dict[str, Signature]
    artifacts: tuple[Artifact, ...]
    golden: FileEntry
    tools: dict[str, str]
    scheme: str = ""
    more_golden: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def artifact(self, format_: str) -> Artifact | None:
        """The artifact of this format, if the version has one."""
        return next((artifact for artifact in self.artifacts if artifact.format == format_), None)

    def offered(self, format_: str) -> set[str]:
        """The signatures that the artifact of this format has; none where there is no such artifact."""
        artifact = self.artifact(format_)
        return set() if artifact is None else set(artifact.signatures or self.signatures)


def model_names(repository: Path) -> list[str]:
    """The models of a repository: its folders that hold at least one version, in alphabetical order.

    Raises BundleError where the repository is no folder.
    """
    if not repository.is_dir():
        raise BundleError(f"expected a model repository; there is no folder at {repository}")
    return sorted(child.name for child in repository.iterdir() if child.is_dir() and versions(child))


def versions(model_dir: Path) -> dict[int, Path]:
    """The versions in a model's folder, lowest first: number -> folder.

    A version is a folder whose name is a number that fits 64 bits, as TensorFlow Serving has it: 00000123 is 123, and
    of two names for one number the last in alphabetical order wins.
    """
    found = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for child in sorted(model_dir.iterdir()):
            if re.fullmatch(r"\d{1,19}", child.name, re.ASCII) and int(child.name) <= _INT64_MAX and child.is_dir():
                found[int(child.name)] = child
    return dict(sorted(found.items()))


def latest(model_dir: Path) -> Path:
    """The folder of the highest version; raises BundleError where there is none."""
    found = versions(model_dir)
    if not found:
        raise BundleError(
            f"expected versions in {model_dir}, folders named 1, 2 ...; "
            + ("found none" if model_dir.is_dir() else "there is no such folder")
        )
    return found[max(found)]


def resolve(path: Path) -> Path:
    """The version folder that `path` means: itself, or the latest version of the model folder it is.

    Raises BundleError where it is neither.
    """
    if any((path / file).exists() for file in (MANIFEST, SAVED_MODEL, ONNX, TFLITE)):
        return path
    return latest(path)


def read_manifest(version_dir: Path) -> Manifest:
    """The manifest of a version; raises BundleError where it is missing, broken or of a later format."""
    path = version_dir / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"expected a manifest at {path}: {error.strerror or error}; was it made by keraship?"
        ) from error
    try:
        _check_format_version(raw, path)
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is not a manifest of format {FORMAT_VERSION}: {error}") from error


def write_manifest(version_dir: Path, manifest: Manifest) -> None:
    """Write the manifest into a version that is being made; the same manifest gives the same bytes."""
    path = version_dir / MANIFEST
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n")


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of manifest.json, of lists and dicts as it reads in a file."""
    schema = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        if "description" in definition:  # the class's docstring, which Python strips of its indentation since 3.13
            definition["description"] = inspect.cleandoc(definition["description"])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "keraship manifest"}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(head | schema))
    return plain


def golden_path(signature_name: str) -> str:
    """Where a version keeps the samples of a signature: golden.npz, or golden-<name>.npz for one of other inputs."""
    return GOLDEN if signature_name == DEFAULT_SIGNATURE else GOLDEN.replace(".npz", f"-{signature_name}.npz")


def read_golden(version_dir: Path, signature_name: str = DEFAULT_SIGNATURE) -> tuple[Arrays, Arrays]:
    """The sample inputs of a version's signature and the Keras model's answers to them, by name.

    Raises BundleError where the file is missing or broken.
    """
    path = version_dir / golden_path(signature_name)
    sides: dict[str, Arrays] = {"inputs": {}, "outputs": {}}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                side, _, name = key.partition("/")
                if name.endswith(_AS_TENSOR):
                    tensor = TensorProto.FromString(archive[key].tobytes())
                    sides[side][name.removesuffix(_AS_TENSOR)] = to_array(tensor, copy=True)
                else:
                    sides[side][name] = archive[key]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, DecodeError, InvalidArgument) as error:
        raise BundleError(f"expected golden samples, as keraship export writes them, at {path}: {error}") from error
    return sides["inputs"], sides["outputs"]


def write_golden(
    version_dir: Path,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    signature_name: str = DEFAULT_SIGNATURE,
    compress: bool = True,
) -> FileEntry:
    """Write sample inputs and the Keras model's answers into a version that is being made.

    compress: not worth its time for a file that only two processes share.
    """
    path = version_dir / golden_path(signature_name)
    path.parent.mkdir(exist_ok=True, parents=True)
    stored: dict[str, Any] = {}
    for side, arrays in (("inputs", inputs), ("outputs", outputs)):
        for name, array in sorted(arrays.items()):
            if np.asarray(array).dtype.kind in "biufc":
                stored[f"{side}/{name}"] = np.asarray(array)
            else:  # .npy knows no strings of varying length (without pickle) and no bfloat16
                stored[f"{side}/{name}{_AS_TENSOR}"] = np.frombuffer(to_tensor(array).SerializeToString(), np.uint8)
    (np.savez_compressed if compress else np.savez)(path, **stored)
    return file_entry(path)


def file_entry(path: Path) -> FileEntry:
    """The size and the digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        return FileEntry(bytes=file.tell(), sha256=digest.hexdigest())


def file_entries(version_dir: Path, *paths: str) -> dict[str, FileEntry]:
    """The files of an artifact: those at `paths` inside the version, folders with all they hold."""
    found: dict[str, FileEntry] = {}
    for path in paths:
        start = version_dir / path
        files = sorted(file for file in start.rglob("*") if file.is_file()) if start.is_dir() else [start]
        found |= {file.relative_to(version_dir).as_posix(): file_entry(file) for file in files}
    return found


def changed_files(version_dir: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the version's files, a sentence each: missing, or not the bytes that the manifest names."""
    expected = {GOLDEN: manifest.golden}
    expected |= {golden_path(name): entry for name, entry in manifest.more_golden.items()}
    for artifact in manifest.artifacts:
        expected |= artifact.files
    faults = []
    for path, entry in sorted(expected.items()):
        try:
            actual = file_entry(version_dir / path)
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")
            continue
        if actual != entry:
            faults.append(
                f"{path} was changed: expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}..., "
                f"got {actual.bytes} bytes, sha256 {actual.sha256[:12]}..."
            )
    return faults


@dataclass
class Staging:
    """A version that is being made: write into `folder`; once published, `published` says where it is.

    dropped: set it, and the version is not published.
    """

    folder: Path
    published: Path | None = None
    dropped: bool = False


@contextlib.contextmanager
def stage(repository: Path, name: str, version: int | None = None) -> Iterator[Staging]:
    """A folder to write a version into, which becomes that version when the block ends without an error.

    version: a number from 0 on; None takes the next one when all is written, so that two exports can't collide.
    Nothing is left where the block fails. What a killed process left behind is removed by the next export.
    Raises VersionExists, at the start where that is known then; BundleError for a bad name, a folder that cannot be
    written, a disk that is full.

        with stage(Path("repo"), "digits") as staging:
            (staging.folder / "model.onnx").write_bytes(...)
        print(staging.published)   # repo/digits/1
    """
    with stage_all(repository, [name], version) as stagings:
        yield stagings[name]


@contextlib.contextmanager
def stage_all(repository: Path, names: Sequence[str], version: int | None = None) -> Iterator[dict[str, Staging]]:
    """As `stage`, for several models whose versions belong together: all get one number, or none is published.

    version: None takes the lowest number that is higher than any version of any of the models.
    """
    model_dirs = {name: repository / name for name in names}
    for name in names:
        _check_target(repository, name, version)
    try:
        with contextlib.ExitStack() as stack:
            for model_dir in model_dirs.values():
                stack.enter_context(_made_folders(model_dir))
            stagings = {
                name: Staging(stack.enter_context(_locked_staging(model_dir))) for name, model_dir in model_dirs.items()
            }
            yield stagings
            kept = {model_dirs[name]: staging for name, staging in stagings.items() if not staging.dropped}
            for staging in kept.values():
                _flush(staging.folder)
            _publish(kept, version)
        _remove_empty(model_dirs[name] for name, staging in stagings.items() if staging.dropped)
    except OSError as error:
        if error.errno in _FULL:  # such errors come from a write, and name no file
            raise BundleError(
                f"cannot write a version into {model_dirs[names[0]]}: {error.strerror}, there or in "
                f"{tempfile.gettempdir()}"
            ) from error
        if not any(_is_inside(error, model_dir) for model_dir in model_dirs.values()):
            raise
        raise BundleError(f"cannot write a version into {repository / names[0]}: {error.strerror or error}") from error


def is_model_name(name: str) -> bool:
    """Whether a model in a repository may have this name."""
    return _MODEL_NAME.fullmatch(name) is not None


def _check_target(repository: Path, name: str, version: int | None) -> None:
    if not is_model_name(name):
        raise BundleError(f"expected a model name of letters, digits, '_', '.' and '-'; got {name!r}")
    if version is not None and not 0 <= version <= _INT64_MAX:
        raise BundleError(f"expected a version from 0 to {_INT64_MAX}; got {version}")
    if repository.exists() and not repository.is_dir():
        raise BundleError(f"expected a folder to publish into; {repository} is a file")
    if version is not None and version in versions(repository / name):
        raise _version_exists(repository / name, version)


def _version_exists(model_dir: Path, version: int) -> VersionExists:
    return VersionExists(
        f"{model_dir / str(version)} exists, and versions are never changed; leave --version out to take the next one"
    )


@contextlib.contextmanager
def _made_folders(model_dir: Path) -> Iterator[None]:
    """The model's folder, made where it is missing and taken away again if nothing came of it."""
    made = [folder for folder in (model_dir, *model_dir.parents) if not folder.exists()]
    model_dir.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:  # innermost first; one that holds something stays
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def _locked_staging(model_dir: Path) -> Iterator[Path]:
    """A new hidden folder, locked while this process lives: an unlocked one was left behind by a killed process."""
    with _Lock(model_dir):
        _sweep(model_dir)
        folder = model_dir / f"{_STAGING}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir()
        lock = _Lock(folder)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # it is gone from here where it was published


def _sweep(model_dir: Path) -> None:
    for folder in model_dir.glob(f"{_STAGING}*"):
        try:
            with _Lock(folder, block=False):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its export is under way
            continue


class _Lock:
    """An exclusive lock on a folder, taken at once, held until the end of the `with` or of the process."""

    def __init__(self, folder: Path, *, block: bool = True) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
        except OSError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)


def _flush(folder: Path) -> None:
    """Bring all of it to the disk: a name that survives a power cut must not stand over empty files."""
    for path in (*folder.rglob("*"), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(stagings: Mapping[Path, Staging], version: int | None) -> None:
    """Rename the stagings, by their models' folders, into one version; while it lasts no other export does so."""
    with contextlib.ExitStack() as stack:
        for model_dir in sorted(stagings):  # in one order, so that two exports can't wait for each other
            stack.enter_context(_Lock(model_dir))
        number = version if version is not None else _next_version(stagings)
        for model_dir in stagings:
            _check_free(model_dir, number)
        try:
            for model_dir, staging in stagings.items():
                target = model_dir / str(number)
                staging.folder.rename(target)
                staging.published = target
                _fsync(model_dir)
        except BaseException:
            for staging in stagings.values():
                if staging.published is not None:
                    staging.published.rename(staging.folder)
                    staging.published = None
            raise


def _next_version(model_dirs: Iterable[Path]) -> int:
    return max((number for model_dir in model_dirs for number in versions(model_dir)), default=0) + 1


def _check_free(model_dir: Path, number: int) -> None:
    """That rename will find nothing there: it would replace an empty folder."""
    target = model_dir / str(number)
    if target.is_dir() or number in versions(model_dir):
        raise _version_exists(model_dir, number)
    if os.path.lexists(target):
        raise BundleError(f"cannot publish {target}: a file of that name is in the way")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it has other versions
            folder.rmdir()


def _is_inside(error: OSError, folder: Path) -> bool:
    """Whether an error is about the model's folder: something in it, or a folder above it that could not be made."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    return Path(error.filename).is_relative_to(folder) or folder.is_relative_to(error.filename)


def _check_format_version(raw: bytes, path: Path) -> None:
    """Before all else: a later format may differ in every other field."""
    version = msgspec.json.decode(raw, type=_FormatOnly).format_version
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this keraship reads up to {FORMAT_VERSION}; install a later one"
        )


class _FormatOnly(msgspec.Struct):
    format_version: int


def _digest(file: Any) -> Any:
    """hashlib.file_digest, which Python 3.10 lacks."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest
