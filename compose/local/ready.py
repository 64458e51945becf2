"""Waits until what the supervisor runs is ready; gives up at once where waiting on is in vain."""

import time
from collections.abc import Callable, Iterable, Mapping

from .errors import BadSettings, Overtaken, StepFailed, WaitedTooLong
from .layout import Layout
from .link import Link
from .logs import last_lines
from .progress import POLL_S, Reporter, wait_for
from .status import ProcessStatus, Status, Wish

HOPELESS = 5
"""So many restarts without becoming ready: waiting on is in vain."""
OTHERS_S = 20.0
"""When one refuses its settings, those started less than so long ago may still: all are told at once."""
REST = "(the rest goes on running; `tekup down` ends it):"


def wait_until_ready(
    layout: Layout, report: Reporter, timeout_s: float, only: Callable[[ProcessStatus], bool] = lambda _process: True
) -> Status:
    """Wait until processes are ready.

    Args:
        layout: the environment.
        report: told while waiting.
        timeout_s: the most to wait.
        only: which processes matter.

    Raises:
        WaitedTooLong: naming those not ready, why, and their last log lines.
        StepFailed: the same, without waiting on, for processes that end again and again.
        BadSettings: the same for processes that refuse their settings.
    """
    link = Link(layout)
    status = link.status()
    deadline = time.monotonic() + timeout_s
    restarts = _restarts(status)
    while missing := [process for process in status.not_ready() if only(process)]:
        _give_up_on_hopeless(layout, missing, restarts)
        if time.monotonic() >= deadline:
            raise WaitedTooLong(
                _not_ready(layout, missing, f"not everything became ready within {timeout_s:.0f} s {REST}")
            )
        ready = len(status.processes) - len(status.not_ready())
        names = ", ".join(f"{process.name} ({process.state})" for process in missing)
        report.update("processes", f"waiting for {names}", ready, len(status.processes))
        time.sleep(POLL_S)
        status = link.status()
    report.over("processes")
    return status


def wait_until_scaled(layout: Layout, wish: Wish, report: Reporter, timeout_s: float) -> Status:
    """Wait until a service's instances are as many as wished for, and ready.

    Args:
        layout: the environment.
        wish: what the supervisor has taken up.
        report: told while waiting.
        timeout_s: the most to wait.

    Raises:
        WaitedTooLong: they are not.
        Overtaken: somebody else has wished for another number meanwhile.
        StepFailed: an instance ends again and again.
        BadSettings: an instance refuses its settings.
    """
    link = Link(layout)
    restarts = _restarts(link.status())

    def reached() -> Status | None:
        now = link.status()
        if (count := now.scale[wish.service][wish.version]) != wish.count:
            raise Overtaken(f"somebody else has scaled {wish.service} {wish.version} to {count} "
                            f"while this waited for {wish.count}")  # fmt: skip
        mine = [process for process in now.processes if process.group == wish.service]
        _give_up_on_hopeless(layout, (process for process in mine if not process.ready), restarts)
        wanted = sum(now.scale[wish.service].values())
        return now if len(mine) == wanted and all(process.ready for process in mine) else None

    return wait_for(reached, f"the instances of {wish.service} to come and go", timeout_s, report, wish.service)


def _restarts(status: Status) -> dict[str, int]:
    return {process.name: process.restarts for process in status.processes}


def _give_up_on_hopeless(layout: Layout, missing: Iterable[ProcessStatus], before: Mapping[str, int]) -> None:
    missing = list(missing)
    undecided = any(process.state == "starting" and time.time() - process.since < OTHERS_S for process in missing)
    if not undecided and (refused := [process for process in missing if process.refused]):
        what = "these refuse their settings; correct them, then `tekup down` and `tekup up`:"
        raise BadSettings(_not_ready(layout, refused, what))
    if ending := [process for process in missing if process.restarts - before.get(process.name, 0) >= HOPELESS]:
        raise StepFailed(_not_ready(layout, ending, f"these end again and again {REST}"))


def _not_ready(layout: Layout, missing: list[ProcessStatus], what: str) -> str:
    lines = [what]
    for process in missing:
        lines.append(f"  {process.name}: {process.problem or process.state}")
        if process.state != "waiting" and not process.refused:  # whose problem holds all it has said
            lines.append(last_lines(layout, process.name))
    return "\n".join(lines)
