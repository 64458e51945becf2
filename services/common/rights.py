"""What a client may use, and what it therefore sees: one pure module for every service and the hub.

A right is a glob over tool, prompt and resource names: `*` stands for any characters, `/` included; nothing else is
special. The gate checks rights first; this is the second check, and the only one that reads bodies.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["LISTS", "allows", "lists", "may_cover", "narrow", "used_name"]

LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""Method → (member of its result, member of an item that carries its name), as on the wire."""


@lru_cache(maxsize=4096)
def _pattern(allow: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = ("".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", g)) for g in allow)
    return re.compile("|".join(alternatives) if allow else r"(?!)", re.DOTALL)


@lru_cache(maxsize=8192)
def allows(allow: tuple[str, ...], name: str) -> bool:
    """Whether one of the globs covers `name`."""
    return _pattern(allow).fullmatch(name) is not None


def may_cover(allow: tuple[str, ...], template: str) -> bool:
    """Whether some name that `template` stands for may be covered: compared up to the first variable and star."""
    start = template.partition("{")[0]
    heads = (glob.partition("*")[0] for glob in allow)
    return any(start.startswith(head) or head.startswith(start) for head in heads)


def lists(method: str, allow: tuple[str, ...], name: str) -> bool:
    """Whether a caller sees an item of a list.

    Args:
        method: The list's.
        allow: The caller's globs.
        name: The item's name, URI or URI template.
    """
    covers = may_cover if LISTS[method][1] == "uriTemplate" else allows
    return covers(allow, name)


def used_name(method: str, params: Mapping[str, object] | None) -> str | None:
    """The tool, prompt or resource a request uses, None where it uses none.

    Args:
        method: The JSON-RPC method.
        params: Its parameters as received, of any shape.

    Returns:
        The name or URI; "" when there should be one and there is not, which no right covers but `*`.
    """
    given = params or {}
    if method in ("tools/call", "prompts/get"):
        return _text(given.get("name"))
    if method == "resources/read":
        return _text(given.get("uri"))
    if method == "completion/complete":
        return _completed(given.get("ref"))
    return None


def narrow(method: str, result: Mapping[str, object], allow: tuple[str, ...]) -> Mapping[str, object]:
    """A list result with only what the rights cover.

    Args:
        method: The method it answers; anything but a list is returned unchanged.
        result: The result as on the wire.
        allow: The caller's globs.
    """
    if method not in LISTS:
        return result
    member, key = LISTS[method]
    items = result.get(member)
    if not isinstance(items, Sequence):
        return result
    kept = [item for item in items if isinstance(item, Mapping) and lists(method, allow, str(item.get(key, "")))]
    return {**result, member: kept}


def _completed(ref: object) -> str:
    """By the type, as who completes chooses: a prompt's reference may carry a `uri` that means nothing, and reverse."""
    if not isinstance(ref, Mapping):
        return ""
    key = {"ref/prompt": "name", "ref/resource": "uri"}.get(_text(ref.get("type")), "")
    return _text(ref.get(key))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
