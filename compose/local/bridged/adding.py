"""Adding a server to an environment and taking it away: declaration, secrets, instance, and its tools at the gate."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from compose.local.bridged.declared import (
    checked_name,
    find_declared,
    remove_declaration,
    write_declaration,
)
from compose.local.bridged.waiting import wait_until_added, wait_until_gone
from compose.local.credentials import forget_service, make_credentials
from compose.local.errors import LocalError, NotRunning, WaitedTooLong
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.operators_api import first_to_answer
from compose.local.parts import GATEWAY_PORT, Parts
from compose.local.platform_table import added_service, wanted_ports
from compose.local.ports import chosen_ports
from compose.local.progress import POLL_S, Reporter
from compose.local.run_settings import running_settings
from compose.local.served import Target
from compose.local.status import Status
from compose.local.trust import Gateway, gateway

REASON = "taken away by tekup remove"
API_CALL_S = 10.0
LIST_S = 15.0


@dataclass(frozen=True)
class Added:
    """A server that was added.

    Attributes:
        name: the service's.
        running: whether the environment runs, so that it is served now.
        tools: their names, as clients see them.
        endpoint: where all services are.
        own: where this one alone is.
    """

    name: str
    running: bool
    tools: tuple[str, ...] = ()
    endpoint: str = ""
    own: str = ""


def add_server(
    layout: Layout,
    name: str,
    content: Mapping[str, Any],
    secrets: Mapping[str, str],
    report: Reporter,
    timeout_s: float,
) -> Added:
    """Declare a server and serve it, if the environment runs; adding the same again changes nothing.

    Args:
        layout: the environment.
        name: the service's.
        content: its declaration.
        secrets: as `write_declaration` takes them.
        report: told what is going on.
        timeout_s: the most it may take to be ready; it may have to be fetched first.

    Raises:
        LocalError: it cannot be served; it stays declared.
    """
    checked_name(name)
    layout.make_folders()
    one = write_declaration(layout, name, content, secrets)
    make_credentials(layout)
    status = Link(layout).status_if_running()
    if status is None:
        return Added(name, running=False)
    parts = _parts(layout, status)
    Link(layout).put_service(added_service(parts, one))
    wait_until_added(layout, name, report, timeout_s)
    target = _target(parts)
    tools = _visible(target, name, report, timeout_s)
    return Added(name, True, tools, f"{target.gateway.url}/mcp", f"{target.gateway.url}/{name}/mcp")


def remove_server(layout: Layout, name: str, report: Reporter, timeout_s: float) -> bool:
    """Take a server away: its calls under way are finished first.

    Returns:
        Whether it ran.

    Raises:
        LocalError: there is none, or it does not end.
    """
    one = find_declared(layout, name)
    link = Link(layout)
    status = link.status_if_running()
    ran = status is not None and name in status.scale
    if ran:
        link.drop_service(name)
        wait_until_gone(layout, name, report, timeout_s)
    remove_declaration(layout, one)
    if ran and status is not None:
        _forget(layout, status, name, report)
    forget_service(layout, name)
    return ran


def connection(layout: Layout) -> tuple[Gateway, str]:
    """How the gate of a running environment is reached, and a key for it.

    Raises:
        NotRunning: nothing runs here.
    """
    target = _target(_parts(layout, Link(layout).status()))
    return target.gateway, target.key


def _forget(layout: Layout, status: Status, name: str, report: Reporter) -> None:
    """Take it out of the policy as well; that it stays there hurts nobody, so it is only told."""
    try:
        answer = first_to_answer(layout, status.processes, API_CALL_S)
        if answer is not None:
            answer[0].forget_service(name, REASON)
    except (LocalError, OSError) as error:
        report.note(f"{name} stays in the policy: {error}")


def _parts(layout: Layout, status: Status) -> Parts:
    effective = running_settings(layout, status)
    return Parts(layout, effective, chosen_ports(wanted_ports(effective), layout.ports), {})


def _target(parts: Parts) -> Target:
    layout = parts.layout
    try:
        key = layout.client_key.read_text(encoding="ascii").strip()
    except OSError as error:
        raise NotRunning(f"there is no key of the development client in {layout.client_key}; run `tekup up`") from error
    edge = gateway(layout, parts.effective.settings, parts.address(GATEWAY_PORT))
    return Target(edge, key, layout.workspace, "")


def _visible(target: Target, name: str, report: Reporter, timeout_s: float) -> tuple[str, ...]:
    """The names of its tools, once clients see them."""
    deadline, problem = time.monotonic() + timeout_s, "it lists none"
    while True:
        try:
            if tools := asyncio.run(_listed(target, name)):
                report.over(name)
                return tools
        except LocalError as error:
            problem = str(error)
        if time.monotonic() >= deadline:
            raise WaitedTooLong(f"{name} runs, and its tools are not seen at the gate: {problem}")
        report.update(name, f"waiting until its tools are seen ({problem})")
        time.sleep(POLL_S)


async def _listed(target: Target, name: str) -> tuple[str, ...]:
    from compose.local.first_call import problem_of  # noqa: PLC0415 (the SDK takes 0.6 s to import)

    try:
        async with asyncio.timeout(LIST_S), _client(target, name) as client:
            found = [tool.name for tool in (await client.list_tools()).tools]
    except (Exception, asyncio.CancelledError) as error:
        raise LocalError(problem_of(error)) from error
    return tuple(tool for tool in found if tool.startswith(f"{name}_"))


@contextlib.asynccontextmanager
async def _client(target: Target, name: str) -> AsyncIterator[Any]:
    from compose.local.first_call import client_of  # noqa: PLC0415 (see above)

    async with client_of(target, name) as client:
        yield client
