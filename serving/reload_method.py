"""HandleReloadConfigRequest: other models, by a call; and how far some metrics moved meanwhile.

Source: tensorflow_serving/model_servers/model_service_impl.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from keraship.errors import InvalidArgument, StatusError
from keraship.serving.manager import ModelManager
from keraship.wire.messages import ReloadConfigResponse

_LOG = logging.getLogger(__name__)

ReadMetric = Callable[[str], int]
"""A metric's first cell by the metric's name; 0 where there is none."""


class ReloadMethod:
    """Answers the call, for as long as the new models take."""

    def __init__(self, manager: ModelManager, read_metric: ReadMetric = lambda _: 0) -> None:
        self._manager = manager
        self._read_metric = read_metric

    def __call__(self, request: Any, deadline: float | None) -> Any:
        """The ReloadConfigResponse to a ReloadConfigRequest; raises StatusError. deadline: seconds; None for ever."""
        before = {name: self._read_metric(name) for name in request.metric_names}
        try:
            self._reload(request.config, deadline)
        except StatusError as error:
            _LOG.error("ReloadConfig failed: %s", error.details)
            raise
        response = ReloadConfigResponse()
        response.status.error_code = 0
        response.status.SetInParent()
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=self._read_metric(name) - before[name])
        return response

    def _reload(self, config: Any, deadline: float | None) -> None:
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        for index, entry in enumerate(config.model_config_list.config):
            _LOG.info(
                "\nConfig entry\n\tindex : %d\n\tpath : %s\n\tname : %s\n\tplatform : %s",
                index,
                entry.base_path,
                entry.name,
                entry.model_platform,
            )
        self._manager.reload(config, deadline=deadline)
