"""Names for versions, as in `/v1/models/digits/labels/stable`.

Source: tensorflow_serving/model_servers/server_core.cc (UpdateModelVersionLabelMap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from keraship.errors import FailedPrecondition
from keraship.serving.versions import ModelConfig

Labels = Mapping[str, Mapping[str, int]]
"""Model -> label -> version."""


def assign(
    models: Iterable[ModelConfig], old: Labels, *, is_available: Callable[[str, int], bool], allow_unavailable: bool
) -> Labels:
    """The labels of a configuration, in place of the old ones.

    is_available: whether a version of a model can be asked. allow_unavailable: labels may point anywhere, but those
    that are moved.
    Raises FailedPrecondition for a label that may not point where it shall.
    """
    new: dict[str, dict[str, int]] = {}
    for model in models:
        for label, version in model.labels.items():
            moved = old.get(model.name, {}).get(label, version) != version
            if not (allow_unavailable and not moved) and not is_available(model.name, version):
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference"
                )
            new.setdefault(model.name, {})[label] = version
    return new
