"""Two readers, two ends of a request. What is smuggled carries all that a service wants to see: the worst case."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import MODERN, Pair, Row, body_of, head, raw

__all__ = ["ROWS"]

# 500 is Traefik's own word for a body whose framing breaks while it is sent on.
ANY: Final = frozenset({0, 200, 400, 401, 403, 404, 405, 408, 413, 417, 426, 500, 501})
OUTER: Final[list[Pair]] = [
    ("Host", "gate.test"),
    ("Authorization", "Bearer <<key narrow>>"),
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
    ("MCP-Protocol-Version", MODERN),
    ("Mcp-Method", "tools/call"),
    ("Mcp-Name", "vault_peek"),
]
PEEK: Final = body_of("tools/call", {"name": "vault_peek", "arguments": {"mark": "outer"}})
TAKE: Final = body_of("tools/call", {"name": "vault_take", "arguments": {"mark": "<<mark>>"}})
MARK_GROWS: Final = 16 - len("<<mark>>")  # a mark has 16 digits
TAKE_BYTES: Final = len(TAKE) + MARK_GROWS
INNER: Final = (
    head(
        "POST /mcp HTTP/1.1",
        [
            ("Host", "gate.test"),
            ("X-Tekup-Gate", "<<gate vault>>"),
            ("X-Tekup-Client", "dev"),
            ("X-Tekup-Grant", "<<grant dev>>"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", MODERN),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", "vault_take"),
            ("Content-Length", str(TAKE_BYTES)),
            ("Connection", "close"),
        ],
    )
    + TAKE
)
PEEK_CHUNK: Final = f"{len(PEEK):x}".encode()


def outer(*fields: Pair, line: str = "POST /vault/mcp HTTP/1.1") -> bytes:
    """The head of a permitted call."""
    return head(line, [*OUTER, *fields])


CHUNKED: Final = PEEK_CHUNK + b"\r\n" + PEEK + b"\r\n0\r\n\r\n"
LENGTH: Final = ("Content-Length", str(len(PEEK)))
CODED: Final = ("Transfer-Encoding", "chunked")
CODINGS: Final = {
    "xchunked": [("Transfer-Encoding", "xchunked")],
    "a blank before the colon": [("Transfer-Encoding ", "chunked")],
    "a tab before the value": [("Transfer-Encoding", "\tchunked")],
    "a vertical tab": [("Transfer-Encoding", "\x0bchunked")],
    "identity besides": [CODED, ("Transfer-Encoding", "identity")],
    "chunked twice": [CODED, CODED],
    "a list": [("Transfer-Encoding", "gzip, chunked")],
    "another case": [("tRANSFER-eNCODING", "CHUNKED")],
    "an underscore": [("Transfer_Encoding", "chunked")],
    "quoted": [("Transfer-Encoding", '"chunked"')],
    "folded": [("Transfer-Encoding", "\r\n chunked")],
}
LENGTHS: Final = {
    "two, unlike": [("Content-Length", "0"), LENGTH],
    "two, alike": [LENGTH, LENGTH],
    "a list": [("Content-Length", f"0, {len(PEEK)}")],
    "negative": [("Content-Length", "-1")],
    "with a sign": [("Content-Length", f"+{len(PEEK)}")],
    "hexadecimal": [("Content-Length", hex(len(PEEK)))],
    "with blanks": [("Content-Length", "0 0")],
    "beyond 64 bits": [("Content-Length", "18446744073709551616")],
    "nothing": [("Content-Length", "")],
}

ROWS: Final = [
    Row("a length of 0 and the chunked coding, the smuggled call in the first chunk",
        raw(outer(("Content-Length", "0"), CODED) + f"{len(INNER):x}\r\n".encode() + INNER + b"\r\n0\r\n\r\n"), ANY,
        wait_s=2),
    Row("a short length and the chunked coding",
        raw(outer(("Content-Length", "4"), CODED) + CHUNKED + INNER), ANY, wait_s=2),
    Row("the chunked coding ends, the length goes on",
        raw(outer(("Content-Length", "5000"), CODED) + b"0\r\n\r\n" + INNER), ANY, wait_s=2),
    *(Row(f"a coding that only some read ({what}), with a length",
          raw(outer(LENGTH, *fields) + PEEK + INNER), ANY, wait_s=2) for what, fields in CODINGS.items()),
    *(Row(f"a coding that only some read ({what}), chunks behind",
          raw(outer(*fields) + b"0\r\n\r\n" + INNER), ANY, wait_s=2) for what, fields in CODINGS.items()),
    *(Row(f"a length that only some read: {what}", raw(outer(*fields) + PEEK + INNER), ANY, wait_s=2)
      for what, fields in LENGTHS.items()),
    Row("a chunk with an extension that holds a line end",
        raw(outer(CODED) + PEEK_CHUNK + b";a=\n" + PEEK + b"\r\n0\r\n\r\n" + INNER), ANY, wait_s=2),
    Row("a chunk with an extension of 20 KB",
        raw(outer(CODED) + PEEK_CHUNK + b";a=" + b"x" * 20_000 + b"\r\n" + PEEK + b"\r\n0\r\n\r\n" + INNER), ANY,
        wait_s=2),
    Row("a chunk whose size overflows", raw(outer(CODED) + b"10000000000000000\r\n" + PEEK + INNER), ANY, wait_s=2),
    Row("a chunk whose size is signed", raw(outer(CODED) + b"+" + CHUNKED + INNER), ANY, wait_s=2),
    Row("chunks ended by line feeds alone",
        raw(outer(CODED) + PEEK_CHUNK + b"\n" + PEEK + b"\n0\n\n" + INNER), ANY, wait_s=2),
    Row("trailers that say who is calling",
        raw(outer(CODED, ("Trailer", "X-Tekup-Client, X-Tekup-Grant")) + CHUNKED[:-2]
            + b"X-Tekup-Client: dev\r\nX-Tekup-Grant: <<grant dev>>\r\nMcp-Name: vault_take\r\n\r\n"), ANY, wait_s=2,
        runs_as="narrow"),
    Row("TE: trailers, handed on", raw(outer(LENGTH, ("TE", "trailers, chunked")) + PEEK + INNER), ANY, wait_s=2),
    Row("HTTP/1.0 with chunks",
        raw(outer(CODED, line="POST /vault/mcp HTTP/1.0") + b"0\r\n\r\n" + INNER), ANY, wait_s=2),
    Row("a version of HTTP that is none", raw(outer(LENGTH, line="POST /vault/mcp HTTP/1.9") + PEEK + INNER), ANY,
        wait_s=2),
    Row("HTTP/0.9", raw("POST /vault/mcp\r\n" + "\r\n") , ANY, wait_s=2),
    Row("GET with a body", raw(outer(LENGTH, line="GET /vault/mcp HTTP/1.1") + PEEK + INNER), ANY, wait_s=2),
    Row("a body that is announced and not wanted (Expect)",
        raw(outer(("Content-Length", str(len(PEEK) + 5)), ("Expect", "100-continue")) + INNER), ANY, wait_s=2),
    Row("an upgrade to h2c behind which calls follow",
        raw(outer(LENGTH, ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
                  ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")) + PEEK + INNER), ANY, wait_s=2),
    Row("a websocket behind which calls follow",
        raw(outer(LENGTH, ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                  ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")) + PEEK + INNER), ANY, wait_s=2),
    Row("a refused call, its body another call", raw(outer(("Content-Length", "0"), ("Origin", "null")) + INNER), ANY,
        wait_s=2),
    Row("a permitted call, then a smuggled one on the same connection", raw(outer(LENGTH) + PEEK + INNER), ANY,
        wait_s=2),
    Row("a permitted call, then a refused one, in one segment",
        raw(outer(LENGTH) + PEEK
            + head("POST /vault/mcp HTTP/1.1", [*OUTER[:-1], ("Mcp-Name", "vault_take"),
                                               ("Content-Length", str(TAKE_BYTES)), ("Connection", "close")]) + TAKE),
        frozenset({200, 403}), wait_s=5),
    Row("control: two permitted calls, in one segment",
        raw(outer(LENGTH) + PEEK
            + head("POST /vault/mcp HTTP/1.1", [*OUTER[:1], ("Authorization", "Bearer <<key dev>>"), *OUTER[2:-1],
                                               ("Mcp-Name", "vault_take"),
                                               ("Content-Length", str(TAKE_BYTES)), ("Connection", "close")]) + TAKE),
        frozenset({200}), runs_as="dev", must_run=True),
    Row("control: what is smuggled runs where it is believed", raw(INNER), frozenset({200}), entry="vault",
        runs_as="dev", must_run=True),
]  # fmt: skip
