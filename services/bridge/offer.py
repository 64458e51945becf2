"""What a bridged server offers, read whole from one connection: named as here, each item judged alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp import MCPError

from services.bridge.names import here, public_name, public_uri
from services.bridge.peer import Peer
from services.common.rights import LISTS
from services.common.soundness import Item, Quarantined, shown, sift

__all__ = ["Offer", "read_offer"]

MAX_PAGES: Final = 50
MAX_LISTED: Final = 10_000
OURS: Final = "handle"
"""The `x-mcp-header` by which the gate leads a call to the instance that made a handle."""
_CAPABILITY: Final[Mapping[str, str]] = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resources",
}


@dataclass(frozen=True)
class Offer:
    """A server's lists.

    Attributes:
        lists: By method, the good items as they are called here.
        tools: Names of tools, here → there.
        prompts: Names of prompts, here → there.
        bad: What nobody is shown, each with the reason.
        instructions: What the server says of itself.
        completes: Whether it completes arguments.
    """

    lists: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    bad: tuple[Quarantined, ...] = ()
    instructions: str = ""
    completes: bool = False

    def tool(self, name: str) -> Item | None:
        """A good tool by its name here."""
        return next((item for item in self.lists.get("tools/list", ()) if item["name"] == name), None)

    def why_left_out(self, name: str) -> str | None:
        """Why something is not listed although the server lists it, None when that is not so."""
        return next((bad.reason for bad in self.bad if bad.item == name), None)


async def read_offer(service: str, peer: Peer, deadline_s: float) -> Offer:
    """Read all lists of a server.

    Args:
        service: The service's name.
        peer: Connected to it.
        deadline_s: The most each page may take.

    Raises:
        MCPError: It refused the list of tools.
        Lost: It did not answer.
    """
    lists: dict[str, tuple[Item, ...]] = {}
    named: dict[str, dict[str, str]] = {}
    bad: list[Quarantined] = []
    for method in LISTS:
        listed = await _listed(peer, method, deadline_s) if _CAPABILITY[method] in peer.capabilities else []
        renamed, names, unnamed = _renamed(service, method, listed)
        good, other = sift(service, method, renamed)
        good, taken = _without_ours(service, method, good)
        lists[method], named[method] = good, names
        bad += (*unnamed, *other, *taken)
    return Offer(
        lists,
        named["tools/list"],
        named["prompts/list"],
        tuple(bad),
        peer.instructions,
        "completions" in peer.capabilities,
    )


async def _listed(peer: Peer, method: str, deadline_s: float) -> list[object]:
    member, found, cursor = LISTS[method][0], list[object](), None
    for _ in range(MAX_PAGES):
        try:
            page = await peer.request(method, {"cursor": cursor} if cursor else {}, deadline_s=deadline_s)
        except MCPError:
            if method == "tools/list" or found:
                raise
            return []  # it says that it has some and knows no list of them, as many do of templates
        items = page.get(member)
        found += items if isinstance(items, list) else []
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str) or not cursor or len(found) > MAX_LISTED:
            break
    return found[:MAX_LISTED]


def _renamed(service: str, method: str, listed: list[object]) -> tuple[list[object], dict[str, str], list[Quarantined]]:
    """A list with names as here, here → there, and what cannot be called anything."""
    key = LISTS[method][1]
    if key != "name":
        return [_called(item, key, name, public_uri(service, name)) if (name := _name(item, key)) else item
                for item in listed], {}, []  # fmt: skip
    names, unusable = here(service, (name for item in listed if (name := _name(item, key)) is not None))
    kept = [
        item if (name := _name(item, key)) is None else _called(item, key, name, public_name(service, name))
        for item in listed
        if _name(item, key) not in unusable
    ]
    bad = [Quarantined(service, method, shown(name), shown(reason)) for name, reason in unusable.items()]
    return kept, names, bad


def _name(item: object, key: str) -> str | None:
    """What an item is called, None if it says nothing that could be a name."""
    name = item.get(key) if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def _called(item: Any, key: str, before: str, now: str) -> dict[str, Any]:
    titled = {} if key != "name" or item.get("title") else {"title": before}
    return {**item, **titled, key: now}


def _without_ours(
    service: str, method: str, items: tuple[Item, ...]
) -> tuple[tuple[Item, ...], tuple[Quarantined, ...]]:
    """Tools without those that would have the gate take a foreign argument for a handle of ours."""
    taken = [item for item in items if method == "tools/list" and _claims_handle(item)]
    reason = "its schema marks an argument with x-mcp-header Handle, which is the platform's"
    bad = tuple(Quarantined(service, method, str(item["name"]), reason) for item in taken)
    return tuple(item for item in items if item not in taken), bad


def _claims_handle(item: Item) -> bool:
    properties = item["inputSchema"].get("properties")
    marks = (one.get("x-mcp-header") for one in properties.values() if isinstance(one, dict)) if isinstance(
        properties, dict
    ) else ()  # fmt: skip
    return any(isinstance(mark, str) and mark.lower() == OURS for mark in marks)
