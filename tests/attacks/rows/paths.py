"""Paths and verbs that are not `POST /mcp` or `POST /<service>/mcp`, though they look like it to somebody."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, call

__all__ = ["ROWS"]

NO: Final = frozenset({400, 403, 404, 405})
TRICKS: Final = (
    "/vault/mcp/",
    "/vault/mcp//",
    "/vault%2fmcp",
    "/vault%252fmcp",
    "/vault%5cmcp",
    "/vault\\mcp",
    "/attic/..;/vault/mcp",
    "/vault/mcp;x=1",
    "/vault;x=1/mcp",
    "/vault/mcp%00",
    "/vault/mcp%20",
    "/vault/mcp.",
    "/vault/mcp.json",
    "/VAULT/mcp",
    "/vault/MCP",
    "/Vault/mcp",
    "/vault/mcp/mcp",
    "/mcp/vault/mcp",
    "/vault/mcp#x",
    "/vault/mcp%23",
    "/vault/mcp%3fx",
    "/ vault/mcp",
    "vault/mcp",
    "*",
    "/",
    "",
    "/hub/mcp",
    "/hub_1-0-0/mcp",
    "/vault_1-0-0/mcp",
    "/control-plane/mcp",
    "/tekup/services",
    "/tekup/state",
    "/metrics",
    "/traefik-metrics",
    "/ping",
    "/api/rawdata",
    "/api/http/routers",
    "/dashboard/",
    "/debug/pprof/",
    "/health",
    "/ready",
    "/shadow",
    "/\u0076\u0430ult/mcp",
)
# Traefik reads these as the plain path (RFC 3986, 6.2.2) before the plugin: they are judged, and served, as that path.
SAME: Final = (
    "//vault/mcp",
    "/vault//mcp",
    "/%76ault/mcp",
    "/vault/%6dcp",
    "/vault/mc%70",
    "/vault/./mcp",
    "/vault/../vault/mcp",
    "/attic/../vault/mcp",
    "/vault/%2e/mcp",
    "/attic/%2e%2e/vault/mcp",
    "/vault/mcp/../mcp",
    "/.well-known/../vault/mcp",
)
VERBS: Final = (
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "post",
    "POSTX",
    "QUERY",
)
UPGRADE: Final = [
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]

ROWS: Final = [
    *(Row(f"the path {path!r}", call(client="dev", path=path), NO) for path in TRICKS),
    *(Row(f"the path {path!r} without a right", call(path=path), NO) for path in (*TRICKS, *SAME)),
    *(Row(f"the path {path!r} without a key", call(client="", path=path), NO | {401}, unguarded=True) for path in SAME),
    *(Row(f"the path {path!r} to another service's tool", call("attic_take", client="dev", path=path), NO)
      for path in SAME),
    *(Row(f"the verb {verb}", call(client="dev", verb=verb), NO) for verb in VERBS),
    Row("a verb in a header", call(client="dev", verb="GET", add=[("X-HTTP-Method-Override", "POST"),
                                                                ("X-Method-Override", "POST")]), NO),
    Row("a websocket", call(client="dev", verb="GET", body=b"", put={"Connection": "Upgrade"}, add=UPGRADE,
                            drop=("Content-Length",)), NO, wait_s=2),
    Row("a tunnel to a service", call(client="dev", verb="CONNECT", path="127.0.0.1:80", body=b"",
                                      drop=("Content-Length",)), NO | {0, 501}, wait_s=2),
    Row("a tunnel by the name of the gate", call(client="dev", verb="CONNECT", path="gate.test:3006"), NO | {0, 501},
        wait_s=2),
    Row("a URL of the private entrypoint", call(client="dev", path="http://127.0.0.1:3006/tekup/state"), NO),
    Row("the state of the gate without a key", call(client="", verb="GET", path="/tekup/state", body=b"",
        drop=("Content-Length",)), NO, reveals=("serial",)),
    Row("the configuration of the gate without a key", call(client="", verb="GET", path="/api/rawdata", body=b"",
        drop=("Content-Length",)), NO, reveals=("policy-public",)),
    Row("an original path in a header", call(path="/mcp", add=[("X-Original-URL", "/vault/mcp"),
        ("X-Rewrite-URL", "/vault/mcp"), ("X-Forwarded-Prefix", "/vault"), ("X-Forwarded-Uri", "/vault/mcp")]), NO),
    Row("control: the same path otherwise written", call(client="dev", path="/%76ault//mcp"), frozenset({200}),
        runs_as="dev", must_run=True),
    Row("control: the path", call(client="dev"), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: the path of all", call(client="dev", path="/mcp"), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: a query is nothing", call(client="dev", path="/vault/mcp?x=/attic/mcp"), frozenset({200}),
        runs_as="dev", must_run=True),
]  # fmt: skip
