"""What the core needs of the outside, as Protocols. Contract tests run over fake and real alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_plane.model import Instance


@dataclass(frozen=True)
class Entry:
    """One stored value.

    Attributes:
        value: Raw bytes as stored.
        index: Its modify index, for compare-and-set.
        session: The session that holds it, "" for none.
    """

    value: bytes
    index: int
    session: str = ""


@dataclass(frozen=True)
class Listing:
    """All values under a prefix at one index, keyed by what follows the prefix."""

    index: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Write:
    """One write of a transaction: ``value`` None deletes.

    Attributes:
        expected_index: Modify index the key must still have; 0 = must not exist; None = whatever it is.
    """

    key: str
    value: bytes | None
    expected_index: int | None = None


@dataclass(frozen=True)
class Fence:
    """A lock that must still be held when the transaction runs."""

    key: str
    session: str


class Store(Protocol):
    """A key-value store with transactions and blocking reads."""

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        """List a prefix; with ``after``, wait until its index differs, for ``wait_s`` at most.

        Raises:
            Unavailable: No answer in time.
        """
        ...

    async def commit(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        """Write all or nothing.

        Raises:
            Conflict: A key was not at its expected index.
            Fenced: The fence's lock was gone.
            Unavailable: No answer; it may or may not have happened.
        """
        ...


class Sessions(Protocol):
    """Locks bound to a living process."""

    async def open_session(self, name: str, ttl_s: int) -> str:
        """Open a session that dies ``ttl_s`` (at up to twice) after its last renewal; its locks are then released."""
        ...

    async def renew_session(self, session: str) -> bool:
        """Whether the session was still there and is renewed."""
        ...

    async def close_session(self, session: str) -> None:
        """End the session now and release its locks."""
        ...

    async def lock(self, key: str, value: bytes, session: str) -> bool:
        """Write the value and hold the key by the session; False if another session holds it."""
        ...


class Catalog(Protocol):
    """Who has registered."""

    async def service_names(self, *, after: int = 0, wait_s: float = 0) -> tuple[int, frozenset[str]]:
        """Names of the registered MCP services (without their ``mcp-``), and the index."""
        ...

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        """Instances of a service, sorted, and the index. A registration that makes no sense is left out and logged."""
        ...
