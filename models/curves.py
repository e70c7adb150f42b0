"""How a training went, as a picture: the loss, the metrics and the learning rate over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

RATE = "learning_rate"
_VALIDATION = "val_"


def draw_curves(history: Sequence[Mapping[str, float]], path: Path, *, best: int) -> None:
    """The history as a PNG: a panel for each value, training and validation side by side in it.

    history: the values of every epoch, by name. best: where in it the best epoch is, which is marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [*dict.fromkeys(name.removeprefix(_VALIDATION) for name in history[0] if name != RATE), RATE]
    figure = Figure(figsize=(4 * len(panels), 3.5), layout="constrained")  # without pyplot, which keeps every figure
    FigureCanvasAgg(figure)
    epochs = range(1, len(history) + 1)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, label in ((panel, "training"), (_VALIDATION + panel, "validation")):
            if name in history[0]:
                axes.plot(epochs, [values[name] for values in history], marker=".", label=label)
        axes.axvline(best + 1, color="grey", linestyle=":", label=f"best, {best + 1}")
        axes.set(title=panel.replace("_", " "), xlabel="epoch")
        axes.legend(fontsize="small")
    figure.savefig(path, format="png", dpi=100)
