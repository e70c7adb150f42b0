"""TensorFlow: any stock SavedModel, of TensorFlow 1 or 2, in a session, as tensorflow_model_server runs it."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keraship.errors import FailedPrecondition, InvalidArgument, NotFound
from keraship.quiet import LEVEL, import_tensorflow

os.environ.setdefault(LEVEL, "1")  # a server's log has its warnings, not its notes on the CPU
tf = import_tensorflow()

from keraship.serving.backend import Array, BackendOptions  # noqa: E402  # after the quiet import
from keraship.serving.saved_model import Session, load  # noqa: E402
from keraship.signature import Signature  # noqa: E402
from keraship.wire import to_array  # noqa: E402
from keraship.wire.messages import SignatureDefMap  # noqa: E402
from keraship.wire.signatures import to_signature  # noqa: E402

_LOG = logging.getLogger(__name__)

ConfigProto: Any = tf.compat.v1.ConfigProto
"""What a session can be told; TensorFlow's own message."""


class TensorFlowBackend:
    """A version's SavedModel.

    Raises NotFound where it has no graph with the tags, and what TensorFlow raises for one that is broken.
    """

    def __init__(self, version_dir: Path, options: BackendOptions) -> None:
        for library in options.op_libraries:
            _load_library(library)
        self._session, meta_graph = _open(version_dir, options)
        self.signature_defs: Any = SignatureDefMap()
        for name, signature_def in meta_graph.signature_def.items():
            self.signature_defs.signature_def[name].ParseFromString(signature_def.SerializeToString())
        self.signatures: dict[str, Signature] = _signatures(self.signature_defs)
        self.defaults: dict[str, dict[str, Array]] = {
            name: {alias: to_array(tensor) for alias, tensor in message.defaults.items()}
            for name, message in self.signature_defs.signature_def.items()
            if message.defaults
        }

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """See Backend.run; shapes and dtypes are the graph's own affair, in TensorFlow's own words."""
        signature = self.signatures[signature_name]
        feeds = {spec.tensor: inputs[spec.name] for spec in signature.inputs}
        names = {spec.name: spec.tensor for spec in signature.outputs}
        return self._session.run(feeds, [names[name] for name in output_names], timeout=timeout)

    def run_together(
        self, wanted: Mapping[str, Sequence[str]], array: Array, *, timeout: float | None = None
    ) -> dict[str, list[Array]]:
        """See JointBackend.run_together."""
        feeds = {spec.tensor: array for name in wanted for spec in self.signatures[name].inputs}
        tensors = {
            (name, spec.name): spec.tensor
            for name, outputs in wanted.items()
            for spec in self.signatures[name].outputs
            if spec.name in outputs
        }
        found = dict(zip(tensors, self._session.run(feeds, list(tensors.values()), timeout=timeout), strict=True))
        return {name: [found[name, output] for output in outputs] for name, outputs in wanted.items()}

    def close(self) -> None:
        self._session.close()


def _open(version_dir: Path, options: BackendOptions) -> tuple[Session, Any]:
    """A session with the version's graph, and its MetaGraphDef."""
    try:
        return _open_once(version_dir, options)
    except NotFound as error:
        if not error.details.startswith(_UNKNOWN_OP) or not _import_linked():
            raise
    return _open_once(version_dir, options)


def _open_once(version_dir: Path, options: BackendOptions) -> tuple[Session, Any]:
    session = Session(_config(options))
    try:
        return session, load(session, version_dir, options.tags)
    except BaseException:
        session.close()
        raise


def _config(options: BackendOptions) -> Any:
    config = ConfigProto.FromString(options.session_config)
    config.allow_soft_placement = True  # a graph that was made with a GPU runs without one
    config.intra_op_parallelism_threads = options.intra_op or config.intra_op_parallelism_threads
    config.inter_op_parallelism_threads = options.inter_op or config.inter_op_parallelism_threads
    return config


def _import_linked() -> bool:
    """Import the packages whose operations tensorflow_model_server has in its binary; whether any is new."""
    new = [name for name in _LINKED if name not in sys.modules and find_spec(name) is not None]
    for name in new:
        _LOG.info("Importing %s for its operations", name)
        try:
            importlib.import_module(name)
        except Exception as error:  # a package for another TensorFlow fails in whatever way
            raise FailedPrecondition(
                f"{name} cannot be imported: {error}; install the one for this TensorFlow"
            ) from error
    return bool(new)


_UNKNOWN_OP = "Op type not registered"
_LINKED = ("tensorflow_text", "tensorflow_decision_forests")


@cache
def _load_library(path: str) -> None:
    try:
        tf.load_op_library(path)
    except (tf.errors.OpError, RuntimeError) as error:
        message = error.message if isinstance(error, tf.errors.OpError) else str(error)
        raise FailedPrecondition(f"--op_library: TensorFlow cannot load {path}: {message}") from error
    _LOG.info("Loaded the operations of %s", path)


def _signatures(signature_defs: Any) -> dict[str, Signature]:
    found = {}
    for name, message in signature_defs.signature_def.items():
        try:
            found[name] = to_signature(message)
        except InvalidArgument:  # it takes or gives no tensor, like __saved_model_init_op: nobody can ask it anything
            continue
    return found
