"""Protocol versions that make one part believe what another does not check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from tests.attacks.row import META, MODERN, Row, ask, body_of, call

__all__ = ["ROWS"]

ANY: Final = frozenset({200, 202, 400, 403, 404})
TAKE: Final = {"name": "vault_take", "arguments": {"mark": "<<mark>>"}}
OLD: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")


def legacy(params: Mapping[str, object], method: str = "tools/call") -> bytes:
    """A request as older clients send it."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


# The header says that something harmless is done, the body does something else.
PRETENDED: Final = {"Mcp-Method": "tools/list", "Mcp-Name": "vault_peek"}
VERSIONS: Final = {
    "none": [],
    "empty": [("MCP-Protocol-Version", "")],
    **{f"{version}": [("MCP-Protocol-Version", version)] for version in OLD},
    "modern, then old": [("MCP-Protocol-Version", MODERN), ("MCP-Protocol-Version", "2025-11-25")],
    "old, then modern": [("MCP-Protocol-Version", "2025-11-25"), ("MCP-Protocol-Version", MODERN)],
    "modern twice": [("MCP-Protocol-Version", MODERN), ("Mcp-Protocol-Version", MODERN)],
    "a list": [("MCP-Protocol-Version", f"{MODERN}, 2025-11-25")],
    "a list, old first": [("MCP-Protocol-Version", f"2025-11-25, {MODERN}")],
    "quoted": [("MCP-Protocol-Version", f'"{MODERN}"')],
    "a blank inside": [("MCP-Protocol-Version", "2026-07 -28")],
    "a form feed behind": [("MCP-Protocol-Version", f"{MODERN}\x0c")],
    "a no-break space behind": [("MCP-Protocol-Version", f"{MODERN}\u00a0")],
    "of tomorrow": [("MCP-Protocol-Version", "2031-01-01")],
    "a draft": [("MCP-Protocol-Version", "DRAFT-2026-v1")],
    "an underscore in the name": [("MCP_Protocol_Version", MODERN)],
    "a dot in the name": [("MCP.Protocol.Version", MODERN)],
}
LEGACY_HEADERS: Final = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")

ROWS: Final = [
    *(Row(f"a pretended list, version {what}", call(version="", put=PRETENDED, add=fields), ANY)
      for what, fields in VERSIONS.items()),
    *(Row(f"a pretended list in the old way, version {what}",
          ask("tools/call", TAKE, drop=LEGACY_HEADERS, add=[*fields, *PRETENDED.items()], body=legacy(TAKE)), ANY)
      for what, fields in VERSIONS.items()),
    Row("an old version in the body alone",
        call(body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            **TAKE, "_meta": {**META, "io.modelcontextprotocol/protocolVersion": "2025-11-25"}}}).encode(),
            put={"Mcp-Name": "vault_peek"}), ANY),
    Row("no version in the body", call(body=legacy(TAKE), put={"Mcp-Name": "vault_peek"}), ANY),
    Row("an old call for a tool without a right", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=legacy(TAKE)), ANY),
    Row("an old call by the address of all", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=legacy(TAKE),
                                                 path="/mcp"), ANY),
    Row("an old call by the address of another service", ask("tools/call", TAKE, drop=LEGACY_HEADERS, client="dev",
                                                             body=legacy(TAKE), path="/attic/mcp"), ANY),
    Row("an old read without a right", ask("resources/read", {"uri": "vault://secret/<<mark>>"}, drop=LEGACY_HEADERS,
        body=legacy({"uri": "vault://secret/<<mark>>"}, "resources/read")), ANY, reveals=("secret content",)),
    Row("an old prompt without a right", ask("prompts/get", {}, drop=LEGACY_HEADERS,
        body=legacy({"name": "vault_ask", "arguments": {"mark": "<<mark>>"}}, "prompts/get")), ANY,
        reveals=("secret prompt",)),
    Row("an old completion without a right", ask("completion/complete", {}, drop=LEGACY_HEADERS, body=legacy(
        {"ref": {"type": "ref/prompt", "name": "vault_ask"}, "argument": {"name": "mark", "value": "<<mark>>"}},
        "completion/complete")), ANY, reveals=("secret completion",)),
    Row("an old batch", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=b"[" + legacy(TAKE) + b"]"), ANY),
    Row("an old batch, a permitted call first", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=b"[" + legacy(
        {"name": "vault_peek", "arguments": {"mark": "outer"}}) + b"," + legacy(TAKE) + b"]"), ANY),
    Row("a modern batch", call("vault_peek", body=b"[" + body_of("tools/call", TAKE) + b"]"), ANY),
    Row("a modern batch of two", call("vault_peek", body=b"[" + body_of("tools/call", {
        "name": "vault_peek", "arguments": {"mark": "outer"}}) + b"," + body_of("tools/call", TAKE) + b"]"), ANY),
    Row("two messages in one body", call("vault_peek", body=body_of("tools/call", {
        "name": "vault_peek", "arguments": {"mark": "outer"}}) + b"\n" + body_of("tools/call", TAKE)), ANY),
    Row("an old session is made up", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=legacy(TAKE),
                                         add=[("Mcp-Session-Id", "1"), ("Last-Event-ID", "0")]), ANY),
    Row("a notification instead of a request", call(body=b'{"jsonrpc":"2.0","method":"tools/call","params":'
        + json.dumps({**TAKE, "_meta": META}).encode() + b"}", put={"Mcp-Name": "vault_peek"}), ANY),
    Row("control: an old call of one who may", ask("tools/call", TAKE, drop=LEGACY_HEADERS, body=legacy(TAKE),
        client="dev", add=[("MCP-Protocol-Version", "2025-11-25")]), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: an old permitted call of one with few rights", ask("tools/call", TAKE, drop=LEGACY_HEADERS,
        body=legacy({"name": "vault_peek", "arguments": {"mark": "<<mark>>"}})), frozenset({200}), runs_as="narrow",
        must_run=True),
]  # fmt: skip
