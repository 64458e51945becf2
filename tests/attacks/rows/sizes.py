"""Too large, too deep, too slow. The gate goes on serving others."""

from __future__ import annotations

import gzip
import json
from typing import Final

from tests.attacks.row import META, Row, body_of, call, flow

__all__ = ["ROWS"]

ANY: Final = frozenset({0, 200, 400, 403, 411, 413, 415, 431})
TAKE: Final = {"name": "vault_take", "arguments": {"mark": "<<mark>>"}}


def with_id(identity: str) -> bytes:
    """A permitted call's body with an id as it is written."""
    params = json.dumps({"name": "vault_peek", "arguments": {"mark": "<<mark>>", "more": 1}, "_meta": META})
    return f'{{"jsonrpc":"2.0","id":{identity},"method":"tools/call","params":{params}}}'.encode()


def deep(levels: int, opening: str, closing: str) -> bytes:
    """A permitted call with an argument nested that deep."""
    nested = opening * levels + "1" + closing * levels
    return (
        f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"vault_peek","_meta":{json.dumps(META)},'
        f'"arguments":{{"mark":"<<mark>>","more":{nested}}}}}}}'
    ).encode()


IDS: Final = {
    "of 1 MB": '"' + "x" * 1_000_000 + '"',
    "of 5,000 digits": "9" * 5000,
    "an object": '{"a":1}',
    "a list": "[1]",
    "a float": "1e400",
    "true": "true",
    "half a character": '"\\ud800"',
}
ROWS: Final = [
    *(Row(f"an id {what}", call("vault_peek", body=with_id(identity)), ANY) for what, identity in IDS.items()),
    *(Row(f"{levels} levels of {what}", call("vault_peek", body=deep(levels, *signs)), ANY)
      for levels in (250, 100_000) for what, signs in {"lists": ("[", "]"), "objects": ('{"a":', "}")}.items()),
    Row("a body of 5 MB", call(body=body_of("tools/call", {**TAKE, "more": "x" * 5_000_000}), client="dev"), ANY),
    Row("a body of 5 MB of one refused", call(body=body_of("tools/call", {**TAKE, "more": "x" * 5_000_000})), ANY),
    Row("a body announced as an exabyte", call(client="dev", put={"Content-Length": "1000000000000000000"}), ANY,
        wait_s=1),
    Row("a compressed body", call(client="dev", body=gzip.compress(b'{"x":"' + b" " * 5_000_000 + b'"}'),
                                  add=[("Content-Encoding", "gzip")]), ANY),
    Row("a header of 20 KB", call(client="dev", add=[("X-More", "x" * 20_000)]), ANY),
    Row("a header of 1 MB", call(client="dev", add=[("X-More", "x" * 1_000_000)]), ANY),
    Row("a thousand headers", call(client="dev", add=[(f"X-More-{at}", "x" * 20) for at in range(1000)]), ANY),
    Row("a path of 20 KB", call(client="dev", path="/" + "v" * 20_000 + "/mcp"), frozenset({0, 400, 404, 414, 431})),
    Row("a query of 20 KB", call(client="dev", path="/vault/mcp?" + "v" * 20_000), frozenset({0, 400, 404, 414, 431})),
    Row("a body of nothing", call(body=b""), ANY),
    Row("a body that is no JSON", call("vault_peek", body=b"{<<mark>>"), ANY),
    Row("a body with a byte order mark", call("vault_peek", body=b"\xef\xbb\xbf" + body_of("tools/call", TAKE)), ANY),
    Row("a body in UTF-16", call("vault_peek", body=body_of("tools/call", TAKE).decode().encode("utf-16")), ANY),
    Row("a form instead of JSON", call(client="dev", put={"Content-Type": "application/x-www-form-urlencoded"}), ANY),
    Row("300 requests whose headers never end", flow("half-requests"), frozenset({0})),
    Row("100 bodies that never end", flow("half-bodies"), frozenset({0})),
    Row("a request byte by byte, taken back", flow("drips"), frozenset({0})),
    Row("control: a body of 1 MB", call("vault_peek", body=body_of("tools/call", {
        "name": "vault_peek", "arguments": {"mark": "<<mark>>" + "x" * 1_000_000}})), frozenset({200}),
        runs_as="narrow", must_run=True),
    Row("control: a header of 2 KB", call("vault_peek", add=[("X-More", "x" * 2000)]), frozenset({200}),
        runs_as="narrow", must_run=True),
]  # fmt: skip
