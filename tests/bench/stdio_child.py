"""A server over stdio that costs next to nothing, for bridges to be measured before: `stdio_child.py SECONDS`.

Its one tool answers after so long; calls do not wait for one another.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import sys
import time
from typing import Any

ABOUT = {"capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}}
TOOL = {"name": "bench_echo", "description": "Says it again.", "inputSchema": {"type": "object"}}
ECHO = {"content": [{"type": "text", "text": "echo"}], "isError": False}


def say(identity: object, result: dict[str, Any]) -> None:
    """One answer."""
    os.write(1, json.dumps({"jsonrpc": "2.0", "id": identity, "result": result}).encode() + b"\n")


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """What everything but a call is answered, at once."""
    if message["method"] == "initialize":
        return {"protocolVersion": message["params"]["protocolVersion"], **ABOUT}
    return {"tools": [TOOL]} if message["method"] == "tools/list" else {}


def main(after_s: float) -> None:
    """Until the input ends."""
    rest, due = b"", list[tuple[float, int, object]]()
    number = 0
    while True:
        wait_s = max(due[0][0] - time.monotonic(), 0) if due else None
        if select.select([0], [], [], wait_s)[0]:
            if not (chunk := os.read(0, 1 << 16)):
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for message in map(json.loads, filter(None, lines)):
                if "id" not in message or "method" not in message:
                    continue
                if message["method"] != "tools/call":
                    say(message["id"], answer(message))
                elif not after_s:
                    say(message["id"], ECHO)
                else:
                    number += 1
                    heapq.heappush(due, (time.monotonic() + after_s, number, message["id"]))
        while due and due[0][0] <= time.monotonic():
            say(heapq.heappop(due)[2], ECHO)


if __name__ == "__main__":
    main(float(sys.argv[1]))
