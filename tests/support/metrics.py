"""What instances count themselves, read from their admin ports as the catalog names them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx


async def admin_ports(environment: Any, service: str) -> dict[str, str]:
    """The admin port of each instance that passes its check, by instance."""
    async with httpx.AsyncClient() as client:
        found = (await client.get(f"{environment.consul_url}/v1/health/service/mcp-{service}?passing")).json()
    return {entry["Service"]["Meta"]["instance"]: entry["Service"]["Meta"]["admin"] for entry in found}


async def tool_calls(environment: Any, service: str, tool: str, outcome: str) -> Counter[str]:
    """How many calls of a tool ended so, by instance."""
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient() as client:
        for instance, port in (await admin_ports(environment, service)).items():
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            wanted = f'tekup_tool_calls_total{{outcome="{outcome}",tool="{tool}"}} '
            found = [line.removeprefix(wanted) for line in text.splitlines() if line.startswith(wanted)]
            counts[instance] = int(float(found[0])) if found else 0
    return counts
