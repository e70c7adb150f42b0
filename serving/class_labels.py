"""What the classes of a version are called, where its folder says so."""

from __future__ import annotations

import logging
from pathlib import Path

from keraship import bundle
from keraship.errors import BundleError

_LOG = logging.getLogger(__name__)

LABELS = "assets/labels.txt"
"""One name a line, in the order of the scores; TensorFlow's own examples keep them there."""

_CLASSIFY = "classify"
"""The exporter's signature whose golden answer has the names."""


def class_labels(version_dir: Path) -> tuple[str, ...]:
    """The names in assets/labels.txt, or those that `keraship export --classify --labels` put in; none without both."""
    try:
        return tuple(line.strip() for line in (version_dir / LABELS).read_text("utf-8").splitlines() if line.strip())
    except FileNotFoundError:
        return _from_golden(version_dir)
    except (OSError, UnicodeDecodeError) as error:
        _LOG.warning("the labels in %s cannot be read: %s", version_dir / LABELS, error)
        return ()


def _from_golden(version_dir: Path) -> tuple[str, ...]:
    if not (version_dir / bundle.golden_path(_CLASSIFY)).is_file():
        return ()
    try:
        classes = bundle.read_golden(version_dir, _CLASSIFY)[1].get("classes")
    except BundleError as error:
        _LOG.warning("%s", error)
        return ()
    if classes is None or classes.ndim != 2 or not len(classes):
        return ()
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in classes[0])
