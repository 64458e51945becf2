"""Traefik and the policy plugin inside it, as the agent sees them through the gate's private entrypoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import httpx

from control_plane.errors import Unavailable
from control_plane.routes import HEALTH, READY

PAGE = 5000


@dataclass(frozen=True)
class Loaded:
    """What the plugin has loaded of one table: the serial it carries, and which objects it refused."""

    serial: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Checks:
    """What Traefik's active checks say no to, as URLs of servers.

    Attributes:
        unready: They should get no calls but those on their handles.
        dead: They answer nothing at all.
    """

    unready: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()


class Traefik:
    """One Traefik.

    Args:
        url: Its private entrypoint, ``http://127.0.0.1:3006``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, timeout=2)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def enabled_routers(self) -> frozenset[str]:
        """Names (without provider) of the routers from files that are enabled."""
        found = await self._get("/api/http/routers", {"per_page": str(PAGE)})
        return frozenset(
            router["name"].removesuffix("@file")
            for router in cast("list[dict[str, str]]", found)
            if router["status"] == "enabled" and router["provider"] == "file"
        )

    async def checks(self) -> Checks:
        """What the active health checks find now."""
        found = cast("list[dict[str, Any]]", await self._get("/api/http/services", {"per_page": str(PAGE)}))
        return Checks(unready=_down(found, READY), dead=_down(found, HEALTH))

    async def loaded(self) -> tuple[Loaded, Loaded]:
        """What the plugin has loaded: services, clients."""
        state = cast("dict[str, dict[str, Any]]", await self._get("/tekup/state"))
        return _loaded(state, "services"), _loaded(state, "clients")

    async def _get(self, path: str, params: dict[str, str] | None = None) -> object:
        try:
            answer = await self._http.get(path, params=params)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"Traefik at {self._url}{path}: {type(error).__name__} {error}") from error


def _down(services: list[dict[str, Any]], path: str) -> frozenset[str]:
    """Servers that every check of this path finds down."""
    by_status: dict[bool, set[str]] = {True: set(), False: set()}
    for service in services:
        if service.get("loadBalancer", {}).get("healthCheck", {}).get("path") == path:
            for server, status in service.get("serverStatus", {}).items():
                # An instance is known by where it is, whether it is called over TLS or not.
                by_status[status == "UP"].add(server.replace("https://", "http://", 1))
    return frozenset(by_status[False] - by_status[True])


def _loaded(state: dict[str, dict[str, Any]], table: str) -> Loaded:
    part = state.get(table) or {}
    return Loaded(int(part.get("serial") or 0), tuple(str(problem) for problem in part.get("problems") or ()))
