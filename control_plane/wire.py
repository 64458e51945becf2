"""Answers of the modern protocol as they come over HTTP: one JSON body, or a stream of events that ends with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

MOST_BYTES: Final = 8 << 20
SHOWN_CHARS: Final = 300


@dataclass(frozen=True)
class Reply:
    """What came back; either a result or a problem, and who said so ("" if no instance did)."""

    instance: str
    version: str
    result: Mapping[str, Any] | None
    problem: str = ""
    code: int = 0


async def read(answer: httpx.Response) -> Reply:
    """Read an answer to its end, within bounds.

    Raises:
        httpx.HTTPError: It was cut off, or is too large.
    """
    instance, version = (answer.headers.get(f"x-tekup-{which}", "") for which in ("instance", "version"))
    message = await _message(answer)
    result, error = message.get("result"), message.get("error")
    if isinstance(result, dict):
        return Reply(instance, version, result)
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        code = error.get("code")
        return Reply(instance, version, None, one_line(error["message"]), code if isinstance(code, int) else 0)
    return Reply(instance, version, None, f"HTTP {answer.status_code} without an answer in JSON-RPC")


async def _message(answer: httpx.Response) -> Mapping[str, Any]:
    """The one answer of a body, or of a stream of events, in which it is the message with an id."""
    streamed = answer.headers.get("content-type", "").lower().startswith("text/event-stream")
    if not streamed:
        return _parsed(b"".join([chunk async for chunk in _bounded(answer)]))
    rest = b""
    async for chunk in _bounded(answer):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            message = _parsed(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
            if "id" in message:
                return message
    return {}


async def _bounded(answer: httpx.Response) -> AsyncIterator[bytes]:
    read = 0
    async for chunk in answer.aiter_bytes():
        read += len(chunk)
        if read > MOST_BYTES:
            raise httpx.DecodingError(f"more than {MOST_BYTES} bytes")
        yield chunk


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def one_line(text: str) -> str:
    """A text of strangers as one line, shortened."""
    one = " ".join(text.split())
    return one if len(one) <= SHOWN_CHARS else f"{one[: SHOWN_CHARS - 1]}…"
