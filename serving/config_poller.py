"""Reads the config file again and again (--model_config_file_poll_wait_seconds).

Source: tensorflow_serving/model_servers/server.cc (PollFilesystemAndReloadConfig).
"""

from __future__ import annotations

import logging
import threading

from keraship.errors import StatusError
from keraship.serving.manager import Awaited, ModelManager
from keraship.serving.text_proto import BadTextProto, read_text_proto
from keraship.wire.messages import ModelServerConfig

_LOG = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5


class ConfigPoller:
    """Brings the file's configuration to the manager every `seconds`; what is wrong is logged, and the old one stays.

    It waits for no model, so that a file that names one that never comes can be mended.
    """

    def __init__(self, path: str, seconds: float, manager: ModelManager) -> None:
        self._path = path
        self._seconds = seconds
        self._manager = manager
        self._awaited: list[Awaited] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poll config", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            try:
                self._reload()
                self._awaited = [awaited for awaited in self._awaited if not self._is_over(awaited)]
            except Exception:  # a thread that is gone reads no more
                _LOG.exception("reading %s failed in a way that nobody foresaw", self._path)

    def _reload(self) -> None:
        try:
            config = read_text_proto(self._path, ModelServerConfig)
        except StatusError as error:
            if isinstance(error, BadTextProto):
                _LOG.error("%s", error.log_line)
            _LOG.error("Failed to read ModelServerConfig file: %s", error.details)
            return
        try:
            self._awaited.append(self._manager.begin_reload(config))
        except StatusError as error:
            _log_failure(error)

    def _is_over(self, awaited: Awaited) -> bool:
        try:
            return self._manager.is_up(awaited)
        except StatusError as error:
            _log_failure(error)
            return True


def _log_failure(error: StatusError) -> None:
    _LOG.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.details)
