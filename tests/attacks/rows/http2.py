"""HTTP/2 by prior knowledge: what its translation to HTTP/1.1 could let slip, and its floods."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Pair, Row, flow, frames

__all__ = ["ROWS"]

ANY: Final = frozenset({0, 400, 401, 403, 404, 405, 431, 501})
MAYBE: Final = ANY | {200, 502}  # a body that ends before its length: the call was lost on its way
SPLIT: Final = "x\r\nx-tekup-client: dev\r\nx-tekup-grant: <<grant dev>>"
FIELDS: Final[dict[str, list[Pair]]] = {
    "what the gate says": [("x-tekup-client", "dev"), ("x-tekup-grant", "<<grant dev>>"),
                           ("x-tekup-gate", "<<gate vault>>")],
    "what the gate says, in capitals": [("X-Tekup-Client", "dev"), ("X-Tekup-Grant", "<<grant dev>>")],
    "what the gate says, with underscores": [("x_tekup_client", "dev"), ("x_tekup_grant", "<<grant dev>>")],
    "connection": [("connection", "x-tekup-client, x-tekup-grant")],
    "proxy-connection": [("proxy-connection", "x-tekup-client")],
    "keep-alive": [("keep-alive", "x-tekup-client")],
    "transfer-encoding": [("transfer-encoding", "chunked")],
    "an upgrade": [("upgrade", "h2c"), ("connection", "upgrade")],
    "te: chunked": [("te", "trailers, chunked")],
    "a second name": [("mcp-name", "vault_take")],
    "a second version": [("mcp-protocol-version", "2025-11-25")],
    "a second key": [("authorization", "Bearer <<key dev>>")],
    "a line end in a value": [("x-other", SPLIT)],
    "a line end in a name": [("x-other: 1\r\nx-tekup-client", "dev")],
    "a colon in a name": [("x-tekup-client:", "dev")],
    "a NUL in a value": [("x-other", "a\0x-tekup-client: dev")],
    "an empty name": [("", "dev")],
    "a pseudo-header after the others": [(":authority", "evil.test")],
    "a pseudo-header of an answer": [(":status", "200")],
    "an invented pseudo-header": [(":tekup-client", "dev")],
    "a second path": [(":path", "/attic/mcp")],
    "a length that is too short": [("content-length", "3")],
    "a length that is too long": [("content-length", "30000")],
    "a host unlike the authority": [("host", "evil.test")],
    "10 KB of headers": [("x-more", "x" * 10_000)],
    "many headers": [(f"x-more-{at}", "x" * 100) for at in range(500)],
}  # fmt: skip
PSEUDO: Final = {
    "no authority": {":authority": ""},
    "another authority": {":authority": "evil.test"},
    "an authority with a user": {":authority": "gate.test@evil.test"},
    "a path of elsewhere": {":path": "/hub/mcp"},
    "an absolute path of elsewhere": {":path": "http://evil.test/hub/mcp"},
    "a path without a slash": {":path": "vault/mcp"},
    "an empty path": {":path": ""},
    "a star for a path": {":path": "*"},
    "a path with a line end": {":path": f"/vault/mcp HTTP/1.1\r\n{SPLIT}"},
    "a path with a blank": {":path": "/vault/mcp HTTP/1.1 x"},
    "a path with a fragment": {":path": "/vault/mcp#x"},
    "a method with a line end": {":method": f"POST /vault/mcp HTTP/1.1\r\n{SPLIT}\r\n\r\nGET"},
    "CONNECT": {":method": "CONNECT"},
    "TRACE": {":method": "TRACE"},
    "a scheme that is a URL": {":scheme": "http://evil.test/vault/mcp?"},
    "no scheme": {":scheme": ""},
}

ROWS: Final = [
    Row("a call without a right", frames(), frozenset({403})),
    Row("a call without a key", frames(client=""), frozenset({401})),
    *(Row(f"a permitted call with {what}", frames("vault_peek", add=fields), MAYBE, runs_as="narrow", wait_s=2)
      for what, fields in FIELDS.items()),
    *(Row(f"a call without a right with {what}", frames(add=fields), ANY, wait_s=2) for what, fields in FIELDS.items()),
    *(Row(f"a call of one who may, {what}", frames(client="dev", pseudo=pseudo), ANY, wait_s=2)
      for what, pseudo in PSEUDO.items()),
    *(Row(f"a call without a right, the path {path}", frames(pseudo={":path": path}), ANY, wait_s=2)
      for path in ("//vault/mcp", "http://gate.test/vault/mcp", "/%76ault/mcp", "/attic/../vault/mcp", "/vault/mcp?x")),
    Row("two hosts and no authority", frames(client="dev", pseudo={":authority": ""}, add=[
        ("host", "evil.test"), ("host", "gate.test")]), ANY, wait_s=2),
    Row("trailers that say who is calling", frames("vault_peek", trailers=[
        ("x-tekup-client", "dev"), ("x-tekup-grant", "<<grant dev>>")]), MAYBE, runs_as="narrow", wait_s=2),
    Row("trailers with another name", frames("vault_peek", trailers=[("mcp-name", "vault_take")]), MAYBE,
        runs_as="narrow", wait_s=2),
    Row("trailers with a pseudo-header", frames(client="dev", trailers=[(":path", "/attic/mcp")]), ANY, wait_s=2),
    Row("a connection of websockets (extended CONNECT)", frames(client="dev", pseudo={
        ":method": "CONNECT", ":protocol": "websocket"}), ANY, wait_s=2),
    Row("2,000 streams, each taken back at once", flow("rapid-reset"), frozenset({0})),
    Row("a header block without end", flow("continuation"), frozenset({0})),
    Row("pings and settings without end", flow("pings"), frozenset({0})),
    Row("control: a permitted call", frames("vault_peek"), frozenset({200}), runs_as="narrow", must_run=True),
    Row("control: the call of one who may", frames(client="dev"), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: the host instead of the authority", frames(client="dev", pseudo={":authority": ""}, add=[
        ("host", "gate.test")]), frozenset({200}), runs_as="dev", must_run=True),
]  # fmt: skip
