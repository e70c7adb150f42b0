"""A Keras model as one TensorFlow function: in inference mode, with the signature's names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator  # where layers without a seed draw from

from keraship import dtypes
from keraship.errors import ExportError, InvalidArgument
from keraship.exporter import names
from keraship.reasons import reason
from keraship.signature import Signature, TensorSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Traced:
    """A model that was traced.

    function: TensorFlow's concrete function; takes and gives flat lists of tensors, in the signature's order.
    signature: the names, dtypes and shapes of those lists.
    answer: the Keras model itself at inference, not the trace of it: arrays by name in, arrays by name out.
    moved: the same with other weights, given the arrays and what to make of each weight; None where it has none.
    """

    function: Any
    signature: Signature
    answer: Callable[[dict[str, Array]], dict[str, Array]]
    moved: Callable[[dict[str, Array], Callable[[Array], Array]], dict[str, Array]] | None = None


def trace(model: Any, *, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None) -> Traced:
    """Trace `model` with training=False; sizes that the model leaves open stay open.

    inputs, outputs: names in the model's order; without them the layers' names and the keys of dicts are taken.
    Raises ExportError where the model's inputs are not known, are no dense tensors, or it cannot be traced.
    """
    entry = _entry(model)
    specs = keras.tree.flatten(entry.structure)
    input_names = names.choose("inputs", entry.names, inputs)
    call = _Flat(model, entry)
    function = _traced(model, call, specs)
    output_names = names.choose("outputs", _output_names(model, call.outputs), outputs, input_names)
    signature = Signature(
        tuple(_spec(name, spec) for name, spec in zip(input_names, specs, strict=True)),
        tuple(_spec(name, tensor) for name, tensor in zip(output_names, function.outputs, strict=True)),
    )
    return Traced(function, signature, _answer(signature, call), _moved(signature, call, model))


@dataclass(frozen=True)
class _Entry:
    """How a model is called: the structure of its inputs, made of tf.TensorSpec; their names, flat; the call."""

    structure: Any
    names: list[str]
    call: Callable[[Any], Any]


class _Flat:
    """The model as a function of a flat list; remembers where in its structure each output stood.

    What layers write (the state of a recurrent layer, a counter) is forgotten when the call ends, for an artifact has
    no memory: it answers every request from the state that the model was saved with.
    """

    def __init__(self, model: Any, entry: _Entry) -> None:
        self._model = model
        self._entry = entry
        self.outputs: list[tuple[tuple[Any, ...], Any]] = []

    def __call__(self, *flat: Any) -> list[Any]:
        return self.ask(flat)

    def ask(self, flat: Sequence[Any], weights: Sequence[tuple[Any, Any]] = ()) -> list[Any]:
        """Call it; weights: values that stand for some of the model's own, (variable, array)."""
        with keras.StatelessScope(weights) as written:
            answer = self._entry.call(keras.tree.pack_sequence_as(self._entry.structure, list(flat)))
            self.outputs = keras.tree.flatten_with_path(answer)
            answers = [_as_tensor(path, value) for path, value in self.outputs]
        if tf.executing_eagerly():
            _keep_seeds(self._model, written)
        return answers


def _keep_seeds(model: Any, written: Any) -> None:
    """Let seeds go on nevertheless: a layer that is random must not look as if it always gave the same."""
    for state in (*_seed_states(model), global_seed_generator().state):
        value = written.get_current_value(state)
        if value is not None:
            state.assign(value)


def _seed_states(model: Any) -> list[Any]:
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _traced(model: Any, call: _Flat, specs: list[Any]) -> Any:
    # TensorFlow names a placeholder after its spec: neutral names, for a layer may be called anything
    neutral = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{index}") for index, spec in enumerate(specs)]
    try:
        # AutoGraph can't see into a layer's call(), which Keras wraps; without it tracing is quicker
        return tf.function(call, input_signature=neutral, autograph=False).get_concrete_function()
    except ExportError:
        raise
    except Exception as error:  # a layer's code may raise anything
        raise ExportError(
            f"{model.name} cannot be traced for inference ({type(error).__name__}: {reason(error)}); "
            "call it once on a batch like those it will serve, or wrap it in keras.Model(inputs, outputs)"
        ) from error


def _answer(signature: Signature, call: Callable[..., list[Any]]) -> Callable[[dict[str, Array]], dict[str, Array]]:
    def answer(arrays: dict[str, Array]) -> dict[str, Array]:
        flat = [tf.constant(arrays[spec.name], spec.dtype) for spec in signature.inputs]
        answers = call(*flat)
        return {spec.name: np.asarray(tensor) for spec, tensor in zip(signature.outputs, answers, strict=True)}

    return answer


def _moved(
    signature: Signature, call: _Flat, model: Any
) -> Callable[[dict[str, Array], Callable[[Array], Array]], dict[str, Array]]:
    def answer(arrays: dict[str, Array], move: Callable[[Array], Array]) -> dict[str, Array]:
        weights = [(weight, move(weight.numpy())) for weight in model.weights if weight.dtype in ("float32", "float64")]
        return _answer(signature, lambda *flat: call.ask(flat, weights))(arrays)

    return answer


def _entry(model: Any) -> _Entry:
    if not isinstance(model, keras.Model):
        raise ExportError(f"expected a keras.Model or the path of a .keras file; got {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        return _symbolic_entry(model, _alone(model.inputs) if model.built else None, open_batch=not _is_stateful(model))
    if getattr(model, "inputs", None):
        return _symbolic_entry(model, model.input)
    return _subclassed_entry(model)


def _symbolic_entry(model: Any, structure: Any, *, open_batch: bool = False) -> _Entry:
    """A Functional or Sequential model, whose inputs are Keras tensors.

    open_batch: a Sequential model that was built by a first call has that call's number of rows in its input's shape.
    """
    if structure is None or structure == []:
        raise _unknown_inputs(model)
    return _Entry(
        keras.tree.map_structure(lambda tensor: _tensor_spec(tensor, open_batch=open_batch), structure),
        [_path_name(path, tensor.name) for path, tensor in keras.tree.flatten_with_path(structure)],
        lambda packed: model(packed, training=False),
    )


def _subclassed_entry(model: Any) -> _Entry:
    """A model that is code: all that is known of its inputs are the shapes of the first call."""
    shapes = (model.get_build_config() or {}) if model.built else {}
    shapes = shapes.get("shapes_dict", shapes)
    if not shapes:
        raise _unknown_inputs(model)
    arguments = [name for name in inspect.signature(model.call).parameters if name not in ("training", "mask")]
    structure = {
        argument: _shapes_to_specs(shape, model.input_dtype)
        for argument, shape in zip(_arguments(list(shapes), arguments), shapes.values(), strict=True)
    }
    only = len(structure) == 1
    return _Entry(
        structure,
        [
            _path_name(path[1:] if only and len(path) > 1 else path, path[0])
            for path, _ in keras.tree.flatten_with_path(structure)
        ],
        lambda packed: _call_by_name(model, packed),
    )


def _arguments(keys: list[str], arguments: list[str]) -> list[str]:
    """The arguments of call() whose shapes stand under `keys`: the first, or "left" for "left_shape"."""
    return arguments[:1] if len(keys) == 1 else [key.removesuffix("_shape") for key in keys]


def _call_by_name(model: Any, packed: dict[str, Any]) -> Any:
    first, *rest = packed
    return model(packed[first], **{name: packed[name] for name in rest}, training=False)


def _unknown_inputs(model: Any) -> ExportError:
    return ExportError(
        f"the inputs of {model.name} are not known, for it was never built; "
        "call it once on a batch like those it will serve, and save it again"
    )


def _shapes_to_specs(shapes: Any, dtype: str) -> Any:
    if isinstance(shapes, dict):
        return {key: _shapes_to_specs(shape, dtype) for key, shape in shapes.items()}
    if shapes and all(size is None or isinstance(size, int) for size in shapes):
        return tf.TensorSpec([None, *shapes[1:]], dtype)  # the first is the batch that happened to be used
    return [_shapes_to_specs(shape, dtype) for shape in shapes]


def _tensor_spec(tensor: Any, *, open_batch: bool) -> Any:
    if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
        raise ExportError(
            f"the input {tensor.name!r} is sparse or ragged, which no artifact can take; feed the model dense tensors"
        )
    return tf.TensorSpec([None, *tensor.shape[1:]] if open_batch else tensor.shape, tensor.dtype)


def _is_stateful(model: Any) -> bool:
    """Whether the model keeps a state for each row between calls, and so can't take another number of rows."""
    return any(getattr(layer, "stateful", False) for layer in model.layers)


def _as_tensor(path: tuple[Any, ...], value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor | tf.SparseTensor) or value is None:
        kind = type(value).__name__
        raise ExportError(
            f"the output {_path_name(path, 'output')!r} is a {kind}; a served model must give dense tensors"
        )
    return tf.convert_to_tensor(value)


def _output_names(model: Any, outputs: list[tuple[tuple[Any, ...], Any]]) -> list[str]:
    """The keys of a dict; otherwise the names of the layers that the outputs come from."""
    layers: list[str] = getattr(model, "output_names", None) or []
    if isinstance(model, keras.Sequential):
        layers = [model.layers[-1].name]
    if len(layers) != len(outputs):
        layers = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    return [_path_name(path, layer) for (path, _), layer in zip(outputs, layers, strict=True)]


def _path_name(path: tuple[Any, ...], otherwise: str) -> str:
    """Keys of dicts, joined; where the path holds none, the tensor's own name."""
    return "_".join(map(str, path)) if any(isinstance(key, str) for key in path) else str(otherwise)


def _alone(tensors: list[Any] | None) -> Any:
    return tensors[0] if tensors and len(tensors) == 1 else tensors


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape)
    try:
        return TensorSpec(name, dtypes.by_number(tensor.dtype.as_datatype_enum).name, shape)
    except InvalidArgument as error:
        raise ExportError(f"{name!r} cannot be served: {error}") from error
