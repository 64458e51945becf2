"""Resources and scopes: what a token is for, and what it covers. Pure.

The hub's resource, ``<base>/mcp``, already leads to every service, so a token for it is good on each service's path as
well. A token for one service is good on that path alone, and covers nothing else's names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from control_plane.model import HUB, SERVICE_NAME

METADATA = "/.well-known/oauth-protected-resource"
SERVICE = "{service}"
EVERYTHING = "*"
_PATH = re.compile(r"/(?:([a-z][a-z0-9-]{0,31})/)?mcp")


def service_of(path: str) -> str | None:
    """The service a path leads to, "" for the hub's; None where it leads nowhere.

    Args:
        path: As it came, undecoded: what is written in another way leads nowhere.
    """
    found = _PATH.fullmatch(path)
    return None if not found or found[1] == HUB else found[1] or ""


@dataclass(frozen=True)
class Resources:
    """The addresses of what is protected.

    Attributes:
        base: The gate's public URL, without a slash at its end.
    """

    base: str

    def of(self, service: str) -> str:
        """A service's resource, the hub's for ""."""
        return f"{self.base}{_below(service)}"

    def metadata(self, service: str) -> str:
        """Where that resource is described (RFC 9728)."""
        return f"{self.base}{METADATA}{_below(service)}"

    def accepted(self, service: str) -> tuple[str, ...]:
        """Whom a token may be for, to be good on this path."""
        return (self.of(service), self.of("")) if service else (self.of(""),)


def _below(service: str) -> str:
    return f"/{service}/mcp" if service else "/mcp"


@dataclass(frozen=True)
class Scopes:
    """The form of our own scopes.

    Attributes:
        pattern: With ``{service}`` where the service's name stands, or ``*`` for all of them.
    """

    pattern: str

    def of(self, service: str) -> str:
        """The scope of a service."""
        return self.pattern.replace(SERVICE, service)

    def within(self, scopes: Collection[str], theirs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
        """The names that scopes cover, as globs in a fixed order.

        Args:
            scopes: Of a token.
            theirs: What the issuer's own scopes cover.
        """
        globs = {glob for scope in scopes for glob in (*self._ours(scope), *theirs.get(scope, ()))}
        return (EVERYTHING,) if EVERYTHING in globs else tuple(sorted(globs))

    def _ours(self, scope: str) -> tuple[str, ...]:
        before, _, after = self.pattern.partition(SERVICE)
        name = scope[len(before) : len(scope) - len(after)]
        if scope != f"{before}{name}{after}":
            return ()
        if name == EVERYTHING:
            return (EVERYTHING,)
        return names_of(name) if re.match(SERVICE_NAME, name) else ()


def names_of(service: str) -> tuple[str, ...]:
    """Globs for everything a service has."""
    return (f"{service}_*", f"{service}://*")


def only(service: str, globs: Iterable[str]) -> tuple[str, ...]:
    """What globs cover of one service's names, as globs that cover nothing else."""
    kept: list[str] = []
    for glob in globs:
        head, star, _ = glob.partition("*")
        for start in (f"{service}_", f"{service}://"):
            if head.startswith(start):
                kept.append(glob)
            elif star and start.startswith(head):
                kept.append(start + glob[len(head) :])
    return tuple(dict.fromkeys(kept))
