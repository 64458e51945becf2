"""What operators change of a client, and what follows from its rights: pure functions from the present to the next.

Each change returns the document to store, or raises :class:`~control_plane.errors.Refused`; what is so already comes
back unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from control_plane import decide
from control_plane.errors import Refused
from control_plane.model import Access, ClientPolicy, Limit
from control_plane.names import allows

CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "browser": ("browser_*",),
    "search": ("search_*",),
    "cheap": ("filesystem_*",),
}
"""Classes of tools by what a call of them costs, and the globs that stand for each in a limit."""

LISTS: Final = ("allow", "roots", "hosts", "oauth")
WIDENS: Final[Mapping[str, str]] = {"roots": "open all folders of filesystem and search to it"}
"""Lists that mean everything when they are empty."""
NEEDS: Final[Mapping[Access, str]] = {
    Access.ALL: "",
    Access.NON_DESTRUCTIVE: "if it is a tool, only one annotated as not destructive",
    Access.READ_ONLY: "if it is a tool, only one annotated as reading only",
}


@dataclass(frozen=True)
class Amendment:
    """What is to change of a client; what is not named stays.

    Attributes:
        merge: A JSON merge patch (RFC 7396) of its document; null gives a field its default.
        add: Entries to add to lists, by field.
        remove: Entries to take out of lists, by field.
    """

    merge: Mapping[str, object] = field(default_factory=dict)
    add: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remove: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def amended(current: ClientPolicy, amendment: Amendment) -> ClientPolicy:
    """A client with some of it changed.

    Raises:
        Refused: The result makes no sense, carries more rights than a grant can, or is wider than was said: taking
            the last root out would open all folders.
    """
    if amendment.merge.get("id", current.id) != current.id:
        raise Refused(f"client {current.id}: its id cannot change; add another client instead")
    merged = merge_patch(current.model_dump(mode="json"), amendment.merge)
    wanted = ClientPolicy.parse(json.dumps(merged), f"client {current.id}")
    lists = {name: _list(wanted, name, amendment) for name in LISTS}
    changed = wanted.model_dump(mode="json") | lists
    return decide.checked_client(ClientPolicy.parse(json.dumps(changed), f"client {current.id}"))


def merge_patch(target: object, patch: object) -> object:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _list(client: ClientPolicy, name: str, amendment: Amendment) -> list[str]:
    held: tuple[str, ...] = getattr(client, name)
    added, gone = amendment.add.get(name, ()), set(amendment.remove.get(name, ()))
    if both := sorted(gone & set(added)):
        raise Refused(f"client {client.id}: {both[0]} is to be added to {name} and taken out; say one of them")
    kept = [one for one in dict.fromkeys((*held, *added)) if one not in gone]
    if held and not kept and name in WIDENS:
        raise Refused(
            f"client {client.id}: without its last entry of {name} it would be wider, not narrower: that would"
            f" {WIDENS[name]}; empty the list outright if that is meant (`tekup clients set {client.id} --no-{name}`)"
        )
    return kept


def with_limit(current: ClientPolicy, limit: Limit) -> ClientPolicy:
    """A client with a limit set: in the place of the one of that name, else as its last.

    Raises:
        Refused: It has too many.
    """
    names = [one.name for one in current.limits]
    limits = [limit if one.name == limit.name else one for one in current.limits]
    merged = {"limits": [one.model_dump(mode="json") for one in (*limits, *(() if limit.name in names else (limit,)))]}
    return amended(current, Amendment(merge=merged))


def without_limit(current: ClientPolicy, name: str) -> ClientPolicy:
    """A client without a limit; one that is not there is no problem."""
    return current.model_copy(update={"limits": tuple(one for one in current.limits if one.name != name)})


@dataclass(frozen=True)
class May:
    """Whether a client may use a name.

    Attributes:
        name: Of a tool, prompt or resource.
        glob: The first of its globs that covers it, "" if none does.
        limits: The limits it counts against.
        needs: What a tool must say of itself besides; "" = nothing.
    """

    name: str
    glob: str
    limits: tuple[Limit, ...] = ()
    needs: str = ""

    @property
    def allowed(self) -> bool:
        """Whether a glob covers it; a tool has to fit `needs` as well."""
        return bool(self.glob)


def may(client: ClientPolicy, name: str) -> May:
    """Whether, by which glob and within which limits a client may use a tool, prompt or resource."""
    glob = next((one for one in client.allow if allows((one,), name)), "")
    if not glob:
        return May(name, "")
    limits = tuple(one for one in client.limits if not one.tools or allows(one.tools, name))
    # Annotations are of tools; a URI is that of a resource, and is only read.
    return May(name, glob, limits, "" if "://" in name else NEEDS[client.access])


def globs_of(classes: Iterable[str]) -> tuple[str, ...]:
    """The globs of classes of tools.

    Raises:
        Refused: There is no such class.
    """
    globs: list[str] = []
    for name in classes:
        if name not in CLASSES:
            raise Refused(f"there is no class {name!r} of tools; classes are {', '.join(CLASSES)}")
        globs += CLASSES[name]
    return tuple(globs)


def said(limit: Limit) -> str:
    """A limit in a few words: `5/s, 10 at one moment, 2 under way`."""
    parts = [f"{limit.per_s:g}/s"] if limit.per_s else []
    parts += [f"{limit.burst} at one moment"] if limit.burst else []
    parts += [f"{limit.concurrent} under way"] if limit.concurrent else []
    return ", ".join(parts)
