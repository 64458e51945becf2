"""What the core needs of the outside, as Protocols. Contract tests run over fake and real alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from control_plane.checks import Plan
from control_plane.contract import Offer
from control_plane.model import Instance
from control_plane.readings import Look


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

    async def index(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> int:
        """The index that `read` would give with a listing, without what lies there.

        Args:
            prefix: With a trailing slash.
            after: Wait until it differs.
            wait_s: For so long at most.

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

    async def open_session(self, name: str, ttl_s: int, *, keys_go_too: bool = False) -> str:
        """Open a session that dies ``ttl_s`` (at up to twice) after its last renewal; its locks are then released.

        Args:
            name: Shown to people.
            ttl_s: See above; never less.
            keys_go_too: Delete the keys it holds when it ends, instead of keeping their last value.
        """
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


class Desk(Store, Sessions, Protocol):
    """A store whose keys can be held by sessions."""


class Catalog(Protocol):
    """Who has registered."""

    async def service_names(self, *, after: int = 0, wait_s: float = 0) -> tuple[int, frozenset[str]]:
        """Names of the registered MCP services (without their ``mcp-``), and the index."""
        ...

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        """Instances of a service, sorted, and the index. A registration that makes no sense is left out and logged."""
        ...

    async def gate_urls(self) -> Mapping[str, str]:
        """The private entrypoint of each gate, by its id."""
        ...


class Metrics(Protocol):
    """What calls were like, by version."""

    async def look(self, service: str, plan: Plan, custom: Mapping[str, str], at_s: float | None = None) -> Look:
        """One reading of every check of the plan; never raises, a source that is away is a reading, too.

        Args:
            service: The service.
            plan: Stable and canary version and the checks. Names of built-in checks: those of
                :func:`control_plane.checks.default_checks`.
            custom: PromQL of the range checks, by name; `{{service}}`, `{{stable}}`, `{{canary}}` are filled in.
            at_s: As things were then, in seconds since the epoch; None for now.
        """
        ...

    async def problem_of(self, query: str) -> str:
        """What is wrong with a PromQL expression, in the source's own words; "" if nothing is.

        Raises:
            Unavailable: The source did not answer.
        """
        ...


@dataclass(frozen=True)
class Answered:
    """What became of a tool call to one target.

    Attributes:
        instance: Who answered, "" if no instance did.
        version: Its version.
        problem: Why the call failed, "" if it worked.
        seconds: How long it took.
    """

    instance: str
    version: str
    problem: str
    seconds: float


class Gateway(Protocol):
    """Calls of the control plane's own through the gate, to one target."""

    async def offer(self, service: str, target: str) -> Offer:
        """Everything that a target offers: protocol versions, tools, prompts, resources, and its probe calls.

        Raises:
            Unavailable: The gate or the target did not answer, or another version answered in its place.
        """
        ...

    async def told(self, service: str, target: str, method: str) -> Mapping[str, Any]:
        """What an instance tells of itself by a method of our own.

        Raises:
            Unavailable: The gate or the target did not answer, or another answered in its place.
        """
        ...

    async def call(self, service: str, target: str, tool: str, arguments: Mapping[str, object]) -> Answered:
        """Call a tool on a target. A failed call is an answer; so is one that somebody else answered.

        Raises:
            Unavailable: The gate itself did not answer.
        """
        ...
