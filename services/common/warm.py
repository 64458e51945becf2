"""Warming: before it is ready an instance calls itself, so that its first caller waits for nothing done only once."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Any, Final

import httpx
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION

from services.common.declared import Probe

__all__ = ["warm"]

logger = logging.getLogger(__name__)

ROUNDS: Final = 10
WITHIN_S: Final = 5.0
_META: Final = {PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION, CLIENT_CAPABILITIES_META_KEY: {}}


async def warm(url: str, proof: str, probes: Sequence[Probe], tls: ssl.SSLContext | None = None) -> None:
    """Discover, list and make the declared probe calls a few times, as a caller would; what fails is left to probes.

    Args:
        url: Where the instance itself answers.
        proof: Makes the caller the instance's own probe (`common.trust`).
        probes: The service's probes.
        tls: Under which certificate; None for plain HTTP.
    """
    requests: list[tuple[str, dict[str, Any]]] = [("server/discover", {}), ("tools/list", {})]
    requests += [("tools/call", {"name": probe.tool, "arguments": dict(probe.arguments)}) for probe in probes]
    verify = tls if tls is not None else True
    async with httpx.AsyncClient(
        headers={"x-tekup-gate": proof}, timeout=WITHIN_S, trust_env=False, verify=verify
    ) as client:
        try:
            async with asyncio.timeout(WITHIN_S):
                for _ in range(ROUNDS):
                    for method, params in requests:
                        await _ask(client, url, method, params)
        except (TimeoutError, httpx.HTTPError) as error:
            logger.warning("warm.gave_up", extra={"reason": f"{type(error).__name__}: {error}"})


async def _ask(client: httpx.AsyncClient, url: str, method: str, params: dict[str, Any]) -> None:
    headers = {
        MCP_PROTOCOL_VERSION_HEADER: LATEST_MODERN_VERSION,
        "mcp-method": method,
        "accept": "application/json, text/event-stream",
        **({"mcp-name": params["name"]} if "name" in params else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}}
    answer = await client.post(url, json=body, headers=headers)
    if answer.is_error:
        logger.warning("warm.refused", extra={"method": method, "answer": answer.text[:200]})
