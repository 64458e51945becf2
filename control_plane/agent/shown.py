"""Shows the gate in the catalog, where Prometheus and people look for it; what it has in force is the report's part."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

from control_plane.consul import Consul
from control_plane.errors import Unavailable

log = logging.getLogger(__name__)

AGAIN_S = 5.0


async def show(consul: Consul, gate: str, private_url: str) -> None:
    """Register the gate for ever, again and again: a Consul that lost its data knows it soon.

    Args:
        consul: Where the catalog lies.
        gate: The gate's id.
        private_url: Its private entrypoint.
    """
    where = urlsplit(private_url)
    while True:
        try:
            await consul.register_gate(gate, where.hostname or "", where.port or 80, f"{private_url}/ping")
        except Unavailable as error:
            log.warning("gate.not_shown", extra={"why": str(error)})
        await asyncio.sleep(AGAIN_S)
