"""Lists and discovery as they were last answered, kept for each set of rights.

An answer is served again only while what it was made from is the same, so nothing is served for having been right a
while ago. It is kept under all that its grant says of a client but who it is: a client with other rights never meets
it, and one whose rights change meets another answer with its next request. `ttlMs` is for those who keep answers
elsewhere.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp_types.methods import validate_client_request
from pydantic import ValidationError

from services.common.call import Call
from services.common.metrics import Metrics
from services.common.rights import LISTS

__all__ = [
    "CACHED",
    "DISCOVER",
    "LIST_TTL_MS",
    "MAX_WEIGHT",
    "Freshness",
    "FreshnessOf",
    "ListCache",
    "key_of",
    "scoped",
]

DISCOVER: Final = "server/discover"
CACHED: Final = (DISCOVER, *LISTS)
LIST_TTL_MS: Final = 5_000
MAX_WEIGHT: Final = 20_000
"""Items of lists kept at once, an answer counting as one more: about 20 MB of them."""

_NARROWED: Final = frozenset({*LISTS, "resources/read"})
_Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True)
class Freshness:
    """What an answer is made from.

    Args:
        made_from: Compared part by part, each by what it is and not by what it equals: the same parts, the same answer.
        ttl_ms: How long who keeps the answer may go without asking again.
        place: Tells answers apart that differ for other reasons than rights, such as the hub's for one service.
        shared: Every client gets the same, whatever its rights.
    """

    made_from: tuple[object, ...] = ()
    ttl_ms: int = LIST_TTL_MS
    place: Hashable = ""
    shared: bool = False


FreshnessOf = Callable[[_Context], Awaitable[Freshness | None]]


@dataclass(frozen=True)
class _Kept:
    made_from: tuple[object, ...]
    result: Mapping[str, Any]
    weight: int


class ListCache:
    """The answers kept by one instance, the least used dropped first.

    Args:
        metrics: Told of every hit and miss.
        max_weight: `MAX_WEIGHT`.

    Attributes:
        since: Another object after each `drop`. A part of what answers are made from, so that one begun before a drop
            is not served after it.
    """

    def __init__(self, metrics: Metrics, max_weight: int = MAX_WEIGHT) -> None:
        self._metrics = metrics
        self._max_weight = max_weight
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._weight = 0
        self.since = object()
        metrics.expect_lists(CACHED)

    def __len__(self) -> int:
        return len(self._kept)

    def drop(self) -> None:
        """Forget everything: what the service offers has changed."""
        self._kept.clear()
        self._weight = 0
        self.since = object()

    def get(self, method: str, key: Hashable, made_from: tuple[object, ...]) -> dict[str, Any] | None:
        """The answer kept under `key`, None when there is none made from just this; counted either way."""
        kept = self._kept.get(key)
        hit = kept is not None and _same(kept.made_from, made_from)
        self._metrics.count_list(method, hit=hit)
        if kept is None or not hit:
            return None
        self._kept.move_to_end(key)
        return dict(kept.result)

    def put(self, method: str, key: Hashable, made_from: tuple[object, ...], result: Mapping[str, Any]) -> None:
        """Keep an answer, if it has a place beside others."""
        self._remove(key)
        items = result.get(LISTS[method][0]) if method in LISTS else None
        weight = 1 + (len(items) if isinstance(items, Sequence) else 0)
        if weight > self._max_weight:
            return
        self._kept[key] = _Kept(made_from, dict(result), weight)
        self._weight += weight
        while self._weight > self._max_weight:
            self._remove(next(iter(self._kept)))

    def _remove(self, key: Hashable) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._weight -= kept.weight


def key_of(ctx: _Context, call: Call, fresh: Freshness) -> Hashable | None:
    """Under what the answer to a request is kept, None when it has to be made.

    Whoever is no client is answered anew, for the platform's own callers may see more; so is a request with parameters
    of its own (a cursor), and one that is not as the protocol wants it, which the SDK refuses.
    """
    if call.internal or call.copy or ctx.method not in CACHED or set(ctx.params or {}) - {"_meta"}:
        return None
    try:
        validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
    except (KeyError, ValidationError):
        return None
    rights = () if fresh.shared else (call.rights, call.cohort, call.roots, call.hosts)
    return ctx.method, ctx.protocol_version, fresh.place, rights


def scoped(method: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result whose `cacheScope` promises no more than rights allow: what a client's rights narrow is its own."""
    if method in _NARROWED and result.get("cacheScope", "private") != "private":
        return {**result, "cacheScope": "private"}
    return result


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))
