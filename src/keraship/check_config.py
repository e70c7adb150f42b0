"""What would a Keras configuration run or read if it were loaded? Walks the JSON; imports nothing that it names.

The gadgets are those of CVE-2025-1550 (functions by module path), CVE-2025-8747 (keras.utils.get_file), CVE-2025-9905
and -9906 (safe mode off for .h5, or switched off by the file), CVE-2025-12058 (vocabularies that are local files).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from keraship.danger import CODE, Finding, danger, notice

KERAS_PACKAGES = {"keras", "keras_hub", "keras_cv", "keras_nlp"}
"""The packages whose classes Keras finds without a registration."""

_SPECIAL = re.compile("__[a-z_]+__")  # __keras_tensor__, __numpy__ ...: values, not classes
_NEVER = {"utils", "saving", "config", "datasets", "export", "preprocessing", "callbacks", "applications", "wrappers"}
_NEVER |= {"distribution", "tree", "testing", "_tf_keras"}
_OF_UTILS = {"FeatureSpace", "Cross", "Feature"}  # the only classes there that are saved
_FUNCTIONS = {"activations", "ops", "losses", "metrics", "initializers", "regularizers", "constraints", "random", "nn"}
_LOADERS = {"deserialize", "get", "serialize", "deserialize_keras_object", "load_model", "model_from_json"}
_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "getattr", "setattr", "delattr", "globals", "locals"}
_BUILTINS |= {"vars", "input", "breakpoint", "memoryview", "print", "help", "exit", "quit"}
_LIBRARIES = {"numpy", "torch", "jax", "h5py", "scipy", "pandas", "joblib", "dill", "cloudpickle", "requests", "yaml"}
_LIBRARIES |= {"urllib3", "setuptools", "pip", "pkg_resources", "cffi", "psutil", "PIL", "google", "grpc", "absl"}
_FILES = ("vocabulary", "idf_weights")  # lists, or the path of a file that is read when the layer is made
_SIZES = {"units", "filters", "input_dim", "output_dim", "num_heads", "key_dim", "value_dim", "depth_multiplier"}
_PICKLED = re.compile("gA[JNRSVW][A-Za-z0-9+/=]|gASV|gAWV")  # base64 of a pickle's first bytes, protocols 2 to 5
_MARSHALLED = re.compile("[4Y]w[A-Z]A[A-Z]?A")  # base64 of a code object's first bytes
_LONGEST_PLAIN = 40

_REGISTERED = "write it as a registered class, save the model again and name its module with --import"
_NO_PART = "no model needs this; do not load the file"
_NOT_FILLED = "save the model with a list in its place"


def check_config(config: Any, *, with_training: bool = True) -> Iterator[Finding]:
    """Findings about a configuration, each with the names of the layers that lead to it.

    with_training: also the top-level compile_config, which a loader that does not compile never reads.
    """
    seen = set()
    for item, where in _objects(config, with_training=with_training):
        for found in _judge(item, where):
            if (found.kind, found.where) not in seen:
                seen.add((found.kind, found.where))
                yield found


def check_sizes(config: Any, weights_bytes: int) -> Iterator[Finding]:
    """Layers that declare more units than there are weights in their file, whose building would fill the memory.

    weights_bytes: of all arrays. A unit has one weight at least, of half a byte (int4) or more.
    """
    for item, where in _objects(config, with_training=False):
        own = item.get("config")
        sizes = {key: value for key, value in own.items() if key in _SIZES} if isinstance(own, dict) else {}
        for key, size in sizes.items():
            if isinstance(size, float) or (isinstance(size, int) and size > max(2 * weights_bytes, 1 << 20)):
                yield danger(
                    "oversize",
                    where,
                    f"it declares {key} = {size}, and the file holds {weights_bytes} bytes of weights",
                    "get the whole file",
                )


def foreign_modules(config: Any) -> tuple[str, ...]:
    """The modules, not of Keras, whose classes a configuration names: those to be given to --import."""
    modules = [item.get("module") for item, _ in _objects(config, with_training=False)]
    return tuple(sorted({module for module in modules if isinstance(module, str) and not is_kerases(module)}))


def serialized(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that a loader which does not compile will make."""
    return (item for item, _ in _objects(config, with_training=False))


def is_kerases(module: str) -> bool:
    """Whether a module is Keras' own, or where Keras says its functions are."""
    return module == "builtins" or module.partition(".")[0] in KERAS_PACKAGES


def _objects(config: Any, *, with_training: bool) -> Iterator[tuple[dict[str, Any], str]]:
    """Everything with a class_name, and the names that lead to it; also what is hidden as JSON inside a string."""
    if isinstance(config, dict) and not with_training:  # that of a nested model is loaded all the same
        config = {key: value for key, value in config.items() if key != "compile_config"}
    pending: list[tuple[Any, str]] = [(config, "")]
    while pending:
        item, where = pending.pop()
        if isinstance(item, dict):
            where = _inside(where, item)
            if isinstance(item.get("class_name"), str):
                yield item, where
            pending += [(value, where) for value in reversed(item.values())]
        elif isinstance(item, list):
            pending += [(value, where) for value in reversed(item)]
        elif isinstance(item, str):
            pending += [(hidden, where) for hidden in _hidden(item)]
            if len(item) > _LONGEST_PLAIN and (_PICKLED.match(item) or _MARSHALLED.match(item)):
                yield {"class_name": "__bytes_of_code__"}, where


def _inside(where: str, item: dict[str, Any]) -> str:
    """The path of names, one longer where this object has a name."""
    own = item.get("config")
    name = own.get("name") if isinstance(own, dict) and "class_name" in item else None
    if not isinstance(name, str) or not name or item.get("class_name") == "DTypePolicy":
        return where
    return f"{where}/{name}".lstrip("/")


def _hidden(text: str) -> list[Any]:
    if "class_name" not in text or text[:1] not in ("{", "["):
        return []
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        return []


def _judge(item: dict[str, Any], where: str) -> Iterator[Finding]:
    class_name, own = item["class_name"], item.get("config")
    if class_name == "__bytes_of_code__":
        yield danger(CODE, where, "it holds Python code (bytes, as text)", _REGISTERED)
    if class_name in ("Lambda", "__lambda__"):
        yield danger(CODE, where, f"it holds Python code (a Lambda {_lambda(own)})", _REGISTERED)
    if class_name == "TorchModuleWrapper":
        yield danger("pickle", where, "it holds a pickled PyTorch module, which can run any code", _NO_PART)
    if class_name == "TFSMLayer":
        yield danger("local-file", where, "it loads a SavedModel from another path", "export that SavedModel itself")
    files = {key: value for key, value in own.items() if key in _FILES} if isinstance(own, dict) else {}
    for key, value in files.items():
        if isinstance(value, str):
            yield danger("local-file", where, f"its {key} is the local file {value!r:.100}", _NOT_FILLED)
    yield from _judge_module(item, where)


def _lambda(own: Any) -> str:
    named = own.get("function") if isinstance(own, dict) else None
    if isinstance(named, dict) and named.get("class_name") == "function":
        return f"layer that calls {named.get('module')}.{named.get('config')!s:.60}"
    return "layer"


def _judge_module(item: dict[str, Any], where: str) -> Iterator[Finding]:
    """Modules that a model has no business with; those that it has, if somebody imports them."""
    module, class_name = item.get("module"), item["class_name"]
    name = item.get("config") if class_name == "function" else class_name
    if not isinstance(module, str) or _SPECIAL.fullmatch(class_name):
        return
    is_function = class_name == "function" or not str(name)[:1].isupper()
    if _is_gadget(module, str(name), is_function=is_function):
        yield danger("gadget", where, f"it calls {module}.{name!s:.60}, which is no part of a model", _NO_PART)
    elif not is_kerases(module):
        remedy = f"look at the code of that module, then --import {module}"
        yield notice("custom", where, f"it needs {class_name!r} of the module {module}", remedy)


def _is_gadget(module: str, name: str, *, is_function: bool) -> bool:
    package = module.partition(".")[0]
    if package in KERAS_PACKAGES:
        return _is_gadget_of_keras(module, name, is_function=is_function)
    if module == "builtins":
        return name in _BUILTINS
    if module == "__main__":
        return False
    # an operator such as tensorflow.io.read_file is as good as os.system: a class of theirs is registered, or is none
    return package in sys.stdlib_module_names or package in _LIBRARIES or (package == "tensorflow" and is_function)


def _is_gadget_of_keras(module: str, name: str, *, is_function: bool) -> bool:
    parts = [part for part in module.split(".")[1:] if part != "src"]
    family = parts[0] if parts else ""
    if family == "utils" and name in _OF_UTILS:
        return False
    if family in _NEVER or name in _LOADERS:
        return True
    return is_function and module.partition(".")[0] == "keras" and family not in _FUNCTIONS
