"""TensorFlow: any stock SavedModel, of TensorFlow 1 or 2, in a session, as tensorflow_model_server runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraship.errors import BY_CODE, FailedPrecondition, InvalidArgument, NotFound, StatusError, Unknown
from keraship.quiet import LEVEL, import_tensorflow
from keraship.serving.backend import Array, BackendOptions
from keraship.serving.status import NAMES
from keraship.signature import Signature
from keraship.wire import to_array
from keraship.wire.messages import SignatureDefMap
from keraship.wire.signatures import to_signature

os.environ.setdefault(LEVEL, "1")  # a server's log has its warnings, not its notes on the CPU
tf = import_tensorflow()

from tensorflow.python.client import pywrap_tf_session as raw  # noqa: E402  # after the quiet import

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # the loader that servers use is called deprecated


class TensorFlowBackend:
    """A version's SavedModel.

    Raises NotFound where it has no graph with the tags, and what TensorFlow raises for one that is broken.
    """

    def __init__(self, version_dir: Path, options: BackendOptions) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=_config(options))
        try:
            meta_graph = _load(self._session, version_dir, options.tags)
            self.signature_defs: Any = SignatureDefMap()
            for name, signature_def in meta_graph.signature_def.items():
                self.signature_defs.signature_def[name].ParseFromString(signature_def.SerializeToString())
            self.signatures: dict[str, Signature] = _signatures(self.signature_defs)
            self.defaults: dict[str, dict[str, Array]] = {
                name: {alias: to_array(tensor) for alias, tensor in message.defaults.items()}
                for name, message in self.signature_defs.signature_def.items()
                if message.defaults
            }
            self._outputs = self._find_tensors()
        except BaseException:
            self._session.close()
            raise

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
        return self._run(feeds, [names[name] for name in output_names], timeout)

    def run_together(
        self, wanted: Mapping[str, Sequence[str]], array: Array, *, timeout: float | None = None
    ) -> dict[str, list[Array]]:
        """See JointBackend.run_together."""
        feeds = {spec.tensor: array for name in wanted for spec in self.signatures[name].inputs}
        tensors = [
            (name, next(spec.tensor for spec in self.signatures[name].outputs if spec.name == output))
            for name, outputs in wanted.items()
            for output in outputs
        ]
        found: dict[str, list[Array]] = {name: [] for name in wanted}
        arrays = self._run(feeds, [tensor for _, tensor in tensors], timeout)
        for (name, _), each in zip(tensors, arrays, strict=True):
            found[name].append(each)
        return found

    def _run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout: float | None) -> list[Array]:
        """The tensors of `fetches`, of one run of the graph with the tensors of `feeds` given."""
        tensors = self._outputs
        options = _run_options(timeout)
        try:
            # Not Session.run: that refuses shapes which the server takes, in words that are not the server's.
            found: list[Any] = raw.TF_SessionRun_wrapper(
                self._session._session,
                options,
                {tensors[name]: array for name, array in feeds.items()},
                [tensors[name] for name in fetches],
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise _translate(error) from error
        except UnicodeDecodeError as error:  # the words quote the caller's bytes, which keeps Python from raising them
            raise InvalidArgument(error.object.decode("utf-8", "replace")) from error
        finally:
            if options is not None:
                raw.TF_DeleteBuffer(options)
        return [np.asarray(array) for array in found]

    def close(self) -> None:
        self._session.close()

    def _find_tensors(self) -> dict[str, Any]:
        graph = self._session.graph
        specs = [spec for each in self.signatures.values() for spec in (*each.inputs, *each.outputs)]
        try:
            return {spec.tensor: graph.get_tensor_by_name(spec.tensor)._as_tf_output() for spec in specs}
        except (KeyError, ValueError) as error:
            raise FailedPrecondition(f"a signature names a tensor that the graph does not have: {error}") from error


def _config(options: BackendOptions) -> Any:
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=options.intra_op,
        inter_op_parallelism_threads=options.inter_op,
        allow_soft_placement=True,
    )


def _load(session: Any, version_dir: Path, tags: tuple[str, ...]) -> Any:
    try:
        with session.graph.as_default():
            return tf.compat.v1.saved_model.loader.load(session, list(tags), str(version_dir))
    except tf.errors.OpError as error:
        raise _translate(error) from error
    except RuntimeError as error:
        if "could not be found" not in str(error):
            raise Unknown(f"TensorFlow cannot load {version_dir}: {error}") from error
        raise NotFound(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available "
            "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        ) from error
    except (OSError, ValueError, KeyError) as error:  # unparsable files, unknown ops
        raise FailedPrecondition(f"TensorFlow cannot load {version_dir}: {error}") from error


def _signatures(signature_defs: Any) -> dict[str, Signature]:
    found = {}
    for name, message in signature_defs.signature_def.items():
        try:
            found[name] = to_signature(message)
        except InvalidArgument:  # it takes or gives no tensor, like __saved_model_init_op: nobody can ask it anything
            continue
    return found


def _run_options(timeout: float | None) -> Any:
    if timeout is None:
        return None
    message = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
    return raw.TF_NewBufferFromString(message.SerializeToString())


def _translate(error: Any) -> StatusError:
    return BY_CODE.get(NAMES.get(error.error_code, ""), Unknown)(error.message)
