"""The proof that an environment of containers serves: one real call of each service, through the gate."""

import asyncio
import time

from compose.local.errors import StepFailed
from compose.local.first_call import first_calls
from compose.local.operators_api import OperatorsApi, development_key
from compose.local.progress import Reporter
from compose.local.served import Target, wait_until_served
from compose.local.trust import gateway

from .places import PAGES_URL, Here

CALLED = ("filesystem", "search", "browser")
START_S = 180.0
"""The most to wait for the control plane and for a gate that serves; containers are being started meanwhile."""


def prove(here: Here, report: Reporter) -> None:
    """Make the development client and its key, call a tool of each service, and print what a client needs.

    Args:
        here: the environment; it is prepared.
        report: told what is waited for.

    Raises:
        LocalError: a call failed, or something did not come in time.
    """
    began = time.monotonic()
    token = here.layout.operator_token.read_text(encoding="ascii").strip()
    api = OperatorsApi(here.url("MCP_CONTROL_PLANE_PORT"), token, report, START_S)
    key = development_key(here.layout, api, report)
    entrypoint = gateway(here.layout, here.effective.settings, here.address("MCP_GATEWAY_PORT"))
    target = Target(entrypoint, key, here.workspace, PAGES_URL)
    wait_until_served(target, CALLED, START_S, report)
    calls = asyncio.run(first_calls(target, CALLED, report))
    for call in calls:
        print(f"{'ok' if call.ok else 'FAILED':7}{call.tool:22}{call.ms:6.0f} ms  {call.result}")
    if failed := [call.service for call in calls if not call.ok]:
        raise StepFailed(f"no good answer from {', '.join(failed)}; see `docker compose logs mcp-{failed[0]}`")
    settings = here.effective.settings
    public = settings.public_url.rstrip("/") or f"{entrypoint.scheme}://localhost:{settings.gateway_port}"
    print(f"All services answered after {time.monotonic() - began:.0f} s.")
    print(f"Endpoint  {public}/mcp")
    print(f"API key   {key}")
