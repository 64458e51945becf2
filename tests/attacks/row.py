"""One attack is one `Row`: what is sent, byte for byte, and what must come of it.

**To add one**: put a `Row` into the module of its category under `rows/`. Nothing else has to be written. (A new
category: a new module with a `ROWS` list, named in `rows/__init__.py`; it needs a control, see below, or the suite
fails.) `name` is a sentence that says what is tried. What is sent is made by

* `call(...)`: a modern `tools/call` over HTTP/1.1, by default of client `narrow` for a tool it may not use
  (`vault_take`). Every part can be left out, replaced or doubled. `ask(...)` is the same for other methods;
* `raw(...)`: any bytes;
* `frames(...)`: a call over HTTP/2, with any pseudo-headers and names;
* `flow("name")`: an attack of several requests, a function in `floods.py`.

Placeholders in all of them are filled in when the row is sent: `<<mark>>` (this row's own; a tool that runs writes it
down), `<<key dev>>`, `<<grant narrow>>`, `<<handle dev>>` (an open book of dev's in vault), `<<attic-handle dev>>`,
`<<proof hub>>` (a caller's, for the internal entrypoint), `<<gate vault>>` (the gate's proof to a service),
`<<forged …>>` (`World.forged`),
`<<jwt …>>` (a token of `bearers.TOKENS`), `<<root>>` (the folder of filesystem), `<<length>>` (of the body).

**What must come of it**: every answer has one of `status` (0: closed, or left open, without an answer), and nothing
has run with the mark. So a status is never the evidence: what the counting services have written down is.
`runs_as="narrow"` is for what may run, but only as that client and with its own rights. `reveals` may not stand in
any answer.

**Controls**: `must_run=True` marks a row that has to run, the permitted twin of its neighbours, so that a typing error
cannot make a whole category pass. `unguarded=True` says that this very request runs at a gate without the policy
plugin: the suite sends it there too, and fails if it does not. A row that gets through has `through="why"`: it is
expected to fail, strictly.

Clients: `dev` and `rich` may do all; `narrow` may `vault_peek`, `vault_open`, `vault_use` and `vault://public/*`;
`rooted` may do all, within one folder of filesystem;
`staff` may do all, and is whom bearers count as; `nobody` has no right; `gone` has a revoked key, `late` an
expired one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "MODERN",
    "REFUSED",
    "Flow",
    "Frames",
    "Pair",
    "Raw",
    "Row",
    "ask",
    "body_of",
    "call",
    "flow",
    "frames",
    "head",
    "raw",
]

MODERN: Final = "2026-07-28"
META: Final = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
REFUSED: Final = frozenset({0, 400, 401, 403, 404, 405, 413, 417, 421, 426, 431, 501})
Pair = tuple[str, str]


@dataclass(frozen=True)
class Raw:
    """Bytes of one connection, in pieces sent one after the other."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True)
class Frames:
    """One HTTP/2 request: header fields as they are, pseudo-headers first, then trailers if any."""

    fields: tuple[Pair, ...]
    body: bytes
    trailers: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Flow:
    """One of the floods."""

    name: str


@dataclass(frozen=True)
class Row:
    """One attack, or one control.

    Args:
        name: What is tried, as a sentence; unique.
        send: What is sent.
        status: Allowed for every answer.
        entry: `public`, `internal`, or `vault`: the service's own port, past the gate.
        runs_as: It may run, but only as this client.
        must_run: A control: it has to run, as `runs_as`.
        unguarded: It runs at a gate without policy.
        reveals: What may stand in no answer.
        through: Why it gets through for now.
        wait_s: How long answers are waited for where the connection stays open.
    """

    name: str
    send: Raw | Frames | Flow
    status: frozenset[int] = REFUSED
    entry: str = "public"
    runs_as: str = ""
    must_run: bool = False
    unguarded: bool = False
    reveals: Sequence[str] = field(default=())
    through: str = ""
    wait_s: float = 10.0


def body_of(method: str, params: Mapping[str, object], identity: object = 1) -> bytes:
    """A modern request."""
    message = {"jsonrpc": "2.0", "id": identity, "method": method, "params": {**params, "_meta": META}}
    return json.dumps(message).encode()


def head(line: str, headers: Sequence[Pair]) -> bytes:
    """A request line and headers, ended."""
    lines = [line, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def raw(*pieces: bytes | str) -> Raw:
    """Bytes as they are."""
    return Raw(tuple(piece.encode() if isinstance(piece, str) else piece for piece in pieces))


def ask(
    method: str,
    params: Mapping[str, object],
    *,
    client: str = "narrow",
    name: str = "",
    path: str = "/vault/mcp",
    verb: str = "POST",
    drop: Sequence[str] = (),
    put: Mapping[str, str] | None = None,
    add: Sequence[Pair] = (),
    body: bytes | None = None,
    version: str = MODERN,
) -> Raw:
    """A request of the modern era on a connection of its own.

    Args:
        method: In header and body.
        params: In the body.
        client: Whose key; "" for none.
        name: `Mcp-Name`, "" for none.
        path: The target.
        verb: The HTTP method.
        drop: Headers left out.
        put: Headers with another value.
        add: Headers besides, in this order, after the others.
        body: Another body.
        version: `MCP-Protocol-Version`.
    """
    fields = {
        "Host": "gate.test",
        "Authorization": f"Bearer <<key {client}>>" if client else "",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        "Mcp-Method": method,
        "Mcp-Name": name,
        "Content-Length": "<<length>>",
        "Connection": "close",
        **(put or {}),
    }
    kept = [(key, value) for key, value in fields.items() if value and key not in drop]
    return raw(head(f"{verb} {path} HTTP/1.1", [*kept, *add]) + (body_of(method, params) if body is None else body))


def call(
    tool: str = "vault_take", arguments: Mapping[str, object] | None = None, *, name: str | None = None, **more: Any
) -> Raw:
    """A `tools/call`, of a tool that `narrow` may not use unless told; `more` as in `ask`."""
    params = {"name": tool, "arguments": {"mark": "<<mark>>", **(arguments or {})}}
    return ask("tools/call", params, name=tool if name is None else name, **more)


def frames(
    tool: str = "vault_take",
    *,
    client: str = "narrow",
    pseudo: Mapping[str, str] | None = None,
    put: Mapping[str, str] | None = None,
    add: Sequence[Pair] = (),
    drop: Sequence[str] = (),
    trailers: Sequence[Pair] = (),
    body: bytes | None = None,
) -> Frames:
    """A `tools/call` over HTTP/2; `pseudo` and `put` replace fields, `add` puts more of them at the end."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/vault/mcp",
        ":authority": "gate.test",
        **(pseudo or {}),
        "authorization": f"Bearer <<key {client}>>" if client else "",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": tool,
        **(put or {}),
    }
    kept = tuple((key, value) for key, value in fields.items() if value and key not in drop)
    sent = body_of("tools/call", {"name": tool, "arguments": {"mark": "<<mark>>"}}) if body is None else body
    return Frames((*kept, *add), sent, tuple(trailers))


def flow(name: str) -> Flow:
    """A flood by its name."""
    return Flow(name)
