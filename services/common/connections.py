"""Connections whose clients are gone, and those there is no room for: neither may cost an instance its life.

Hypercorn (0.18) keeps what a client has closed until the idle timeout is over, two minutes here: gates that check an
instance each second alone held 460 files of it, and a client that comes and goes as many as there are. asyncio
(cpython issue 151615) goes on accepting when it is out of files, as often as the backlog is long, and says so each
time: a thousand lines a second, under which an instance answers nobody and cannot even leave.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, Updated

__all__ = ["Exhaustion", "Left", "prepare"]

logger = logging.getLogger(__name__)

NO_ROOM: Final = "socket.accept() out of system resource"
SAID_EVERY_S: Final = 10.0


class Left(TCPServer):
    """A connection that ends when its client has closed it, idle or once the call under way is over."""

    async def protocol_send(self, event: Event) -> None:
        """Carry out what the protocol wants; nobody is left to be idle for when the client is gone."""
        over = isinstance(event, Updated) and event.idle and self._gone()
        await super().protocol_send(Closed() if over else event)

    def _gone(self) -> bool:
        """Whether nothing more comes; a reset has no end of file, and would be waited for like a client."""
        return self.reader.at_eof() or self.reader.exception() is not None

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


class Exhaustion:
    """What a loop does with errors nobody handles: connections without room are told now and then, all else as ever.

    Args:
        now: A clock that only goes forward, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said_s = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        if not str(context.get("message", "")).startswith(NO_ROOM):
            loop.default_exception_handler(context)
        elif self._now() - self._said_s >= SAID_EVERY_S:
            self._said_s = self._now()
            logger.error("connections.no_room", extra={"reason": str(context.get("exception", ""))})


def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """Servers that Hypercorn makes from now on let go of who left; the loop says once what it would say a thousandfold.

    Hypercorn has no place where its class of connections could be given, hence its module's name for it.
    """
    run.TCPServer = Left  # type: ignore[attr-defined]
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(Exhaustion())
