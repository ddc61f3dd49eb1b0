"""The broker: messages through Celery that wake a worker. They carry nothing, because the registry knows what waits."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError

WAKE = "dsa110.wake"
"""Name of the only task."""
ANSWER_LIMIT_S = 3.0
REST_S = 10.0
EXPIRES_S = 60.0
"""A message that nobody took for so long is dropped: a worker's beat sees what waits."""


def broker_url(config: PipelineConfig) -> str:
    """Address of the broker.

    Raises:
        ConfigurationError: none is set.
    """
    if config.broker_url is None:
        raise ConfigurationError("PIPELINE_BROKER_URL", "is not set", "set it to Redis or Valkey, such as redis://head:6379/0")
    return config.broker_url.get_secret_value()


def celery_app(config: PipelineConfig) -> Any:
    """Return Celery's application: early acknowledgement, no prefetching, no results."""
    app = Celery("dsa110", broker=broker_url(config), set_as_current=False)
    limits = {"socket_connect_timeout": ANSWER_LIMIT_S, "socket_timeout": 30.0, "socket_keepalive": True}
    app.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=ANSWER_LIMIT_S,
        broker_transport_options={**limits, "visibility_timeout": 300},
    )
    return app


def queue_of(queue: str, version: str) -> str:
    """Name of the broker's queue. Each version has its own, so a worker of another one is not woken in vain."""
    return f"{queue}.{version}"


class Bell:
    """Sends messages to the workers of a broker's queue. After a failure it rests, so that nobody waits for it."""

    def __init__(self, app: Any, queue: str) -> None:
        self._app, self._queue = app, queue
        self._rests_until = 0.0

    def ring(self, number: int = 1) -> bool:
        """Wake workers; False if the broker does not answer: they look by themselves."""
        if time.monotonic() < self._rests_until:
            return False
        with self._app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=1, timeout=ANSWER_LIMIT_S)
                for _ in range(number):
                    self._app.send_task(WAKE, queue=self._queue, connection=connection, retry=False, ignore_result=True, expires=EXPIRES_S)
            except (KombuError, OSError, *connection.connection_errors, *connection.channel_errors):
                self._rests_until = time.monotonic() + REST_S
                return False
        return True
