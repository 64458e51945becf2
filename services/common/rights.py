"""What a client may use, and what it therefore sees: one pure module for every service and the hub.

A right is a glob over tool, prompt and resource names: `*` stands for any characters, `/` included; nothing else is
special. The gate checks names first; this is the second check of them, the only one that reads bodies, and the only one
that knows what tools say of themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from services.common.stars import covers

__all__ = ["LISTS", "Access", "Rights", "allows", "lists", "narrow", "used_name"]

LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""Method → (member of its result, member of an item that carries its name), as on the wire."""


@lru_cache(maxsize=4096)
def _pieces(allow: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(glob.split("*")) for glob in allow)


@lru_cache(maxsize=8192)
def allows(allow: tuple[str, ...], name: str) -> bool:
    """Whether one of the globs covers `name`."""
    return any(covers(pieces, name) for pieces in _pieces(allow))


def _may_cover(allow: tuple[str, ...], start: str) -> bool:
    heads = (glob.partition("*")[0] for glob in allow)
    return any(start.startswith(head) or head.startswith(start) for head in heads)


class Access(StrEnum):
    """Which tools a client may call, by what they say of themselves."""

    ALL = "all"
    NON_DESTRUCTIVE = "non-destructive"
    READ_ONLY = "read-only"

    def permits(self, annotations: object) -> bool:
        """Whether a tool with these annotations may be called.

        Args:
            annotations: As on the wire. What is not said counts as the protocol has it: a tool changes things, and may
                destroy some (specification 2026-07-28, schema, "ToolAnnotations").
        """
        said = annotations if isinstance(annotations, Mapping) else {}
        if self is Access.ALL or said.get("readOnlyHint") is True:
            return True
        return self is Access.NON_DESTRUCTIVE and said.get("destructiveHint") is False


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may use.

    Args:
        allow: Globs, one of which has to cover a name.
        within: Further globs, one of which has to cover it as well; None for callers without such.
        access: Of the tools that are covered, those it may call.
        open_names: Names that need no right.
    """

    allow: tuple[str, ...] = ()
    within: tuple[str, ...] | None = None
    access: Access = Access.ALL
    open_names: tuple[str, ...] = ()

    def cover(self, name: str) -> bool:
        """Whether it may use what is called so, but for what a tool says of itself."""
        if name in self.open_names:
            return True
        return allows(self.allow, name) and (self.within is None or allows(self.within, name))

    def may_cover(self, template: str) -> bool:
        """Whether some name that `template` stands for may be covered: compared up to the first variable and star."""
        start = template.partition("{")[0]
        return _may_cover(self.allow, start) and (self.within is None or _may_cover(self.within, start))

    def permit(self, tool: str, annotations: object) -> bool:
        """Whether it may call a tool that says this of itself; whether its name is covered is another question."""
        return tool in self.open_names or self.access.permits(annotations)


def lists(method: str, rights: Rights, name: str) -> bool:
    """Whether a caller sees an item of a list, but for what a tool says of itself.

    Args:
        method: The list's.
        rights: The caller's.
        name: The item's name, URI or URI template.
    """
    return rights.may_cover(name) if LISTS[method][1] == "uriTemplate" else rights.cover(name)


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


def narrow(method: str, result: Mapping[str, object], rights: Rights) -> Mapping[str, object]:
    """A list result with only what the rights cover.

    Args:
        method: The method it answers; anything but a list is returned unchanged.
        result: The result as on the wire.
        rights: The caller's.
    """
    if method not in LISTS:
        return result
    member, key = LISTS[method]
    items = result.get(member)
    if not isinstance(items, Sequence):
        return result
    kept = [item for item in items if isinstance(item, Mapping) and _seen(method, item, str(item.get(key, "")), rights)]
    return {**result, member: kept}


def _seen(method: str, item: Mapping[str, object], name: str, rights: Rights) -> bool:
    return lists(method, rights, name) and (method != "tools/list" or rights.permit(name, item.get("annotations")))


def _completed(ref: object) -> str:
    """By the type, as who completes chooses: a prompt's reference may carry a `uri` that means nothing, and reverse."""
    if not isinstance(ref, Mapping):
        return ""
    key = {"ref/prompt": "name", "ref/resource": "uri"}.get(_text(ref.get("type")), "")
    return _text(ref.get(key))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
