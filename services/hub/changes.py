"""`subscriptions/listen`: tells clients that a list of theirs has changed.

Every hub looks for changes itself, and only while somebody listens to it, so several hubs tell the same without knowing
of each other. A stream ends of itself after a while, so that its client's key and rights are checked again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ServerEvent, ToolsListChanged
from mcp_types import SubscriptionsListenRequestParams, SubscriptionsListenResult

from services.common import Call, current_call
from services.common.rights import LISTS, lists
from services.common.soundness import Item, service_of
from services.hub.catalogue import Catalogue

__all__ = ["Changes"]

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
PER_CLIENT: Final = 16
TOO_MANY: Final = 429
STOPPING: Final = 503
_EVENTS: Final[Mapping[str, ServerEvent]] = {
    "tools/list": ToolsListChanged(),
    "prompts/list": PromptsListChanged(),
    "resources/list": ResourcesListChanged(),
    "resources/templates/list": ResourcesListChanged(),
}
Seen = Mapping[str, Mapping[str, Item]]
Changed = Mapping[str, Set[str]]


@dataclass(frozen=True, eq=False)
class _Stream:
    call: Call
    scope: str
    bus: InMemorySubscriptionBus
    close: Callable[[], None]

    def events(self, changed: Changed) -> set[ServerEvent]:
        return {_EVENTS[method] for method, names in changed.items() if any(self._sees(method, n) for n in names)}

    def _sees(self, method: str, name: str) -> bool:
        return self.scope in ("", service_of(name)) and (self.call.internal or lists(method, self.call.rights, name))


class Changes:
    """The open streams of one hub.

    Args:
        catalogue: The lists.
        life_s: A stream is ended in order after so long; its client listens anew.
    """

    def __init__(self, catalogue: Catalogue, *, life_s: float) -> None:
        self._catalogue = catalogue
        self._life_s = life_s
        self._streams: set[_Stream] = set()
        self._seen: Seen = {}
        self._listened_to = asyncio.Event()
        self._ended = False

    def __len__(self) -> int:
        return len(self._streams)

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams, scope: str
    ) -> SubscriptionsListenResult:
        """Serve one stream until its client leaves, its life ends or the hub stops.

        Args:
            ctx: The request.
            params: What the client wants to hear of; single resources are never announced.
            scope: Only of this service, "" for all.

        Raises:
            MCPError: The client listens too often already, the hub stops, or it is not known which services there are.
        """
        call = current_call()
        if not self._streams:
            # Before the first frame: what changes after that is told.
            seen = await self._look()
            if not self._streams:
                self._seen = seen
        if self._ended:
            raise MCPError(STOPPING, "this hub is stopping; listen anew, to another one")
        if sum(1 for stream in self._streams if stream.call.client == call.client) >= PER_CLIENT:
            raise MCPError(TOO_MANY, f"{call.client} has {PER_CLIENT} streams open on this hub; close one first")
        bus = InMemorySubscriptionBus()
        handler = ListenHandler(bus)
        stream = _Stream(call, scope, bus, handler.close)
        self._streams.add(stream)
        self._listened_to.set()
        end = asyncio.get_running_loop().call_later(self._life_s, handler.close)
        wanted = params.notifications.model_copy(update={"resource_subscriptions": None})
        try:
            return await handler(ctx, params.model_copy(update={"notifications": wanted}))
        finally:
            end.cancel()
            self._streams.discard(stream)

    def end(self) -> None:
        """End all streams in order, and begin none; their clients listen anew, to another hub."""
        self._ended = True
        for stream in self._streams:
            stream.close()

    async def watch(self) -> None:
        """Look for changes for ever, while somebody listens."""
        while True:
            await self._listened_to.wait()
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._streams:
                self._listened_to.clear()
                continue
            with suppress(MCPError):  # named in the log
                await self._tell()

    async def _tell(self) -> None:
        now = await self._look()
        changed = {method: names for method in LISTS if (names := _changed(self._seen[method], now[method]))}
        self._seen = now
        if not changed:
            return
        logger.info("changes.told", extra={"changed": {method: len(names) for method, names in changed.items()}})
        for stream in list(self._streams):
            for event in stream.events(changed):
                await stream.bus.publish(event)

    async def _look(self) -> Seen:
        found = {method: await self._catalogue.listing(method) for method in LISTS}
        return {method: {str(item[LISTS[method][1]]): item for item in items} for method, items in found.items()}


def _changed(before: Mapping[str, Item], now: Mapping[str, Item]) -> Set[str]:
    """Names that came, went, or stand for something else."""
    return {
        name
        for name in before.keys() | now.keys()
        if before.get(name) is not now.get(name) and before.get(name) != now.get(name)
    }
