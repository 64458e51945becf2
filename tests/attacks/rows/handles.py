"""Books of others: `narrow` may use books, its own."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Raw, Row, call
from tests.attacks.rows.names import coded

__all__ = ["ROWS"]

ANY: Final = frozenset({200, 400, 403})
DEVS: Final = "<<handle dev>>"


def use(handle: str, *, header: str | None = None, client: str = "narrow") -> Raw:
    """A call with a handle in header and body."""
    sent = [("Mcp-Param-Handle", handle if header is None else header)]
    return call("vault_use", {"handle": handle}, client=client, add=[pair for pair in sent if pair[1]])


FORGED: Final = (
    "handle-other-instance",
    "handle-other-random",
    "handle-other-tag",
    "handle-no-tag",
    "handle-by-mac",
    "handle-by-attic-key",
)
ROWS: Final = [
    Row("a book of another client", use("<<handle dev>>"), ANY),
    Row("a book of another client, its handle coded", use("<<handle dev>>", header=coded("aaaaa1.x.y")), ANY),
    Row("one's own handle in the header, another's in the body", use(DEVS, header="<<handle narrow>>"), ANY),
    Row("another's handle in the header, one's own in the body", use("<<handle narrow>>", header=DEVS), ANY),
    Row("another's handle without the header", use("<<handle dev>>", header=""), ANY),
    Row("a handle twice in the header", call("vault_use", {"handle": "<<handle dev>>"}, add=[
        ("Mcp-Param-Handle", "<<handle narrow>>"), ("Mcp-Param-Handle", "<<handle dev>>")]), ANY),
    Row("a handle of another service", use("<<attic-handle dev>>", client="dev"), ANY),
    *(Row(f"a forged handle: {what}", use(f"<<forged {what}>>"), ANY) for what in FORGED),
    Row("a handle with an empty part", use("aaaaa1.."), ANY),
    Row("a handle with a path", use("../aaaaa1.x.y"), ANY),
    Row("a handle with more parts", use("<<handle narrow>>.x"), ANY),
    Row("a handle in capitals", use("<<handle dev>>", header="AAAAA1.X.Y"), ANY),
    Row("another's book as an old client", call("vault_use", {"handle": "<<handle dev>>"}, version="2025-11-25",
                                                drop=("Mcp-Method", "Mcp-Name")), ANY),
    Row("another's book through the hub's tool", call("hub_call_tool", {"name": "vault_use", "arguments": {
        "handle": "<<handle dev>>", "mark": "<<mark>>"}}, path="/mcp"), ANY),
    Row("control: one's own book", use("<<handle narrow>>"), frozenset({200}), runs_as="narrow", must_run=True),
    Row("control: one's own book, of another client", use("<<handle dev>>", client="dev"),
        frozenset({200}), runs_as="dev", must_run=True),
]  # fmt: skip
