"""Spans of a process, whether or not anybody collects them.

Nothing of OpenTelemetry is imported by this module, and nothing that encodes or sends in a process that was given no
collector: a span costs one comparison there. Where there is one, `observability.telemetry.exporting` sends them.

A span is a step of something traced: without a span around it that is kept, `span` makes none. `root_span` begins a
trace of its own. Attributes are names and numbers of ours, never what a caller sent and never a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from observability.telemetry.about import platform_version

__all__ = [
    "TRACEPARENT",
    "Describe",
    "Mark",
    "Origin",
    "Tracer",
    "Value",
    "apart",
    "join",
    "leave",
    "outgoing",
    "root_span",
    "span",
    "traced",
    "tracing",
]

TRACEPARENT: Final = "traceparent"
"""The W3C header that carries a trace from one process to the next."""
STOP_WITHIN_S: Final = 2.0
Value = str | bool | int | float
Describe = Callable[[Mapping[str, object]], Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose spans they are.

    Args:
        name: `tekup-<service>`, `tekup-control-plane` or `tekup-agent`.
        version: Of what runs.
        instance: Which of several it is.
    """

    name: str
    version: str
    instance: str

    @classmethod
    def of(cls, part: str, instance: str) -> Origin:
        """A part of the platform, in the version that is installed."""
        return cls(f"tekup-{part}", platform_version(), instance)


class Mark(Protocol):
    """A span that is open."""

    def note(self, **attributes: Value) -> None:
        """Say more of it; `tekup_x` stands for `tekup.x`."""

    def __enter__(self) -> Self:
        """Begin it, as the one that runs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End it; what ended it by an exception is named by its class alone."""


class Tracer(Protocol):
    """What makes spans, in a process with a collector."""

    def span(self, name: str, attributes: Mapping[str, Value], *, root: bool, parent: str, client: bool) -> Mark | None:
        """A span, None where it would not be kept."""

    def outgoing(self, *, quiet: bool) -> dict[str, str]:
        """Headers that make another process's spans children of the one that runs."""

    def apart(self) -> object:
        """Make no span the one that runs; what undoes it."""

    def join(self, parent: str) -> object:
        """Make a caller's span the one that runs; what undoes it, None for a header that is none."""

    def leave(self, token: object) -> None:
        """Undo `join`."""


class _Nothing:
    """A span nobody keeps."""

    def note(self, **attributes: Value) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None


_NOTHING: Final = _Nothing()
_running: Tracer | None = None


def tracing() -> bool:
    """Whether spans are collected in this process."""
    return _running is not None


def span(name: str, *, client: bool = False, **attributes: Value) -> Mark:
    """A step of what is traced here, as a context manager.

    Args:
        name: What is done, one of few: it is grouped by.
        client: Another process does it, which is waited for.
        attributes: What is known of it at its beginning; `tekup_x` stands for `tekup.x`.
    """
    if _running is None:
        return _NOTHING
    return _running.span(name, attributes, root=False, parent="", client=client) or _NOTHING


def root_span(name: str, *, parent: str = "", **attributes: Value) -> Mark:
    """What begins here, as a context manager.

    Args:
        name: What is done, one of few.
        parent: The `traceparent` of what it was begun by, "" for none.
        attributes: What is known of it at its beginning.
    """
    if _running is None:
        return _NOTHING
    return _running.span(name, attributes, root=True, parent=parent, client=False) or _NOTHING


def outgoing(*, quiet: bool = False) -> dict[str, str]:
    """Headers for a request to another process of ours; none where nothing is traced.

    Args:
        quiet: Outside of a trace, have the request begin none: for what is asked again and again.
    """
    return _running.outgoing(quiet=quiet) if _running is not None else {}


def trace_id() -> str:
    """The trace that this is part of, 32 hex digits; "" where there is none."""
    return outgoing().get(TRACEPARENT, "--").split("-")[1]


@contextmanager
def apart() -> Iterator[None]:
    """What begins inside the block belongs to no trace: work that goes on whoever asked."""
    token = _running.apart() if _running is not None else None
    try:
        yield
    finally:
        leave(token)


def join(parent: bytes | str) -> object:
    """Work for the span that a caller names in `traceparent`, in this task and those it starts.

    Args:
        parent: The header's value.

    Returns:
        What `leave` takes; None where it is no such value, or nothing is traced.
    """
    if _running is None or not parent:
        return None
    return _running.join(parent.decode("latin-1") if isinstance(parent, bytes) else parent)


def leave(token: object) -> None:
    """Undo a `join` that gave a token."""
    if _running is not None and token is not None:
        _running.leave(token)


@contextmanager
def traced(
    origin: Origin,
    url: str,
    share: float = 1.0,
    describe: Describe | None = None,
    *,
    stop_within_s: float = STOP_WITHIN_S,
) -> Iterator[None]:
    """Collect the spans of this process inside the block. Call it where no further process is forked from this one.

    Whatever becomes of the collector, making spans waits for nothing, what is kept of them is bounded, and the end of
    the block takes no longer than told.

    Args:
        origin: Whose they are.
        url: The collector's OTLP by gRPC, `http://host:port`; "" collects nothing, and costs nothing.
        share: Of the traces that begin here, how many are kept, 0 to 1. For others their beginning has decided.
        describe: From what is said of a served request, what its span says besides.
        stop_within_s: How long what is left may take to be sent at the end, in seconds.
    """
    global _running  # noqa: PLW0603  # one per process, like the library's own provider
    if not url:
        yield
        return
    from observability.telemetry.exporting import Sending  # noqa: PLC0415  # 14 MB that most do without

    sending = Sending(origin, url, share, describe)
    before, _running = _running, sending
    try:
        yield
    finally:
        _running = before
        sending.stop(stop_within_s)
