"""The models that the cases ask, in a folder, and the configuration that serves them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).with_name("make_tensorflow.py")
_LABELS = {"versions": {"stable": 2, "canary": 3, "gone": 9}}

FLAGS = ("--allow_version_labels_for_unavailable_models=true",)
"""What a server needs beside the configuration: labels are set before anything is loaded."""


def make_models(folder: Path, backend: str) -> None:
    """Write them: "tensorflow" as SavedModels, "onnx" as what of them can be had in ONNX."""
    if backend == "onnx":
        from .make_onnx import make_models as make

        make(folder)
    else:
        subprocess.run([sys.executable, _SCRIPT, folder], check=True, capture_output=True, timeout=300)


def make_config(folder: Path) -> str:
    """A ModelServerConfig of all models in `folder`, every version of each."""
    entries = "".join(_entry(path) for path in sorted(folder.iterdir()))
    return f"model_config_list {{\n{entries}}}\n"


def _entry(path: Path) -> str:
    labels = "".join(
        f'    version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in _LABELS.get(path.name, {}).items()
    )
    return (
        f'  config {{\n    name: "{path.name}"\n    base_path: "{path.resolve()}"\n    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ all {{}} }}\n{labels}  }}\n"
    )
