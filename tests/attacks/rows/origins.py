"""Pages of elsewhere that reach the gate through a browser; the key is good, since a browser may hold it."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, call

__all__ = ["ROWS"]

NO: Final = frozenset({400, 403, 404})
ORIGINS: Final = (
    "null",
    "https://evil.test",
    "http://gate.test.evil.test",
    "http://localhost.evil.test",
    "http://evil.test/localhost",
    "http://127.0.0.1.evil.test",
    "http://localhost@evil.test",
    "http://localhost:80@evil.test:80",
    "http://[::1].evil.test",
    "http://2130706433",
    "http://0.0.0.0",
    "http://127.1",
    "http://localhost.",
    "file://localhost",
    "chrome-extension://localhost",
    "javascript://localhost",
    "localhost",
    "//localhost",
    "http://localhost\\.evil.test",
    "http://localhost, https://evil.test",
    "http://evil.test#localhost",
    "http://%6cocalhost.evil.test",
)
HOSTS: Final = (
    "evil.test",
    "gate.test.evil.test",
    "evil.test:80",
    "gate.test@evil.test",
    "gate.test.",
    "127.0.0.1",
    "localhost",
    "gate.test, evil.test",
    "gate.test/x",
    "gate.test:80:80",
    "[::1]",
    "xn--gate-test",
    "gаte.test",
)

ROWS: Final = [
    *(Row(f"a page of {origin}", call(client="dev", add=[("Origin", origin)]), NO, unguarded="\\" not in origin)
      for origin in ORIGINS),
    Row("two origins", call(client="dev", add=[("Origin", "http://localhost"), ("Origin", "https://evil.test")]), NO,
        unguarded=True),
    Row("an origin that is empty and another", call(client="dev", add=[("Origin", ""), ("Origin", "https://evil.test")]),
        NO, unguarded=True),
    *(Row(f"the host {host}", call(client="dev", put={"Host": host}), NO) for host in HOSTS),
    Row("a rebound name", call(client="dev", put={"Host": "evil.test"}), NO, unguarded=True),
    Row("no host", call(client="dev", drop=("Host",)), NO),
    Row("two hosts", call(client="dev", add=[("Host", "evil.test")]), NO),
    Row("two hosts, the good one last", call(client="dev", drop=("Host",), add=[("Host", "evil.test"),
                                                                              ("Host", "gate.test")]), NO),
    Row("another host in the request line", call(client="dev", path="http://evil.test/vault/mcp"), NO),
    Row("a forwarded host", call(client="dev", put={"Host": "evil.test"}, add=[("X-Forwarded-Host", "gate.test"),
                                                                              ("Forwarded", "host=gate.test")]), NO),
    Row("a preflight", call(client="", verb="OPTIONS", body=b"", drop=("Content-Length",), add=[
        ("Origin", "https://evil.test"), ("Access-Control-Request-Method", "POST")]), frozenset({403, 404, 405}),
        reveals=("Access-Control-Allow",)),
    Row("a preflight from this machine", call(client="", verb="OPTIONS", body=b"", drop=("Content-Length",), add=[
        ("Origin", "http://localhost"), ("Access-Control-Request-Method", "POST")]), frozenset({403, 404, 405}),
        reveals=("Access-Control-Allow-Origin: *",)),
    Row("control: a page of this machine", call(client="dev", add=[("Origin", "http://localhost:6274")]),
        frozenset({200}), runs_as="dev", must_run=True),
    Row("control: the host with a port", call(client="dev", put={"Host": "gate.test:3000"}), frozenset({200}),
        runs_as="dev", must_run=True),
]  # fmt: skip
