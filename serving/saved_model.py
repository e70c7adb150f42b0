"""A SavedModel on disk to a session that can run it, by the rules and in the words of TensorFlow's C++ loader.

Python's own loader refuses what a server takes (a model whose variables are missing), and says everything otherwise.
Source: tensorflow/cc/saved_model/reader.cc, loader.cc, loader_util.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from keraship import bundle
from keraship.errors import (
    BY_CODE,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StatusError,
    Unimplemented,
    Unknown,
)
from keraship.quiet import import_tensorflow
from keraship.serving.backend import Array
from keraship.serving.status import NAMES

tf = import_tensorflow()

from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2  # noqa: E402  # after the quiet import
from tensorflow.python.client import pywrap_tf_session as raw  # noqa: E402

_LOG = logging.getLogger(__name__)

_INIT_OP = "__saved_model_init_op"
_MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
_ASSETS = "saved_model_assets"


class Session:
    """A graph that can be run; tensors and operations are named as in SignatureDefs: `y:0`, `init`."""

    def __init__(self, config: Any) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        self._tensors: dict[str, Any] = {}

    def extend(self, meta_graph: Any) -> None:
        """Add a MetaGraphDef's graph."""
        stripped = meta_graph.meta_info_def
        producers = stripped.stripped_op_list if stripped.HasField("stripped_op_list") else None
        with self._session.graph.as_default():
            try:
                tf.graph_util.import_graph_def(meta_graph.graph_def, name="", producer_op_list=producers)
            except tf.errors.OpError as error:
                raise as_status(error) from error
            except (ValueError, TypeError) as error:  # which is how Python calls an INVALID_ARGUMENT
                raise InvalidArgument(str(error)) from error
        self._session._extend_graph()

    def run(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], targets: Iterable[str] = (), *, timeout: float | None
    ) -> list[Array]:
        """The tensors of `fetches`, with those of `feeds` given and the operations of `targets` run.

        timeout: seconds. Raises what TensorFlow raises, in its words.
        """
        options = _run_options(timeout)
        try:
            # Not Session.run: that refuses shapes which the server takes, in words that are not the server's.
            found: list[Any] = raw.TF_SessionRun_wrapper(
                self._session._session,
                options,
                {self._tensor(name, "FeedInputs: unable to find feed output {}"): feeds[name] for name in feeds},
                [self._tensor(name, "FetchOutputs node {}: not found") for name in fetches],
                [self._session.graph.get_operation_by_name(name.partition(":")[0])._c_op for name in targets],
                None,
            )
        except tf.errors.OpError as error:
            raise as_status(error) from error
        except UnicodeDecodeError as error:  # the words quote the caller's bytes, which keeps Python from raising them
            raise InvalidArgument(error.object.decode("utf-8", "replace")) from error
        finally:
            if options is not None:
                raw.TF_DeleteBuffer(options)
        return [np.array(each, object) if isinstance(each, bytes) else np.asarray(each) for each in found]

    def close(self) -> None:
        """Give its memory back."""
        self._tensors.clear()
        self._session.close()

    def _tensor(self, name: str, absent: str) -> Any:
        if name not in self._tensors:
            try:
                self._tensors[name] = self._session.graph.get_tensor_by_name(name)._as_tf_output()
            except (KeyError, ValueError) as error:
                raise NotFound(absent.format(name)) from error
        return self._tensors[name]


def load(session: Session, version_dir: Path, tags: Sequence[str]) -> Any:
    """The MetaGraphDef of a version that has these tags, and no others; its graph is in the session, ready to run.

    Raises NotFound where there is none, DataLoss for a file that is broken, and what TensorFlow raises for a graph that
    it cannot run. Variables that are missing are no error until something reads them.
    """
    meta_graph = _find(_read(version_dir), tags)
    session.extend(meta_graph)
    assets = _assets(meta_graph, version_dir)
    _restore(session, meta_graph, version_dir, assets)
    init_op = _init_op(meta_graph, version_dir)
    if init_op:
        session.run(assets, [], [init_op], timeout=None)
    return meta_graph


def as_status(error: Any) -> StatusError:
    """TensorFlow's error as ours, in its own words."""
    return BY_CODE.get(NAMES.get(error.error_code, ""), Unknown)(error.message)


def _read(version_dir: Path) -> Any:
    message = saved_model_pb2.SavedModel()
    binary, text = version_dir / bundle.SAVED_MODEL, version_dir / "saved_model.pbtxt"
    try:
        if binary.exists():
            message.ParseFromString(binary.read_bytes())
        elif text.exists():
            text_format.Parse(text.read_text("utf-8"), message)
        else:
            raise Unimplemented(
                f"expected {bundle.SAVED_MODEL} in {version_dir}; a model in chunks (.cpb) is not served"
            )
    except DecodeError as error:
        raise DataLoss(f"Can't parse {binary} as binary proto") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataLoss(f"Can't parse {text} as text proto") from error
    return message


def _find(saved_model: Any, tags: Sequence[str]) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise NotFound(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _assets(meta_graph: Any, version_dir: Path) -> dict[str, Array]:
    """What to feed for the files that a graph reads as it starts: tensor name -> path."""
    files = list(meta_graph.asset_file_def)
    if not files and _ASSETS in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_ASSETS].any_list.value:
            files.append(meta_graph_pb2.AssetFileDef())
            packed.Unpack(files[-1])
    return {file.tensor_info.name: _text(version_dir / "assets" / file.filename) for file in files}


def _restore(session: Session, meta_graph: Any, version_dir: Path, assets: Mapping[str, Array]) -> None:
    prefix = version_dir / "variables" / "variables"
    if not meta_graph.HasField("saver_def"):
        return
    index = prefix.with_suffix(".index")
    if not index.exists():
        _LOG.info(
            "The specified SavedModel has no variables; no checkpoints were restored. File does not exist: %s", index
        )
        return
    saver = meta_graph.saver_def
    session.run({saver.filename_tensor_name: _text(prefix), **assets}, [], [saver.restore_op_name], timeout=None)


def _init_op(meta_graph: Any, version_dir: Path) -> str:
    """The operation that a graph wants run as it starts; empty where it wants none."""
    if _INIT_OP in meta_graph.signature_def:
        name: str = meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name
        return name
    collection = next((key for key in _MAIN_OPS if key in meta_graph.collection_def), None)
    if collection is None:
        return ""
    names = meta_graph.collection_def[collection].node_list.value
    if len(names) != 1:
        raise FailedPrecondition(f"Expected exactly one main op in : {version_dir}")
    return str(names[0])


def _text(path: Path) -> Array:
    return np.array(str(path).encode(), object)


def _run_options(timeout: float | None) -> Any:
    if timeout is None:
        return None
    message = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
    return raw.TF_NewBufferFromString(message.SerializeToString())
