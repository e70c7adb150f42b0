"""Signatures beside the model's own, over one copy of its weights: tf.Examples or encoded images in, classes out.

A session runs the part of a graph that leads from what is fed to what is fetched. So each signature is an entrance of
its own: the model's inputs become placeholders whose defaults are computed from other placeholders, of serialized
tf.Examples or of images, and a caller feeds those or the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from keraship import dtypes
from keraship.errors import ExportError
from keraship.exporter import examples, golden, image_bytes
from keraship.exporter.wanted import CLASSIFY, PREDICT_IMAGES, REGRESS, Wanted
from keraship.signature import Signature, TensorSpec

Arrays = dict[str, np.ndarray[Any, Any]]
Samples = dict[str, tuple[Arrays, Arrays]]

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

_SCOPE = "signatures"  # of the added nodes
_EXAMPLES, _IMAGES = f"{_SCOPE}/examples", f"{_SCOPE}/image_bytes"
_IMAGE_ROWS = 2


@dataclass(frozen=True)
class Additions:
    """What is added to a graph.

    graph: the added nodes; they read the model's outputs by their names. defaults: an input's name -> the node that
    computes it. signatures: by name, each spec with its tensor. ends: the nodes that must keep their names.
    """

    graph: Any
    defaults: dict[str, str]
    signatures: dict[str, Signature]
    ends: tuple[str, ...]

    @property
    def public(self) -> dict[str, Signature]:
        """The signatures as callers know them."""
        return {name: _without_tensors(signature) for name, signature in self.signatures.items()}

    def added_to(self, graph: Any) -> Any:
        """A GraphDef with the additions; `graph` has the model's inputs as placeholders, and its outputs, by name."""
        added = graph_pb2.GraphDef()
        added.CopyFrom(graph)
        taken = {node.name for node in graph.node}
        both = sorted(taken.intersection(node.name for node in self.graph.node))
        if both:
            raise ExportError(
                f"the model has a layer called {_SCOPE!r}, whose node {both[0]} is in the way of the signatures "
                f"{', '.join(self.signatures)}; rename it"
            )
        for node in added.node:
            if node.name in self.defaults:
                node.op = "PlaceholderWithDefault"
                node.input.append(self.defaults[node.name])
        added.node.extend(self.graph.node)
        added.library.function.extend(self.graph.library.function)
        return added


def additions(signature: Signature, wanted: Wanted) -> Additions:
    """The graph for the wanted signatures of a model with this one; raises ExportError where it can't have them."""
    outputs = {name: _OUTPUTS[name](signature, wanted) for name in wanted.names if name in _OUTPUTS}
    if outputs:
        examples.check(signature)
    image = _image(signature, wanted)
    with tf.Graph().as_default() as graph:
        _stand_in(signature.outputs)
        entrances = _entrances(bool(outputs), image is not None)
        defaults = _defaults(signature, entrances, image, wanted.image_scale)
        signatures = {name: _example_signature(name, make()) for name, make in outputs.items()}
    if image is not None:
        signatures[PREDICT_IMAGES] = _image_signature(signature, image)
    nodes = graph.as_graph_def()
    for spec in signature.outputs:
        nodes.node.remove(next(node for node in nodes.node if node.name == spec.name))
    outside = {f"{spec.name}:0" for spec in (*signature.inputs, *signature.outputs)}
    tensors = {spec.tensor for each in signatures.values() for spec in (*each.inputs, *each.outputs)} - outside
    return Additions(nodes, defaults, signatures, tuple(sorted(tensor.removesuffix(":0") for tensor in tensors)))


def sample(
    signature: Signature, wanted: Wanted, answer: Callable[[Arrays], Arrays], samples: tuple[Arrays, Arrays]
) -> Samples:
    """For each wanted signature what to ask, and what the Keras model answers to it.

    answer: the Keras model's. samples: golden inputs and outputs of the model's own signature, which become Examples.
    """
    inputs, outputs = samples
    found: Samples = {}
    if wanted.classify or wanted.regress:
        asked = {"inputs": examples.serialize(signature, inputs)}
        expected = {CLASSIFY: _expected_classes, REGRESS: _expected_values}
        found = {name: (asked, expected[name](signature, wanted, outputs)) for name in wanted.names if name in expected}
    image = _image(signature, wanted)
    if image is not None:
        pixels = image_bytes.samples(image, _IMAGE_ROWS)
        others = golden.rows(inputs, 0, _IMAGE_ROWS)
        asked = others | {"image_bytes": image_bytes.encode(pixels)}
        del asked[image.name]
        fed = image_bytes.scaled(pixels, image, wanted.image_scale)
        found[PREDICT_IMAGES] = asked, answer(others | {image.name: fed})
    return found


def _image(signature: Signature, wanted: Wanted) -> TensorSpec | None:
    if wanted.image_input is None:
        return None
    spec = image_bytes.choose(signature, wanted.image_input)
    taken = [other.name for other in signature.inputs if other.name == "image_bytes"]
    if taken:
        raise ExportError("the model has an input called image_bytes, as predict_images has; name it with --inputs")
    image_bytes.check_scale(spec, wanted.image_scale)
    return spec


def _stand_in(outputs: Iterable[TensorSpec]) -> None:
    """Placeholders called as the model's outputs, which the additions read in their place."""
    for spec in outputs:
        tf.compat.v1.placeholder(spec.dtype, spec.shape, name=spec.name)


def _entrances(*needed: bool) -> dict[str, Any]:
    """The placeholders for Examples and for images; where there are both, either may be left out."""
    names = [name for name, is_needed in zip((_EXAMPLES, _IMAGES), needed, strict=True) if is_needed]
    if len(names) == 1:
        return {name: tf.compat.v1.placeholder(tf.string, [None], name=name) for name in names}
    return {
        name: tf.compat.v1.placeholder_with_default(tf.constant([], tf.string), [None], name=name) for name in names
    }


def _defaults(signature: Signature, entrances: dict[str, Any], image: TensorSpec | None, scale: str) -> dict[str, str]:
    """Compute the inputs from the entrances; an entrance that is left out adds no rows."""
    parsed = examples.parse(entrances[_EXAMPLES], signature) if _EXAMPLES in entrances else {}
    sources = {name: [tensor] for name, tensor in parsed.items()}
    if image is not None:
        sources.setdefault(image.name, []).append(image_bytes.read(entrances[_IMAGES], image, scale))
    named = {
        name: tf.identity(tf.concat(tensors, 0) if len(tensors) > 1 else tensors[0], name=f"{_SCOPE}/{name}/default")
        for name, tensors in sources.items()
    }
    return {name: str(tensor.op.name) for name, tensor in named.items()}


def _classes(signature: Signature, wanted: Wanted) -> Callable[[], dict[str, Any]]:
    """The outputs of classify, as a function that adds them to a graph."""
    spec = _only(signature, CLASSIFY, "scores for a fixed number of classes, float [-1,classes]", _is_scores)
    count = (spec.shape or ())[1]
    if wanted.labels and len(wanted.labels) != count:
        raise ExportError(f"expected {count} labels, one for each of {spec.name!r}'s scores; got {len(wanted.labels)}")

    def make() -> dict[str, Any]:
        scores = tf.cast(_tensor(spec), tf.float32)
        names = tf.constant([list(_labels(wanted, count or 0))])
        return {"classes": tf.tile(names, [tf.shape(scores)[0], 1]), "scores": scores}

    return make


def _values(signature: Signature, _wanted: Wanted) -> Callable[[], dict[str, Any]]:
    spec = _only(signature, REGRESS, "a number for each row, float [-1] or [-1,1]", _is_values)
    return lambda: {"outputs": tf.cast(_tensor(spec), tf.float32)}


_OUTPUTS = {CLASSIFY: _classes, REGRESS: _values}
_METHODS = {CLASSIFY: CLASSIFY_METHOD, REGRESS: REGRESS_METHOD}


def _expected_classes(signature: Signature, wanted: Wanted, outputs: Arrays) -> Arrays:
    scores = outputs[_only(signature, CLASSIFY, "", _is_scores).name].astype(np.float32)
    classes = np.empty(scores.shape, object)
    classes[:] = [label.encode() for label in _labels(wanted, scores.shape[1])]
    return {"classes": classes, "scores": scores}


def _expected_values(signature: Signature, _wanted: Wanted, outputs: Arrays) -> Arrays:
    return {"outputs": outputs[_only(signature, REGRESS, "", _is_values).name].astype(np.float32)}


def _labels(wanted: Wanted, count: int) -> tuple[str, ...]:
    return wanted.labels or tuple(str(number) for number in range(count))


def _only(signature: Signature, name: str, what: str, fits: Callable[[TensorSpec], bool]) -> TensorSpec:
    fitting = [spec for spec in signature.outputs if fits(spec)]
    if len(fitting) != 1:
        outputs = ", ".join(f"{spec.name} {spec}" for spec in signature.outputs)
        raise ExportError(f"the signature {name} needs exactly one output of {what}; the model gives {outputs}")
    return fitting[0]


def _is_scores(spec: TensorSpec) -> bool:
    return _is_float(spec) and spec.shape is not None and len(spec.shape) == 2 and spec.shape[1] is not None


def _is_values(spec: TensorSpec) -> bool:
    return _is_float(spec) and spec.shape is not None and (len(spec.shape) == 1 or spec.shape[1:] == (1,))


def _is_float(spec: TensorSpec) -> bool:
    return dtypes.by_name(spec.dtype).numpy.kind in "fV" and dtypes.has_fractions(dtypes.by_name(spec.dtype))


def _tensor(spec: TensorSpec) -> Any:
    return tf.compat.v1.get_default_graph().get_tensor_by_name(f"{spec.name}:0")


def _example_signature(name: str, outputs: dict[str, Any]) -> Signature:
    named = {key: tf.identity(tensor, name=f"{_SCOPE}/{name}/{key}") for key, tensor in outputs.items()}
    return Signature(
        (TensorSpec("inputs", "string", (None,), f"{_EXAMPLES}:0"),),
        tuple(
            TensorSpec(key, tensor.dtype.name, (None, *tensor.shape[1:]), str(tensor.name))
            for key, tensor in named.items()
        ),
        _METHODS[name],
    )


def _image_signature(signature: Signature, image: TensorSpec) -> Signature:
    def entrance(spec: TensorSpec) -> TensorSpec:
        if spec.name == image.name:
            return TensorSpec("image_bytes", "string", (None,), f"{_IMAGES}:0")
        return replace(spec, tensor=f"{spec.name}:0")

    outputs = tuple(replace(spec, tensor=f"{spec.name}:0") for spec in signature.outputs)
    return Signature(tuple(map(entrance, signature.inputs)), outputs)


def _without_tensors(signature: Signature) -> Signature:
    inputs, outputs = (
        tuple(replace(spec, tensor="") for spec in side) for side in (signature.inputs, signature.outputs)
    )
    return Signature(inputs, outputs, signature.method_name)
