"""Line ends and quotes in every value that is said back, logged or counted."""

from __future__ import annotations

import json
from typing import Final

from tests.attacks.row import META, Row, ask, call
from tests.attacks.rows.names import coded

__all__ = ["ROWS"]

ANY: Final = frozenset({0, 200, 400, 401, 403, 404, 405})
EVIL: Final = "x\r\nX-Evil: 1\r\n\r\n<script>"
SPLIT: Final = ("\nX-Evil: 1", "\nx-evil: 1", "<script>")
LABEL: Final = 'vault_"} 1\ntekup_evil_total{x="'


def peek(**message: object) -> bytes:
    """A message that says something odd."""
    params = {"name": "vault_take", "arguments": {"mark": "<<mark>>"}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **message}).encode()


ROWS: Final = [
    Row("in the path", call(path="/vault%0d%0aX-Evil:%201/mcp"), ANY, reveals=SPLIT),
    Row("in the path, plainly", call(path="/vault\r\nX-Evil: 1\r\n/mcp"), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the query", call(path="/vault/mcp?x=%0d%0aX-Evil:%201"), ANY, reveals=SPLIT),
    Row("in a coded name", call(name=coded(EVIL), body=peek()), ANY, reveals=SPLIT),
    Row("in a coded name of the hub's", call(name=coded(f"hub_{EVIL}"), path="/mcp", body=peek()), ANY, reveals=SPLIT),
    Row("in a coded handle", call("vault_use", {"handle": EVIL}, add=[("Mcp-Param-Handle", coded(EVIL))]), ANY,
        reveals=("\nX-Evil: 1",)),
    Row("in the id of a refused call", call(body=peek(id=EVIL)), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the id of a call", call("vault_peek", body=peek(id=EVIL)), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the method", ask(EVIL.split("\r", maxsplit=1)[0], {}, body=peek(method=EVIL)), ANY,
        reveals=("\nX-Evil: 1",)),
    Row("in the version, escaped", call(version="2026-07-28%0d%0aX-Evil: 1"), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the origin, escaped", call(add=[("Origin", "http://x%0d%0aX-Evil: 1")]), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the host, escaped", call(put={"Host": "x%0d%0aX-Evil: 1"}), ANY, reveals=("\nX-Evil: 1",)),
    Row("in the key, escaped", call(put={"Authorization": "Bearer tk_x%0d%0aX-Evil: 1_1"}), ANY,
        reveals=("\nX-Evil: 1",)),
    Row("in the name of a resource", ask("resources/read", {"uri": f"vault://public/{EVIL}"},
                                         name=coded(f"vault://public/{EVIL}")), ANY, reveals=("\nX-Evil: 1",)),
    Row("in a name that is counted", call(name=coded(LABEL), body=peek()), ANY),
    Row("in a name that is counted, of one who may all", call(
        name=coded(LABEL), client="dev", body=peek(params={"name": LABEL, "arguments": {}, "_meta": META})), ANY),
    Row("in a name that is counted by the hub", call(
        name=coded(f"hub_{LABEL}"), client="dev", path="/mcp",
        body=peek(params={"name": f"hub_{LABEL}", "arguments": {}, "_meta": META})), ANY),
    Row("in the verb", call(verb='GET"}\x0b'), ANY),
    Row("a template in the name", call(name="{{ env `PATH` }}", body=peek()), ANY, reveals=("/usr/bin",)),
    Row("control: an odd mark runs and comes back in order", call("vault_peek", {"mark": "<<mark>>\r\nX-Evil: 1"}),
        frozenset({200}), runs_as="narrow", must_run=True),
]  # fmt: skip
