"""Which manager a handshake-era request goes to, and that it gets there whole."""

from __future__ import annotations

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.legacy import LegacyByMethod, method_of

MAX_BODY_BYTES = 64
CALL = b'{"method": "tools/call"}'
LIST = b'{"method": "tools/list"}'


async def served(chunks: list[bytes], headers: dict[bytes, bytes] | None = None) -> tuple[str, bytes, int]:
    """Who was given the request, the body it saw, and how many messages had been taken before."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b""})
    messages.append({"type": "http.disconnect"})
    count = len(messages)
    seen: list[tuple[str, bytes, int]] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        del message

    def app(name: str) -> ASGIApp:
        async def take(scope: Scope, receive: Receive, send: Send) -> None:
            del scope, send
            taken = count - len(messages)
            body = b""
            while (message := await receive())["type"] == "http.request":
                body += message["body"]
            seen.append((name, body, taken))

        return take

    dispatcher = LegacyByMethod(app("streaming"), app("whole"), max_body_bytes=MAX_BODY_BYTES)
    await dispatcher({"type": "http", "headers": list((headers or {}).items())}, receive, send)
    return seen[0]


@pytest.mark.parametrize(
    ("body", "who"),
    [
        (CALL, "streaming"),
        (LIST, "whole"),
        (b'{"method": "initialize"}', "whole"),
        (b'{"method": 7}', "whole"),
        (b"[" + CALL + b"]", "whole"),
        (CALL[:-1], "whole"),
        (b"\xff", "whole"),
        (b"", "whole"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {b"mcp-protocol-version": b"2025-11-25"}])
async def test_only_tool_calls_stream_and_the_body_arrives_whole(
    body: bytes, who: str, headers: dict[bytes, bytes]
) -> None:
    assert (await served([body[:5], body[5:]], headers))[:2] == (who, body)


async def test_a_modern_request_goes_on_unread() -> None:
    assert await served([LIST], {b"mcp-protocol-version": b"2026-07-28"}) == ("streaming", LIST, 0)


async def test_a_body_past_the_bound_is_read_no_further() -> None:
    chunks = [LIST, b" " * MAX_BODY_BYTES, b" ", b" "]
    assert await served(chunks) == ("streaming", b"".join(chunks), 2)
    assert await served(chunks, {b"content-length": b"1000"}) == ("streaming", b"".join(chunks), 0)


def test_a_body_nested_too_deeply_names_no_method() -> None:
    assert method_of(b"[" * 200_000) is None
