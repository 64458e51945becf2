"""Waits for an added server: until its instance is ready, or until waiting on is in vain."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from compose.local.errors import BadSettings, StepFailed, WaitedTooLong
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.logs import last_lines
from compose.local.progress import POLL_S, Reporter, wait_for
from compose.local.status import ProcessStatus

NOTED_WITHIN_S = 15.0
IN_VAIN_S = 8.0
"""A server that has failed to start for so long, again and again, will go on so."""
_FAILS = re.compile(r"could not be started|cannot be read|ended with|cannot be used|did not answer the handshake")


def wait_until_added(layout: Layout, name: str, report: Reporter, timeout_s: float) -> None:
    """Wait until all instances of an added server are ready.

    Raises:
        BadSettings: the bridge refuses the declaration, with its reasons.
        StepFailed: the server does not start, with the reason and its last words.
        WaitedTooLong: it is not ready in time.
    """
    link, deadline = Link(layout), time.monotonic() + timeout_s
    failing_since: float | None = None
    while True:
        mine = _mine(link, name)
        missing = [process for process in mine if not process.ready]
        if mine and not missing:
            report.over(name)
            return
        problem = next((process.problem for process in missing if process.problem), "it is starting")
        if any(process.refused for process in missing):
            raise BadSettings(f"{name} cannot be served: {problem}")
        now = time.monotonic()
        failing_since = (failing_since or now) if _FAILS.search(problem) else None
        if failing_since is not None and now - failing_since >= IN_VAIN_S:
            raise StepFailed(_told(layout, name, missing, problem))
        if now >= deadline:
            raise WaitedTooLong(_told(layout, name, missing, f"not ready within {timeout_s:.0f} s: {problem}"))
        report.update(name, f"waiting until it is ready ({problem})")
        time.sleep(POLL_S)


def wait_until_gone(layout: Layout, name: str, report: Reporter, timeout_s: float) -> None:
    """Wait until no instance is left.

    Raises:
        WaitedTooLong: one is.
    """
    link = Link(layout)
    wait_for(lambda: None if _mine(link, name) else True, f"{name} to drain", timeout_s, report, name)


def note_added(layout: Layout, names: Iterable[str], report: Reporter) -> None:
    """Say which added servers are not ready, after a moment in which they may become so."""
    link, deadline = Link(layout), time.monotonic() + NOTED_WITHIN_S
    wanted = set(names)
    while wanted:
        missing = [one for one in link.status().not_ready() if one.group in wanted]
        if not missing:
            break
        if time.monotonic() >= deadline:
            for one in missing:
                report.note(f"{one.group}, which was added, is not ready: {one.problem or one.state}")
            break
        report.update("added servers", f"waiting for {', '.join(sorted({one.group for one in missing}))}")
        time.sleep(POLL_S)
    report.over("added servers")


def _mine(link: Link, name: str) -> list[ProcessStatus]:
    return [process for process in link.status().processes if process.group == name]


def _told(layout: Layout, name: str, missing: list[ProcessStatus], problem: str) -> str:
    lines = [f"{name} is not served: {problem}"]
    lines += [last_lines(layout, process.name) for process in missing]
    lines.append(f"correct it and add it again, or take it away with `tekup remove {name}`")
    return "\n".join(lines)
