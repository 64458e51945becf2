"""Handles: names of state that lives in one instance's memory, such as an open page.

Invariants: a handle serves the client it was opened for and nobody else; every way a handle can be dead gives the
same answer, so that it cannot be used to learn what others hold; a value is closed exactly once; a value in use by a
running call does not expire under it.
"""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Final, Generic, TypeVar

import anyio
from pydantic import Field

from services.common.call import current_call
from services.common.errors import ToolError
from services.common.signing import Keyring

__all__ = ["HandleInfo", "HandleParam", "Handles", "call_uses"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
CLOSE_WITHIN_S: Final = 15.0

HandleParam = Annotated[
    str,
    Field(
        json_schema_extra={"x-mcp-header": "Handle"},
        description="The handle that the opening tool returned, unchanged.",
    ),
]
"""A tool parameter that carries a handle; the gate routes the call by it."""

call_uses: ContextVar[list[Callable[[], None]]] = ContextVar("tekup_call_uses")
"""What to let go of when the running call ends; set by the kit around each call."""


@dataclass(frozen=True)
class HandleInfo:
    """One handle of the current client.

    Args:
        handle: The handle.
        age_s: Seconds since it was opened.
        idle_s: Seconds since its last use.
    """

    handle: str
    age_s: float
    idle_s: float


@dataclass
class _Entry(Generic[T]):
    value: T
    client: str
    opened: float
    used: float
    users: int = field(default=0)


class Handles(Generic[T]):
    """The handles of one kind in this instance. Made by `Kit.handles`.

    Args:
        kind: What a handle stands for, as callers should read it: "page".
        close: Frees a value.
        idle_s: A handle unused for so long is closed.
        total_s: A handle so old is closed.
        per_client: How many one client may hold in this instance.
        instance: This instance.
        keyring: Signs and checks.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        kind: str,
        close: Callable[[T], Awaitable[None]],
        *,
        idle_s: float,
        total_s: float,
        per_client: int,
        instance: str,
        keyring: Keyring,
        clock: Callable[[], float],
    ) -> None:
        self.kind = kind
        self._close = close
        self._idle_s = idle_s
        self._total_s = total_s
        self._per_client = per_client
        self._instance = instance
        self._keyring = keyring
        self._clock = clock
        self._entries: dict[str, _Entry[T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, value: T) -> str:
        """Give `value` a handle of the current client.

        Args:
            value: What the handle shall stand for.

        Returns:
            The handle.

        Raises:
            ToolError: The client holds as many as it may. `value` is then still the caller's to close;
                ask `check_room` before making something costly.
        """
        self.check_room()
        client = current_call().client
        handle = self._keyring.sign_handle(self._instance, client)
        now = self._clock()
        self._entries[handle] = _Entry(value, client, opened=now, used=now)
        return handle

    def check_room(self) -> None:
        """See whether the current client may open one more.

        Raises:
            ToolError: It may not.
        """
        client = current_call().client
        held = sum(1 for entry in self._entries.values() if entry.client == client)
        if held >= self._per_client:
            raise ToolError(
                f"you hold {held} open {self.kind} handles, the most one client may; close one, then open anew"
            )

    def get(self, handle: str) -> T:
        """The value behind `handle`; the handle counts as used until the running call ends.

        Raises:
            ToolError: The handle is unknown, forged, somebody else's, of another instance, or expired.
        """
        entry = self._find(handle)
        entry.used = self._clock()
        uses = call_uses.get(None)
        if uses is not None:
            entry.users += 1
            uses.append(lambda: self._release(entry))
        return entry.value

    async def close(self, handle: str) -> None:
        """Free the value behind `handle`.

        Raises:
            ToolError: As `get`.
        """
        self._find(handle)
        await self._drop(handle)

    def mine(self) -> list[HandleInfo]:
        """The current client's handles in this instance, oldest first, with their ages."""
        client, now = current_call().client, self._clock()
        return [
            HandleInfo(handle, age_s=now - entry.opened, idle_s=now - entry.used)
            for handle, entry in self._entries.items()
            if entry.client == client and not self._expired(entry, now)
        ]

    async def expire(self) -> None:
        """Close what has expired; the kit calls it every second."""
        now = self._clock()
        for handle in [handle for handle, entry in self._entries.items() if self._expired(entry, now)]:
            await self._drop(handle)

    async def close_all(self) -> None:
        """Close everything; the kit calls it when the instance stops."""
        for handle in list(self._entries):
            await self._drop(handle)

    def _find(self, handle: str) -> _Entry[T]:
        client = current_call().client
        entry = self._entries.get(handle)
        known = self._keyring.checks_handle(handle, client) and entry is not None and entry.client == client
        if entry is None or not known or self._expired(entry, self._clock()):
            raise ToolError(f"{self.kind} handle {handle[:80]!r} is gone, open anew")
        return entry

    def _expired(self, entry: _Entry[T], now: float) -> bool:
        if entry.users:
            return False
        return now - entry.used >= self._idle_s or now - entry.opened >= self._total_s

    def _release(self, entry: _Entry[T]) -> None:
        entry.users -= 1
        entry.used = self._clock()

    async def _drop(self, handle: str) -> None:
        entry = self._entries.pop(handle, None)  # first, so that nobody gets a value that is being closed
        if entry is None:
            return
        # The call that closes it may be cancelled, and then every await of it is: what is half closed would stay so.
        with anyio.move_on_after(CLOSE_WITHIN_S, shield=True) as closing:
            try:
                await self._close(entry.value)
            except Exception:  # a service's own clean-up; the next handle must be closed all the same
                logger.exception("handle.close_failed", extra={"kind": self.kind})
        if closing.cancelled_caught:
            logger.error("handle.close_hung", extra={"kind": self.kind, "after_s": CLOSE_WITHIN_S})
