"""What an instance is to others: its certificate, whom it trusts, and who may call it; kept fresh from Consul.

Whatever was known last goes on when Consul does not answer. Who may call changes within milliseconds of a write.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Counter, Gauge

from services.common.authority import Authority, Intention, Leaf, Roots, lets_in
from services.common.errors import RegistryError
from services.common.metrics import Metrics
from services.common.tls import LiveContext

__all__ = ["GATE_HOST", "Identity"]

logger = logging.getLogger(__name__)

GATE_HOST: Final = "tekup-gate.internal"
"""The name by which the gate's internal entrypoint is asked for: it tells Traefik to want a certificate."""
RETRY_S: Final = 0.5
# After an answer to which nothing has changed the next read begins at once; a broken server must not be asked a
# thousand times a second.
AT_MOST_EVERY_S: Final = 0.02


class Identity:
    """One instance's identity.

    Args:
        authority: Where it comes from.
        name: What the certificate is to say, `mcp-<service>`.
        metrics: Shows when the certificate ends.
    """

    def __init__(self, authority: Authority, name: str, metrics: Metrics) -> None:
        self.name = name
        self._authority = authority
        self._leaf: Leaf | None = None
        self._roots: dict[str, Roots] = {}
        self._intentions: tuple[Intention, ...] = ()
        self._intentions_index = 0
        self._roots_changed = asyncio.Event()
        self._contexts: list[LiveContext] = []
        self._known = {part: asyncio.Event() for part in ("leaf", "roots", "intentions")}
        self.server = self._context(server_side=True)
        refused = Counter(
            "tekup_tls_refused",
            "Connections to the service port that were not made, by what OpenSSL calls the reason",
            ["reason"],
            registry=metrics.registry,
        )
        self.server.refused = lambda reason: refused.labels(reason).inc()
        Gauge(
            "tekup_leaf_expires_seconds",
            "Seconds until the instance's certificate ends; Consul renews it long before",
            registry=metrics.registry,
        ).set_function(self.expires_s)

    def client(self, expects: str) -> LiveContext:
        """A context for connections to whoever is called `expects`, and to nobody else."""
        return self._context(server_side=False, expects=expects)

    def admits(self, name: str) -> bool:
        """Whether the intentions let `name` call us; nobody is let in by default."""
        return lets_in(self._intentions, name)

    def expires_s(self) -> float:
        """Seconds until our certificate ends; 0 without one."""
        return self._leaf.ends.timestamp() - time.time() if self._leaf else 0.0

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Kept fresh inside the block, which begins when there is a certificate and it is known who may call."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._follow("leaf", self._read_leaf_or_again)),
                group.create_task(self._follow("roots", self._read_roots)),
                group.create_task(self._follow("intentions", self._read_intentions)),
            ]
            for known in self._known.values():
                await known.wait()
            yield
            for task in tasks:
                task.cancel()

    async def _follow(self, what: str, read: Callable[[int], Awaitable[int]]) -> None:
        after, said = 0, ""
        while True:
            try:
                index = await read(after)
                after = index if index >= after else 0
                self._known[what].set()
                if said:
                    logger.info("identity.reachable", extra={"what": what})
                said = ""
                await asyncio.sleep(AT_MOST_EVERY_S)
            except (RegistryError, ssl.SSLError) as error:
                if str(error) != said:
                    logger.warning("identity.unreachable", extra={"what": what, "reason": str(error)})
                after, said = 0, str(error)
                await asyncio.sleep(RETRY_S)

    async def _read_leaf_or_again(self, after: int) -> int:
        """A read that is given up when the roots change: one that waits is not told of it (Consul 1.22.5)."""
        self._roots_changed.clear()
        reading, changed = (
            asyncio.ensure_future(each) for each in (self._read_leaf(after), self._roots_changed.wait())
        )
        try:
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            return await reading if reading.done() else 0
        finally:
            reading.cancel()
            changed.cancel()

    async def _read_leaf(self, after: int) -> int:
        index, leaf = await self._authority.leaf(self.name, after)
        if leaf != self._leaf:
            self._take(leaf, self._roots)
            logger.info("identity.leaf", extra={"uri": leaf.uri, "ends": leaf.ends.isoformat()})
        return index

    async def _read_roots(self, after: int) -> int:
        index, roots = await self._authority.roots(after)
        if self._roots.get(roots.domain) != roots:
            # What Consul says of its own CA is all there is. A Consul that came back empty has another CA and another
            # domain: until everybody has met it, those of the one before go on.
            self._take(self._leaf, {**self._roots, roots.domain: roots})
            self._roots_changed.set()
            logger.info("identity.roots", extra={"domain": roots.domain, "roots": len(roots.roots)})
        return index

    async def _read_intentions(self, after: int) -> int:
        index, found = await self._authority.intentions(self.name, after)
        if not found and self._intentions and index < self._intentions_index:
            # An index that goes back is a Consul that has lost its data, which says nothing of who may call: the
            # control plane writes that again. Its index stays below ours until then, so this holds until then.
            logger.warning("identity.intentions_lost", extra={"kept": [one.source for one in self._intentions]})
            return index
        if found != self._intentions:
            logger.info("identity.intentions", extra={"from": [f"{one.source}:{one.action}" for one in found]})
        self._intentions, self._intentions_index = found, index
        return index

    def _context(self, *, server_side: bool, expects: str = "") -> LiveContext:
        made = LiveContext(server_side=server_side, expects=expects)
        self._contexts.append(made)
        self._take(self._leaf, self._roots)
        return made

    def _take(self, leaf: Leaf | None, roots: dict[str, Roots]) -> None:
        """Use these from now on; what makes no sense raises, and changes nothing that is used."""
        if leaf is not None and roots:
            pem = "\n".join(each.pem for each in roots.values())
            for context in self._contexts:
                context.renew(chain=leaf.chain, key=leaf.key, roots=pem, domains=frozenset(roots))
        self._leaf, self._roots = leaf, roots
