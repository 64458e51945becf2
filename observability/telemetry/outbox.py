"""Spans that wait to be sent, and the thread that sends them to a collector: OTLP by gRPC.

Invariants: who puts one in waits for nothing; at most `QUEUE` wait, the newest; at most one line a minute says that
spans are lost, and how many; the end takes no longer than told.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from typing import Final
from urllib.parse import urlsplit

import grpc

from observability.telemetry.encoding import request_of

__all__ = ["BATCH", "QUEUE", "Outbox"]

logger = logging.getLogger(__name__)

QUEUE: Final = 4096
BATCH: Final = 512
DELAY_S: Final = 1.0
# One batch in the air at a time, and tried again within this: a collector that starts anew loses nothing.
EXPORT_S: Final = 5.0
AGAIN_S: Final = 0.5
SAY_EVERY_S: Final = 60.0
METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# The collector is beside us: no proxy of the environment leads there, and one that is back is found soon.
CHANNEL: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 5000))
# As the protocol's specification has it: after these the same batch may be sent again.
TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class Outbox:
    """Sends spans, in a thread of its own.

    Args:
        url: The collector's, `http://host:port`; with `https` it is held to a certificate that this machine trusts.
        resource: Whose spans they are, from `encoding.resource_of`.
    """

    def __init__(self, url: str, resource: bytes) -> None:
        self._url = url
        self._resource = resource
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=QUEUE)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._lost = 0
        self._said_s = float("-inf")
        self._channel = _channel(url)
        # Bytes as they are: what is sent is encoded, and of the answer only counts that it came.
        self._export = self._channel.unary_unary(METHOD)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def put(self, scope: str, span: bytes) -> None:
        """Take a span, in the place of the oldest where too many wait."""
        held = len(self._waiting)
        if held == QUEUE:
            self._lost += 1
        self._waiting.append((scope, span))
        if held == BATCH:
            self._wake.set()

    def stop(self, within_s: float) -> None:
        """Send what is left, for so long at most."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(within_s)
        self._given_up.set()
        self._channel.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(DELAY_S)
            self._wake.clear()
            self._send_batch()
            while len(self._waiting) >= BATCH and not self._given_up.is_set():
                self._send_batch()
        while self._waiting and not self._given_up.is_set():
            self._send_batch()

    def _send_batch(self) -> None:
        batch = self._taken()
        if not batch:
            return
        if self._sent(request_of(self._resource, batch)):
            self._say(logging.INFO, "traces.arriving")
        else:
            self._lost += len(batch)
            self._say(logging.WARNING, "traces.lost")

    def _taken(self) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        with contextlib.suppress(IndexError):
            while len(batch) < BATCH:
                batch.append(self._waiting.popleft())
        return batch

    def _sent(self, request: bytes) -> bool:
        """Whether it arrived, at the first attempt or a later one."""
        until_s = time.monotonic() + EXPORT_S
        while (left_s := until_s - time.monotonic()) > 0 and not self._given_up.is_set():
            try:
                self._export(request, timeout=left_s, wait_for_ready=True)
                return True
            except grpc.RpcError as error:
                if error.code() not in TRANSIENT:
                    return False
            except ValueError:  # the channel was closed: the end has come
                return False
            self._given_up.wait(AGAIN_S)
        return False

    def _say(self, level: int, event: str) -> None:
        if not self._lost or self._given_up.is_set() or time.monotonic() - self._said_s < SAY_EVERY_S:
            return
        self._said_s = time.monotonic()
        lost, self._lost = self._lost, 0
        logger.log(level, event, extra={"collector": self._url, "spans": lost})


def _channel(url: str) -> grpc.Channel:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options=CHANNEL)
    return grpc.insecure_channel(parts.netloc, options=CHANNEL)
