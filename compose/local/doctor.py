"""`tekup doctor`: looks at programs, settings, ports and processes, and names a remedy for each fault it finds.

It changes nothing and fetches nothing. A check is a function that yields findings; later checks are added to
`CHECKS`.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from .errors import BadSettings, LocalError, ProgramUnavailable
from .layout import Layout
from .leftovers import family, identity, read_record
from .link import Link
from .ports import chosen_ports, holder, is_free
from .programs import NEEDED, Found, Resolver
from .progress import Silent
from .settings import Effective, load, named_ports
from .status import Status


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    said: str
    remedy: str = ""

    def data(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Patient:
    """What the checks look at."""

    layout: Layout
    effective: Effective
    status: Status | None


def examine(layout: Layout) -> list[Finding]:
    """Look at everything.

    Returns:
        All findings, good ones too.
    """
    try:
        effective = load(layout)
    except BadSettings as error:
        return [Finding("settings", False, str(error), "correct them; `tekup config show` lists what can be set")]
    try:
        status = Link(layout).status_if_running() if layout.state.is_dir() else None
    except LocalError as error:
        return [Finding("supervisor", False, str(error), "run `tekup down`, then `tekup up`")]
    patient = Patient(layout, effective, status)
    return [finding for check in CHECKS for finding in check(patient)]


def programs(patient: Patient) -> Iterator[Finding]:
    """Each outside program: version and origin."""
    yield from asyncio.run(_programs(patient))


async def _programs(patient: Patient) -> list[Finding]:
    resolver = Resolver(Silent(), fetch=False)
    given = patient.effective.settings.browser_executable
    results = await asyncio.gather(*(resolver.find(name) for name in NEEDED), return_exceptions=True)
    findings = []
    for name, result in zip(NEEDED, results, strict=True):
        if name == "chromium" and given:
            findings.append(Finding(name, True, f"{given}, set by MCP_BROWSER_EXECUTABLE"))
        elif isinstance(result, Found):
            findings.append(Finding(name, True, f"{result.version} from {result.origin}, {result.path}"))
        elif isinstance(result, ProgramUnavailable):
            said, _, remedy = str(result).rpartition("\n  What to do: ")
            findings.append(Finding(name, False, said, f"`tekup up` tries to fetch it; or {remedy}"))
        elif isinstance(result, BaseException):
            raise result
    return findings


def ports(patient: Patient) -> Iterator[Finding]:
    """Each port that is a setting: ours, free or taken."""
    if not patient.layout.state.is_dir():
        named = {name: port for name, port in named_ports(patient.effective.settings).items() if port}
    else:
        named = chosen_ports(named_ports(patient.effective.settings), patient.layout.ports)
    for name, port in named.items():
        if is_free(port):
            missing = patient.status is not None
            yield Finding(name, not missing, f"{port}, nobody listens", "see below which process is not ready")
        elif patient.status is not None:
            yield Finding(name, True, f"{port}, in use by this environment")
        else:
            yield Finding(name, False, f"{port}, taken by {holder(port)}", f"stop it, or set {name}")


def supervisor(patient: Patient) -> Iterator[Finding]:
    """The supervisor and its processes."""
    layout, status = patient.layout, patient.status
    if status is None:
        record = read_record(layout.processes)
        left = family(record.values(), identity(layout.identity)) if record else []
        said = f"not running, but {len(left)} of its processes are" if left else "not running"
        yield Finding("supervisor", not left, said, "`tekup down` ends them, `tekup up` starts anew")
        return
    yield Finding("supervisor", True, f"runs, pid {status.pid}")
    for process in status.processes:
        said = process.state if process.ready else f"{process.state}: {process.problem}"
        yield Finding(process.name, process.ready, said, f"tekup logs {process.name}; tekup restart {process.name}")


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (programs, ports, supervisor)
