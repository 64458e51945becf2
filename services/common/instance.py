"""The life of one instance, in order:

bind ports → admin port → a certificate (with mutual TLS) → `build` → MCP port → warmed → probes work → registered
("serving" in the log)
stop signal → registration draining → until nothing new has come for `MCP_DRAIN_QUIET_S` → listening streams end → until
calls and handles are done, at most to `MCP_DRAIN_DEADLINE_S` after the signal or to a second signal → cut off the rest
→ deregister → HTTP ends → handles closed → `build`'s clean-up → end.

Nobody is asked whether routing has changed: while calls still come they are served.
"""

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from starlette.types import ASGIApp

from services.common.activity import Activity
from services.common.admin import admin_app, service_app
from services.common.admission import Admission
from services.common.authority import Authority
from services.common.background import beside
from services.common.errors import SettingsError
from services.common.front import Front
from services.common.identity import Identity
from services.common.kit import Kit, ServiceSpec
from services.common.listen import Listener, advertised_address, bind, listening, own_address
from services.common.load import Load
from services.common.readiness import Phase, Readiness
from services.common.registration import Keeper
from services.common.registry import Registration, Registry
from services.common.rekey import keep_keys
from services.common.server import Guard, KitServer, mcp_app
from services.common.settings import KitSettings, Loaded, ServiceSettings
from services.common.short import Short
from services.common.signing import Keyring
from services.common.telling import COPIES, LOAD, Telling
from services.common.tls import current_peer
from services.common.trust import Trust
from services.common.warm import warm

__all__ = ["Instance", "Stop", "serve_instance"]

logger = logging.getLogger(__name__)
S = TypeVar("S", bound=ServiceSettings)

EXPIRE_EVERY_S = 1.0
PROBE_AGAIN_S = 0.2


def _peer_name() -> str:
    peer = current_peer()
    return peer.name if peer else ""


def _bind_both(name: str, settings: KitSettings) -> tuple[Listener, Listener]:
    bound: list[Listener] = []
    problems: list[str] = []
    for variable, port in (("MCP_PORT", settings.port), ("MCP_ADMIN_PORT", settings.admin_port)):
        try:
            bound.append(bind(settings.host, port))
        except OSError as error:
            problems.append(f"{variable}: {settings.host}:{port} cannot be listened on: {error.strerror}")
    if problems:
        for listener in bound:
            listener.sock.close()
        raise SettingsError(name, tuple(problems))
    return bound[0], bound[1]


class Stop:
    """The wish to stop: once for in order, twice for at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """Wish once more."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()


async def serve_instance(spec: ServiceSpec[S], loaded: Loaded[S], stop: Stop) -> None:
    """Serve one instance until it shall stop, then end it in order.

    Args:
        spec: The service.
        loaded: What the instance was told.
        stop: Asked by the stop signal.

    Raises:
        SettingsError: A port cannot be bound; nothing was started.
    """
    ports = _bind_both(spec.name, loaded.kit)
    await Instance(spec, loaded, *ports).live(stop)


class Instance:
    """One instance of a service.

    Args:
        spec: The service.
        loaded: What the instance was told.
        port: Where it serves.
        admin_port: Where it is watched.
    """

    def __init__(self, spec: ServiceSpec[S], loaded: Loaded[S], port: Listener, admin_port: Listener) -> None:
        self._settings = loaded.kit
        self._instructions = spec.instructions
        self._kit = Kit(spec.name, loaded.kit, Keyring(loaded.keys))
        self._built = spec.build(self._kit, loaded.service)
        self._port = port
        self._admin_port = admin_port
        self._activity = Activity()
        self._load = Load(self._activity, self._kit.metrics.usage)
        self._readiness = Readiness(self._kit.probes, self._kit.metrics, checks=self._kit.checks)
        self._started_s = time.time()
        self._about = {"service": spec.name, "version": self._kit.version, "instance": self._kit.instance}

    async def live(self, stop: Stop) -> None:
        """From the first port to the last clean-up; returns when it is over."""
        async with AsyncExitStack() as life:
            admin = admin_app(self._readiness, self._kit, self._about)
            await life.enter_async_context(listening(admin, self._admin_port))
            await life.enter_async_context(beside(self._load.watch()))
            await life.enter_async_context(self._identified())
            await life.enter_async_context(self._built)
            await life.enter_async_context(self._handles_closed())
            if self._settings.secrets_file:
                await life.enter_async_context(
                    beside(keep_keys(self._settings.secrets_file, self._kit.keyring, self._kit.metrics))
                )
            await life.enter_async_context(self._serving())
            await life.enter_async_context(self._expiring())
            keeper = await life.enter_async_context(self._registered(stop.asked))
            await stop.asked.wait()
            await self._drain(keeper, stop.at_once)
        logger.info("stopped")

    @asynccontextmanager
    async def _identified(self) -> AsyncIterator[None]:
        """With mutual TLS: has a certificate inside the block, and keeps it fresh. `kit.identity` is None without."""
        if self._settings.mtls == "off":
            yield
            return
        settings = self._settings
        async with Authority(
            settings.consul_url, token_file=settings.consul_token_file, ca_file=settings.consul_ca_file
        ) as authority:
            self._kit.identity = Identity(authority, f"mcp-{self._kit.name}", self._kit.metrics)
            async with self._kit.identity.kept():
                yield

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        """`/mcp` answers inside the block."""
        own = self._kit.own_server
        kit_server = KitServer(self._kit, self._kit.calls, instructions=self._instructions)
        guard, lowlevel = kit_server.guard, kit_server.lowlevel
        if own is not None:
            # Around all that the server says itself, so that what is kept is whole; within the SDK's tracing.
            guard, lowlevel = Guard(self._kit, own.open_names, freshness=own.freshness), own.server
            lowlevel.middleware.insert(1, guard)
        direct = own.direct if own is not None else kit_server.direct()
        legacy = own is not None and own.legacy
        own_proof = secrets.token_hex(32)
        server = own.server if own else kit_server
        self._readiness.serve(kit_server.call_tool)
        identity = self._kit.identity
        peer = _peer_name if identity else None
        host, standalone = self._settings.host, self._settings.standalone
        async with mcp_app(server, host=host, standalone=standalone) as mcp:
            front = Front(
                Short(mcp, direct, guard, lowlevel, legacy=legacy) if direct else mcp,
                trust=Trust(self._kit.keyring, standalone=standalone, own_proof=own_proof, peer=peer),
                activity=self._activity,
                metrics=self._kit.metrics,
                drills=self._kit.drills,
                legacy=legacy,
                whose=(
                    (b"x-tekup-instance", self._kit.instance.encode()),
                    (b"x-tekup-version", self._kit.version.encode()),
                ),
                telling=Telling({LOAD: self._load.shown, COPIES: self._copies}),
            )
            app: ASGIApp = service_app(front, self._readiness, self._about)
            if identity:
                app = Admission(app, identity, self._kit.metrics)
            async with listening(app, self._port, identity.server if identity else None):
                scheme, tls = ("https", identity.client(identity.name)) if identity else ("http", None)
                await warm(f"{scheme}://{own_address(self._port)}/mcp", own_proof, self._kit.probes, tls)
                # What is here now stays. Spans that wait to be sent outlive two generations and bring on full
                # collections, which would go through all of it each time: 0.3 ms more of a processor for every call.
                gc.collect()
                gc.freeze()
                yield

    async def _copies(self) -> dict[str, object]:
        """What both sides of copied calls came to."""
        return {"sides": self._kit.calls.shadow.recent()}

    @asynccontextmanager
    async def _handles_closed(self) -> AsyncIterator[None]:
        """Closes what is still open after the block, before what `build` made goes away."""
        try:
            yield
        finally:
            for handles in self._kit.handle_kinds:
                await handles.close_all()

    @asynccontextmanager
    async def _expiring(self) -> AsyncIterator[None]:
        async def expire() -> None:
            while True:
                await asyncio.sleep(EXPIRE_EVERY_S)
                for handles in self._kit.handle_kinds:
                    await handles.expire()

        async with beside(expire()):
            yield

    @asynccontextmanager
    async def _registered(self, stop: asyncio.Event) -> AsyncIterator[Keeper | None]:
        """Registered inside the block, from when the probes first work; deregistered after it."""
        await self._until_ready(stop)
        where = {"host": self._port.host, "port": self._port.port, "admin_port": self._admin_port.port}
        logger.info("serving", extra=where)
        if not self._settings.consul_url:
            yield None
            return
        registry = Registry(
            self._settings.consul_url,
            token_file=self._settings.consul_token_file,
            ca_file=self._settings.consul_ca_file,
            accepted=self._kit.metrics.secret_file.labels("consul_token").set,
        )
        keeper = Keeper(registry, self._registration(), self._kit.metrics)
        try:
            async with beside(keeper.keep()):
                yield keeper
            await keeper.leave()
        finally:
            await registry.close()

    def _registration(self) -> Registration:
        return Registration(
            service=self._kit.name,
            instance=self._kit.instance,
            version=self._kit.version,
            address=advertised_address(self._port.host, self._settings.consul_url),
            port=self._port.port,
            admin_port=self._admin_port.port,
            state="serving",
            started=f"{self._started_s:.3f}",
        )

    async def _until_ready(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set() and await self._readiness.problem() is not None:
                await asyncio.wait([stopping], timeout=PROBE_AGAIN_S)
        finally:
            stopping.cancel()

    async def _drain(self, keeper: Keeper | None, at_once: asyncio.Event) -> None:
        """Go on serving while something comes, finish what is there, then cut off."""
        logger.info("draining", extra={"in_flight": self._activity.in_flight, "handles": self._open_handles()})
        self._readiness.phase = Phase.DRAINING
        emptying = asyncio.create_task(self._empty(keeper))
        hurry = asyncio.create_task(at_once.wait())
        await asyncio.wait(
            [emptying, hurry], timeout=self._settings.drain_deadline_s, return_when=asyncio.FIRST_COMPLETED
        )
        if emptying.done():
            emptying.result()
        else:
            left = {"handles": self._open_handles(), "cut_off": self._activity.cut_off()}
            logger.warning("drain.cut_off", extra=left)
        for task in (emptying, hurry):
            task.cancel()
        await asyncio.gather(emptying, hurry, return_exceptions=True)
        await self._readiness.stop()

    async def _empty(self, keeper: Keeper | None) -> None:
        if keeper is not None:
            await keeper.drain()
        await self._activity.quiet(self._settings.drain_quiet_s)
        for leave in self._kit.leaving:
            leave()
        await self._activity.idle(lambda: self._open_handles() == 0)

    def _open_handles(self) -> int:
        return sum(map(len, self._kit.handle_kinds))
