"""Names of a bridged server's tools, prompts and resources, there and here. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["MOST_CHARS", "here", "public_name", "public_uri", "rewritten", "there_uri"]

MOST_CHARS: Final = 64
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d+(/|$))")
"""What begins as a URI does; a host with its port is none."""
_BARE: Final = "="
"""Before what is no URI, though a server lists it as one."""


def public_name(service: str, name: str) -> str:
    """A tool's or prompt's name behind the gate; one that begins with the service's already stays.

    >>> public_name("time", "get.now")
    'time_get_now'
    """
    plain = _ODD.sub("_", name)
    return plain if plain.startswith(f"{service}_") else f"{service}_{plain}"


def here(service: str, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """How a server's names are called here.

    Args:
        service: The service.
        names: As the server lists them.

    Returns:
        Here → there, and for those that cannot be told apart or carry no name, there → why. Of two that would be called
        alike the one that was called so already is kept, else the one that comes first in the alphabet, so that all
        instances call alike.
    """
    found: dict[str, str] = {}
    bad: dict[str, str] = {}
    for name in sorted(set(names), key=lambda name: (public_name(service, name) != name, name)):
        public = public_name(service, name)
        if len(public) > MOST_CHARS:
            bad[name] = f"its name would be {public[:40]}… of {len(public)} characters, more than {MOST_CHARS}"
        elif not name or public in found:
            bad[name] = f"it would be called {public}, as {found[public]!r} is" if name else "it has no name"
        else:
            found[public] = name
    return found, bad


def public_uri(service: str, uri: str) -> str:
    """A resource's URI, or a template of URIs, behind the gate; one of a scheme that is called so already stays.

    >>> public_uri("notes", "file:///a"), public_uri("notes", "notes://a")
    ('notes://file:///a', 'notes://a')
    """
    start = f"{service}://"
    own = uri.removeprefix(start)
    if own != uri and not _URI.match(own) and not own.startswith(_BARE):
        return uri
    return f"{start}{uri}" if _URI.match(uri) else f"{start}{_BARE}{uri}"


def there_uri(service: str, uri: str) -> str:
    """What a URI is called by the server; "" if it is none of this service's."""
    inner = uri.removeprefix(f"{service}://")
    if inner == uri:
        return ""
    return inner.removeprefix(_BARE) if inner.startswith(_BARE) else inner if _URI.match(inner) else uri


def rewritten(service: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """A result whose resources are called as they are here, so that they can be read.

    Args:
        service: The service.
        result: Of a tool, a prompt or a resource, as on the wire.
    """
    changed = dict(result)
    for member in ("content", "contents"):
        if isinstance(blocks := result.get(member), list):
            changed[member] = [_block(service, block) for block in blocks]
    if isinstance(messages := result.get("messages"), list):
        changed["messages"] = [
            {**said, "content": _block(service, said.get("content"))} if isinstance(said, dict) else said
            for said in messages
        ]
    return changed


def _block(service: str, block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    kind = block.get("type")
    if isinstance(uri := block.get("uri"), str) and kind in (None, "resource_link"):
        return {**block, "uri": public_uri(service, uri)}
    if kind == "resource" and isinstance(block.get("resource"), dict):
        return {**block, "resource": _block(service, {**block["resource"]})}
    return block
