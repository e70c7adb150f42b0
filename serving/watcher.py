"""Watches the models' folders.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from keraship.errors import StatusError
from keraship.serving.versions import ModelConfig, aspired

_LOG = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5

Aspire = Callable[[Mapping[str, Mapping[int, Path]]], None]
"""Told which versions, number -> folder, of which models are wanted."""


class Watcher:
    """Looks at the folders of the models again and again.

    seconds: between two looks; 0 looks once at each new set of models, less than 0 never.
    together: a folder that cannot be read keeps the news of all models back, as with tensorflow_model_server: a share
    that is away is no order to unload. Otherwise each model is looked at for itself.
    """

    def __init__(self, aspire: Aspire, *, seconds: float = 1, together: bool = True) -> None:
        self._aspire = aspire
        self._seconds = seconds
        self._together = together
        self._models: tuple[ModelConfig, ...] = ()
        self._looking = threading.Lock()
        self._seen: dict[str, StatusError | int] = {}
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """What is watched."""
        return self._models

    def watch(self, models: Iterable[ModelConfig]) -> None:
        """Watch these models in place of those before; of models that are no longer among them nothing is wanted."""
        with self._looking:
            old, self._models = self._models, tuple(models)
            gone = {model.name for model in old} - {model.name for model in self._models}
            for name in gone:
                self._seen.pop(name, None)
            self._aspire({name: {} for name in gone})
        self._wake.set()

    def seen(self, name: str) -> StatusError | int | None:
        """What the last look at a model found: how many versions are wanted, or why it could not be read."""
        return self._seen.get(name)

    def start(self) -> None:
        """Begin to look."""
        if self._seconds >= 0:
            self._thread.start()

    def close(self) -> None:
        """Look no more; a look that hangs, at a share that is away, is left alone."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                with self._looking:
                    self._look()
            except Exception:  # the next look may go better; a thread that is gone looks no more
                _LOG.exception("looking for versions failed in a way that nobody foresaw")
            self._wake.wait(self._seconds or None)

    def _look(self) -> None:
        wanted: dict[str, dict[int, Path]] = {}
        for model in self._models:
            try:
                wanted[model.name] = aspired(model)
                self._seen[model.name] = len(wanted[model.name])
            except StatusError as error:
                self._seen[model.name] = error
                _LOG.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error.details)
                if self._together:
                    return
        self._aspire(wanted)
