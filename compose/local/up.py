"""`tekup up` and `tekup down`: from settings to three answered tool calls, and back to nothing.

Running it twice changes nothing: what is there is kept, what runs is left running.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from .bridged.declared import declared, names
from .bridged.waiting import note_added
from .consul_acl import NODE
from .consul_config import give_node_id
from .credentials import make_credentials, make_sealing_keys
from .files import lock_holder, try_lock
from .gate_folder import lay_out_gate
from .layout import Layout
from .link import Link, end_earlier, start_supervisor, stop_supervisor
from .observability import lay_out_extras, where
from .observability_settings import EXTRAS
from .operators_api import CLIENT, OperatorsApi, development_key
from .parts import GATEWAY_PORT, OPERATORS_PORT, Parts
from .platform_table import gate_values, platform_table, wanted_ports
from .ports import chosen_ports, settled_ports
from .programs import NEEDED, Found, Resolver, asked_programs
from .progress import Reporter, wait_for
from .ready import wait_until_ready
from .run_settings import running_settings
from .served import FirstCall, Target, wait_until_served, write_welcome
from .settings import CONTROL_PLANE, SERVICES, Effective, load, named_ports
from .status import ProcessStatus, Status
from .table import write_table
from .trust import Gateway, gateway, prepare_certificate
from .typed import typed

LOCK_S = 3600.0
"""The other one may be building Consul."""


@dataclass(frozen=True)
class Up:
    """What `tekup up` found or made."""

    parts: Parts
    gateway: Gateway
    key: str
    started: bool
    calls: tuple[FirstCall, ...]
    scaled_to_0: tuple[str, ...]
    """Services that are to have no instance: nobody was called there."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every service that was called answered."""
        return all(call.ok for call in self.calls)

    @property
    def extras(self) -> Mapping[str, str]:
        """Where each program is that was asked for besides."""
        return where(self.parts)

    @property
    def operators(self) -> str:
        """Where operators' scripts ask."""
        return self.parts.url("MCP_CONTROL_PLANE_PORT")

    @property
    def console(self) -> str:
        """The console as a browser opens it: by TLS where the gate has a certificate."""
        tls = self.parts.effective.settings.tls != "off"
        return f"{self.by_tls if tls else self.operators}/console"

    @property
    def by_tls(self) -> str:
        """API and console on the gate's entrypoint for operators; "" where it has no certificate."""
        if self.parts.effective.settings.tls == "off":
            return ""
        name = urlsplit(self.gateway.url).hostname
        return f"https://{name}:{self.parts.ports[OPERATORS_PORT]}"

    def data(self) -> dict[str, object]:
        """For `--json`."""
        gateway = self.gateway.url
        return {
            "directory": str(self.parts.layout.directory),
            "endpoint": f"{gateway}/mcp",
            "endpoints": {name: f"{gateway}/{name}/mcp" for name in SERVICES if name != "hub"},
            "ca": str(self.gateway.ca or ""),
            "client": CLIENT,
            "key": self.key,
            "control_plane": self.operators,
            "operators": self.by_tls,
            "console": self.console,
            "consul": self.parts.url("MCP_CONSUL_PORT"),
            **dict.fromkeys(EXTRAS, ""),
            **self.extras,
            "operator_token_file": str(self.parts.layout.operator_token),
            "started": self.started,
            "scaled_to_0": list(self.scaled_to_0),
            "calls": [asdict(call) for call in self.calls],
            "ok": self.ok,
        }


def bring_up(layout: Layout, timeout_s: float, report: Reporter, given: Mapping[str, str] | None = None) -> Up:
    """Bring the environment up, or find that it is.

    Args:
        layout: the environment.
        timeout_s: the most to wait for processes and gate; fetching programs comes on top.
        report: told what is going on.
        given: settings that go before those of environment and file, by variable.

    Raises:
        LocalError: a subclass that says what went wrong and what to do.
    """
    effective = load(layout, {**os.environ, **(given or {})})
    began = time.monotonic()
    layout.make_folders()
    with alone(layout, report):
        programs = asyncio.run(_programs(effective, report))
        status = _running(layout, report)
        if status is None:
            parts = _prepare(layout, effective, programs, report)
            start_supervisor(layout, report)
        else:
            effective = running_settings(layout, status, given)
            parts = Parts(layout, effective, chosen_ports(wanted_ports(effective), layout.ports), programs)
            if platform_table(parts).digest() != status.table:
                report.note(typed("settings or programs have changed since this environment was started; "
                                  "`tekup down` and `tekup up` put them in force"))  # fmt: skip
        key = _key(parts, report, timeout_s)
        added = names(declared(layout))
        # somebody else's server that does not start is told, and holds up nothing else
        scaled_to_0 = wait_until_ready(
            layout, report, timeout_s, only=lambda process: process.group not in added
        ).scaled_to_0()
        note_added(layout, added, report)
    edge = gateway(layout, effective.settings, parts.address(GATEWAY_PORT))
    target = Target(edge, key, layout.workspace, f"{parts.url('pages')}/")
    scaled_to_0 = tuple(name for name in scaled_to_0 if name in SERVICES)
    called = tuple(name for name in SERVICES if name not in ("hub", *scaled_to_0))
    wait_until_served(target, called, timeout_s, report)
    calls = _first_calls(target, called, report)
    return Up(parts, edge, key, status is None, calls, scaled_to_0, time.monotonic() - began)


def _running(layout: Layout, report: Reporter) -> Status | None:
    """What runs here, once nothing is stopping any more."""
    link = Link(layout)

    def settled() -> bool | None:
        status = link.status_if_running()
        return None if status and status.stopping else True

    wait_for(settled, "the environment to stop", LOCK_S, report, "supervisor")
    return link.status_if_running()


def _first_calls(target: Target, services: tuple[str, ...], report: Reporter) -> tuple[FirstCall, ...]:
    from .first_call import first_calls  # noqa: PLC0415 (the SDK takes 0.6 s to import; no other command needs it)

    return tuple(asyncio.run(first_calls(target, services, report)))


async def _programs(effective: Effective, report: Reporter) -> dict[str, Found]:
    given = effective.settings.browser_executable
    wanted = (*NEEDED, *asked_programs(effective.settings.extras))
    return await Resolver(report).find_all(name for name in wanted if not (given and name == "chromium"))


def _prepare(layout: Layout, effective: Effective, programs: dict[str, Found], report: Reporter) -> Parts:
    end_earlier(layout, report)
    ports = settled_ports(wanted_ports(effective), named_ports(effective.settings), layout.ports, report)
    parts = Parts(layout, effective, ports, programs)
    make_credentials(layout)
    give_node_id(layout.consul, NODE)
    if effective.settings.api_key_encryption and not effective.settings.api_key_encryption_key_file:
        make_sealing_keys(layout)
    write_welcome(layout)
    lay_out_gate(layout.gate, gate_values(parts))
    lay_out_extras(parts)
    prepare_certificate(layout, effective.settings, report)
    write_table(layout.table, platform_table(parts))
    return parts


def _key(parts: Parts, report: Reporter, timeout_s: float) -> str:
    wait_until_ready(parts.layout, report, timeout_s, only=_is_control_plane)
    token = parts.layout.operator_token.read_text(encoding="ascii").strip()
    api = OperatorsApi(parts.url("MCP_CONTROL_PLANE_PORT"), token, report, timeout_s)
    return development_key(parts.layout, api, report)


def _is_control_plane(process: ProcessStatus) -> bool:
    return process.group == CONTROL_PLANE


def take_down(layout: Layout, timeout_s: float, report: Reporter) -> list[str]:
    """Stop everything of the environment.

    Returns:
        What had to be ended by force, as a person reads it.

    Raises:
        LocalError: something is left that cannot be ended.
    """
    if not layout.state.is_dir():
        return []
    with alone(layout, report):
        return stop_supervisor(layout, report, timeout_s)


@contextlib.contextmanager
def alone(layout: Layout, report: Reporter) -> Iterator[None]:
    """Keep other `up` and `down` of the environment out while the block runs."""
    with contextlib.ExitStack() as stack:

        def locked() -> bool | None:
            with contextlib.ExitStack() as attempt:
                if not attempt.enter_context(try_lock(layout.up_lock)):
                    return None
                stack.push(attempt.pop_all())
                return True

        holder = lock_holder(layout.up_lock)
        wait_for(locked, f"another `tekup up` or `down` (pid {holder}) to end", LOCK_S, report, "lock")
        yield
