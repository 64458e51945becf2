"""A stand-in for a service's instance: answers every POST with what it received, and `GET /ready`.

Run as a program, so that a test can kill it: `python backend.py PORT NAME`. `X-Test-Delay: <seconds>` delays the
answer, `X-Test-Status: <code>` sets its status, `X-Test-Size: <bytes>` makes it larger by as much, `X-Test-Stream: <n>`
streams n chunks as they are made, `X-Test-Touch: <file>` makes a file as soon as the call is here. For copies only:
`X-Test-Copy-Delay`, `X-Test-Copy-Status`, `X-Test-Copy-Stream`. `GET /seen` tells how many calls and copies came so
far, how many are under way, and the headers of the last call and the last copy.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

SEEN: Counter[str] = Counter()
LAST: dict[str, dict[str, str]] = {}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
    """Serves one connection until it ends."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.split(": ", 1) for line in head[1:] if ": " in line]
            sent = {key.lower(): value for key, value in pairs}
            body = await read_body(reader, sent)
            kind = "copy" if "x-tekup-copy" in sent else "call"
            if head[0].startswith("POST"):
                SEEN[kind] += 1
                LAST[kind] = sent
            SEEN[f"{kind} under way"] += 1
            try:
                await respond(writer, head[0], pairs, sent, body, name)
            finally:
                SEEN[f"{kind} under way"] -= 1
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):  # gone, or garbage
        pass
    finally:
        writer.close()


async def read_body(reader: asyncio.StreamReader, sent: dict[str, str]) -> bytes:
    """Reads a body of known length, or one in chunks."""
    if sent.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(sent.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def respond(
    writer: asyncio.StreamWriter, line: str, pairs: list[list[str]], sent: dict[str, str], body: bytes, name: str
) -> None:
    """Writes one answer."""
    if line.startswith("GET /seen "):
        await write(writer, "200", json.dumps({"seen": SEEN, "last": LAST}).encode())
        return
    for_copies = "copy-" if "x-tekup-copy" in sent else ""
    if touched := sent.get("x-test-touch"):
        await asyncio.to_thread(Path(touched).touch)
    await asyncio.sleep(float(sent.get(f"x-test-{for_copies}delay", "0")))
    if chunks := int(sent.get(f"x-test-{for_copies}stream", "0")):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(chunks):
            writer.write(b"8\r\ndata: 1\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return
    method, path, _ = line.split(" ")
    about = {"name": name, "method": method, "path": path, "headers": pairs, "body": len(body)}
    said = json.dumps({**about, "more": "x" * int(sent.get("x-test-size", "0"))}).encode()
    await write(writer, sent.get(f"x-test-{for_copies}status", "200"), said)


async def write(writer: asyncio.StreamWriter, status: str, said: bytes) -> None:
    """Writes a JSON answer."""
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said
    )
    await writer.drain()


async def main(port: int, name: str) -> None:
    """Serves until killed."""
    server = await asyncio.start_server(lambda r, w: answer(r, w, name), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
