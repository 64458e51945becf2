"""The instances in the catalog, and what they count themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Registered:
    """An instance as the catalog has it."""

    id: str
    url: str
    admin_url: str


async def registered(environment: Any, service: str, *, passing: bool = True) -> list[Registered]:
    """The instances of a service.

    Args:
        environment: One that is up.
        service: Whose.
        passing: Only those that pass their check.
    """
    url = f"{environment.consul_url}/v1/health/service/mcp-{service}"
    async with httpx.AsyncClient(headers=environment.consul_token()) as client:
        found = (await client.get(url, params={"passing": ""} if passing else {})).json()
    entries = [entry["Service"] for entry in found]
    return [
        Registered(
            id=entry["Meta"]["instance"],
            url=f"http://{entry['Address']}:{entry['Port']}",
            admin_url=f"http://{entry['Address']}:{entry['Meta']['admin']}",
        )
        for entry in entries
    ]


async def in_flight(one: Registered) -> int:
    """How many requests an instance is serving."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{one.admin_url}/metrics")).text
    wanted = "tekup_requests_in_flight "
    return int(float(next(line.removeprefix(wanted) for line in text.splitlines() if line.startswith(wanted))))


async def tool_calls(environment: Any, service: str, tool: str, outcome: str) -> Counter[str]:
    """How many calls of a tool ended so, by instance."""
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient() as client:
        for one in await registered(environment, service):
            text = (await client.get(f"{one.admin_url}/metrics")).text
            wanted = f'tekup_tool_calls_total{{outcome="{outcome}",tool="{tool}"}} '
            found = [line.removeprefix(wanted) for line in text.splitlines() if line.startswith(wanted)]
            counts[one.id] = int(float(found[0])) if found else 0
    return counts
