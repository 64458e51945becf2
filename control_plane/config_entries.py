"""Consul's intentions as the control plane writes them: one config entry for each name that is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from control_plane.authority import token_header, trusting
from control_plane.errors import Unavailable
from control_plane.tokens import TokenFile

KIND = "service-intentions"
OURS = {"owner": "tekup-control-plane"}
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Callers:
    """Who may call one name.

    Attributes:
        sources: Those, and nobody else.
        ours: Whether the control plane wrote it, whole.
        index: What it was when it was read; a write that comes after another's fails by it.
    """

    sources: frozenset[str]
    ours: bool
    index: int


class ConfigEntries:
    """The entries of one kind; an async context manager.

    Args:
        url: The Consul agent.
        token: The token to show, where Consul asks for one.
        ca_file: Whom to trust besides the machine's own authorities, for ``https``.
    """

    def __init__(self, url: str, *, token: TokenFile | None = None, ca_file: Path | None = None) -> None:
        self._url = url
        self._token = token
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False, verify=trusting(ca_file))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def read(self) -> dict[str, Callers]:
        """All there are, by the name that is called.

        Raises:
            Unavailable: Nobody knows.
        """
        found = await self._ask("GET", f"/v1/config/{KIND}")
        try:
            return {str(entry["Name"]): _callers(entry) for entry in found or ()}
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"Consul at {self._url} gave intentions of another form than expected") from error

    async def write(self, name: str, sources: Iterable[str], after: int) -> None:
        """Let these call that name, and nobody else.

        Args:
            name: Who is called.
            sources: Who may.
            after: The index of the entry it replaces, 0 for none; another's write in between is left alone.

        Raises:
            Unavailable: It may not be written.
        """
        entry = {
            "Kind": KIND,
            "Name": name,
            "Sources": [{"Name": source, "Action": "allow"} for source in sorted(sources)],
            "Meta": OURS,
        }
        await self._ask("PUT", "/v1/config", {"cas": str(after)}, entry)

    async def delete(self, name: str, after: int) -> None:
        """Let nobody call that name any more.

        Raises:
            Unavailable: They may still.
        """
        await self._ask("DELETE", f"/v1/config/{KIND}/{name}", {"cas": str(after)})

    async def _ask(self, method: str, path: str, params: dict[str, str] | None = None, body: object = None) -> Any:
        headers = token_header(self._token)
        try:
            answer = await self._http.request(method, path, params=params, json=body, headers=headers)
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            said = error.response.text.strip()[:200]
            raise Unavailable(f"Consul at {self._url}{path}: {error.response.status_code} {said}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"Consul at {self._url}{path}: {type(error).__name__} {error}") from error


def _callers(entry: Any) -> Callers:
    sources = entry.get("Sources") or ()
    plain = all(source.get("Action") == "allow" for source in sources)
    return Callers(
        frozenset(str(source["Name"]) for source in sources) if plain else frozenset(),
        (entry.get("Meta") or {}) == OURS,
        int(entry["ModifyIndex"]),
    )
