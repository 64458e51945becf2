"""`python -m services.bridge.way_out`: a bridged server's one way out, a proxy that reaches whom its declaration names.

A process of its own, in a container of its own: the bridge's has no other network that leads out. What is connected to
is looked at as for pages: a name is resolved once, and metadata services of clouds are reached by nobody.
"""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from observability.telemetry.logs import configure_logging
from services.bridge.declaration import BadDeclaration, Declaration, read_declaration
from services.common.addresses import HostRule, Policy
from services.common.egress import Direct, Egress, Refused
from services.common.egress.streams import Streams
from services.common.egress.ways import FORBIDDEN, RefusedError, authority

__all__ = ["Declared", "hosts_of", "main"]

logger = logging.getLogger(__name__)

PORT: Final = 3128
_PORTS: Final = {"http": 80, "https": 443}


def hosts_of(declaration: Declaration) -> frozenset[HostRule]:
    """Whom a server may reach: the hosts it declares, and where it is itself.

    Raises:
        BadDeclaration: One is no host.
    """
    urls = [declaration.url, declaration.oauth.issuer if declaration.oauth else ""]
    places = [
        authority(parts.hostname or "", parts.port or _PORTS[parts.scheme])
        for parts in map(urlsplit, urls)
        if parts.scheme
    ]
    try:
        return frozenset(map(HostRule.of, (*declaration.hosts, *places)))
    except ValueError as error:
        raise BadDeclaration(f"hosts: {error}; there are no patterns") from error


@dataclass(frozen=True)
class Declared:
    """The way to declared hosts, and to no other.

    Args:
        hosts: Which.
        way: How they are reached.
    """

    hosts: frozenset[HostRule]
    way: Direct

    async def connected(self, host: str, port: int) -> Streams:
        """As `Way`."""
        named = HostRule.of(authority(host, port))
        try:
            if not {named, HostRule(named.host, None)} & self.hosts:
                refused = Refused(host, port, "is none of the hosts that the server's declaration names")
                raise RefusedError(refused, FORBIDDEN)
            return await self.way.connected(host, port)
        except RefusedError as error:
            about = {"host": host[:200], "port_number": port, "reason": error.refused.reason}
            logger.warning("way_out.refused", extra=about)
            raise


async def _serve(declaration: Declaration) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    hosts = hosts_of(declaration)
    async with Egress.open(Declared(hosts, Direct(Policy(hosts))), host="0.0.0.0", port=PORT):
        logger.info("serving", extra={"port": PORT, "hosts": sorted(map(str, hosts))})
        await stop.wait()
    logger.info("stopped")


def main() -> None:
    """Serve until told to stop; 78 where the declaration allows no start."""
    try:
        declaration = read_declaration(Path(os.environ.get("MCP_BRIDGE_FILE", "")))
        about = {"service": "way-out", "version": declaration.version, "instance": declaration.name}
        configure_logging(os.environ.get("MCP_LOG_LEVEL", "info"), about, None)
        asyncio.run(_serve(declaration))
    except BadDeclaration as error:
        sys.stderr.write(f"the way out was not opened: {error}\n")
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
