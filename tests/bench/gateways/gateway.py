"""A gateway that stands before the servers, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil

from tests.bench.tools import Side
from tests.support.load import META, body, headers

TOOL = "bench_echo"
OLDER = "2025-06-18"
WAIT_S = 60.0


@dataclass(frozen=True)
class Gateway:
    """One that stands before the servers.

    Args:
        url: Its endpoint.
        processes: Those that carry a call, with all they have started; none for no gateway at all.
        beside: Those that must run too.
        key: What its callers show, "" for nothing.
        tool: What the echo is called there.
        modern: Whether it takes 2026-07-28.
        spreads: Whether it spreads calls over several servers.
        on: What it does besides carrying.
        change: Makes the n-th change of its configuration while it runs; None where that takes a restart.
    """

    url: str
    processes: Sequence[psutil.Process] = ()
    beside: Sequence[psutil.Process] = ()
    key: str = ""
    tool: str = TOOL
    modern: bool = False
    spreads: bool = False
    on: str = "nothing besides"
    change: Callable[[int], object] | None = None

    def side(self, method: str = "tools/call", *, modern: bool) -> Side:
        """How the load program asks it."""
        called: dict[str, object] = {"name": self.tool, "arguments": {}} if method == "tools/call" else {}
        if modern:
            return Side(self.url, self._by_call(method, self.tool if called else ""), body(method, called))
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": called}
        return Side(self.url, self.in_session() | {"Mcp-Session-Id": "each"}, asked)

    def _by_call(self, method: str, name: str) -> dict[str, str]:
        """The headers of a client of today."""
        sent = headers(self.key, method, name)
        return sent if self.key else {key: value for key, value in sent.items() if key != "Authorization"}

    def in_session(self) -> dict[str, str]:
        """The headers of an older client."""
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": OLDER}  # fmt: skip
        return sent | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def begin(self, client: httpx.Client) -> dict[str, str]:
        """Begin a session as an older client; the headers of what is asked in it."""
        sent = self.in_session()
        about = {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}
        begun = client.post(self.url, json=asked, headers=sent).raise_for_status()
        if identity := begun.headers.get("mcp-session-id"):
            sent["Mcp-Session-Id"] = identity
        client.post(self.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=sent)
        return sent

    def understood(self) -> Gateway:
        """The same, with what asking it once shows: what the echo is called, and whether the new era is spoken.

        Raises:
            RuntimeError: it does not list the echo.
        """
        with httpx.Client(timeout=WAIT_S, trust_env=False) as client:

            def ask(method: str, params: Mapping[str, object], sent: Mapping[str, str]) -> httpx.Response:
                asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                return client.post(self.url, json=asked, headers=dict(sent))

            listed = ask("tools/list", {}, self.begin(client)).text
            names = [one["name"] for one in _result(listed)["tools"] if one["name"].replace("-", "_").endswith(TOOL)]
            if not names:
                raise RuntimeError(f"{self.url} lists no {TOOL}: {listed[:500]}")
            params = {"name": names[0], "arguments": {}, "_meta": META}
            modern = ask("tools/call", params, self._by_call("tools/call", names[0]))
            return replace(self, tool=names[0], modern=modern.is_success and '"result"' in modern.text)


def _result(text: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, dict[str, list[dict[str, str]]]] = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
    return found["result"]


def children(name: str) -> list[psutil.Process]:
    """Our own children of a name, which is part of their command line."""
    return [child for child in psutil.Process().children() if any(name in part for part in child.cmdline())]


Stands = Callable[[Path, Sequence[int]], AbstractContextManager[Gateway]]
"""Starts one in a folder before servers on these ports, for the length of a block."""
