"""An MCP server over stdio for the bridge's tests, which does on demand what servers should not.

Plain JSON lines and no SDK, so that it can break every rule: `python hostile_child.py [OPTION…]`. Options: `noisy`
prints a banner first, `slow-start`, `slower-start`, `dies-at-start`, `never-greets`, `modern` speaks no handshake,
`bad-list` lists tools that cannot be used, `asks-first` refuses what comes before its handshake and ends, as some do.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

OPTIONS = set(sys.argv[1:])
LOCK = threading.Lock()
CANCELLED: list[object] = []
CALLS: list[str] = []
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def say(message: dict[str, Any]) -> None:
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": name, "inputSchema": {"type": "object"}} | more


GOOD = [
    tool("echo", annotations={"readOnlyHint": True, "title": "Echo"}),
    tool(
        "sum",
        outputSchema={"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]},
        annotations={"destructiveHint": False},
    ),
    *map(tool, ("pid", "environment", "sleep", "progress", "cancelled", "picture", "hang", "exit", "flood", "endless")),
    *map(
        tool,
        (
            "garbage",
            "fork",
            "daemon",
            "eat",
            "big",
            "error",
            "fails",
            "nonsense",
            "refuses",
            "grow",
            "count",
            "spam",
            "look",
            "reach",
            "fetch",
        ),
    ),
]
BAD = [
    tool("echo"),
    tool("a b"),
    tool("a_b"),
    tool("x" * 70),
    tool("schema", inputSchema={"type": "object", "properties": 7}),
    tool("no-object", inputSchema={"type": "array"}),
    tool("huge", description="y" * 70_000),
    tool("handle", inputSchema={"type": "object", "properties": {"p": {"type": "string", "x-mcp-header": "Handle"}}}),
    {"description": "no name at all"},
    7,
]
LISTED = GOOD + (BAD if "bad-list" in OPTIONS else [])


def flood() -> NoReturn:
    while True:
        say({"method": "notifications/message", "params": {"level": "info", "data": "x"}})


def endless() -> NoReturn:
    while True:
        sys.stdout.write("x" * 65_536)


def garbage() -> NoReturn:
    while True:
        sys.stdout.write("this is no message\n" * 100)


def exits(_: dict[str, Any]) -> dict[str, Any]:
    print("I have had enough", file=sys.stderr, flush=True)
    os._exit(3)


def forks(given: dict[str, Any]) -> dict[str, Any]:
    for _ in range(int(given.get("n", 1_000))):
        subprocess.Popen([sys.executable, "-c", SLEEPER])
    return text("forked")


def daemon(_: dict[str, Any]) -> dict[str, Any]:
    return text(str(subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True).pid))


def sleeps(given: dict[str, Any]) -> dict[str, Any]:
    time.sleep(float(given.get("s", 600)))
    return text("slept")


def eats(given: dict[str, Any]) -> dict[str, Any]:
    eaten = bytearray(os.urandom(1 << 20) * int(given["mb"]))
    time.sleep(20)
    return text(str(len(eaten)))


def spams(_: dict[str, Any]) -> dict[str, Any]:
    for number in range(2_000):
        print(f"line {number}", file=sys.stderr)
    return text("spammed")


def look(given: dict[str, Any]) -> dict[str, Any]:
    """Who it is, and what it can do with files."""
    status = Path("/proc/self/status").read_text().splitlines()
    lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    found = {"user": os.getuid(), "groups": os.getgroups(), "no_new_privileges": lines["NoNewPrivs"]}
    found["capabilities"] = sorted({lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")})
    return text(json.dumps({**found, "files": {path: readable(Path(path)) for path in given["files"]}}))


def readable(path: Path) -> str:
    try:
        if path.is_dir():
            return ",".join(f"{inner.name}:{readable(inner)}" for inner in sorted(path.iterdir()))
        return "read" if path.read_bytes() else "empty"
    except OSError as error:
        return type(error).__name__


def reach(given: dict[str, Any]) -> dict[str, Any]:
    """Which of some hosts and ports it can connect to."""
    places = [(host, port) for host, port in given["places"]]
    with ThreadPoolExecutor(len(places)) as looking:
        found = looking.map(_reached, places)
    return text(json.dumps({f"{host}:{port}": said for (host, port), said in zip(places, found, strict=True)}))


def _reached(place: tuple[str, int]) -> str:
    try:
        socket.create_connection(place, 2).close()
    except OSError as error:
        return type(error).__name__
    return "reached"


def fetch(given: dict[str, Any]) -> dict[str, Any]:
    """What a URL answers, by the proxy that the environment names."""
    try:
        with urllib.request.urlopen(given["url"], timeout=20) as answer:
            return text(f"{answer.status}")
    except urllib.error.HTTPError as error:
        return text(f"{error.code} {error.read().decode()[:500]}")
    except OSError as error:
        return text(str(error))


def grows(_: dict[str, Any]) -> dict[str, Any]:
    LISTED.append(tool("grown"))
    say({"method": "notifications/tools/list_changed"})
    return text("grown")


def adds(given: dict[str, Any]) -> dict[str, Any]:
    total = sum(given["values"])
    return {**text(str(total)), "structuredContent": {"total": total}}


PICTURE = [
    {"type": "image", "data": "aGk=", "mimeType": "image/png"},
    {"type": "resource_link", "uri": "demo://one", "name": "one"},
    {"type": "resource", "resource": {"uri": "demo://one", "text": "one"}},
]
TOOLS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "echo": lambda given: text(str(given.get("text", ""))),
    "sum": adds,
    "pid": lambda _: text(str(os.getpid())),
    "count": lambda _: text(str(len(CALLS))),
    "environment": lambda _: text(json.dumps(dict(os.environ))),
    "sleep": sleeps,
    "hang": sleeps,
    "cancelled": lambda _: text(str(len(CANCELLED))),
    "picture": lambda _: {"content": PICTURE},
    "exit": exits,
    "flood": lambda _: flood(),
    "endless": lambda _: endless(),
    "garbage": lambda _: garbage(),
    "fork": forks,
    "daemon": daemon,
    "eat": eats,
    "big": lambda given: text("z" * int(given["bytes"])),
    "fails": lambda _: {**text("it did not work"), "isError": True},
    "nonsense": lambda _: {"content": "no list"},
    "spam": spams,
    "grow": grows,
    "look": look,
    "reach": reach,
    "fetch": fetch,
}
ERRORS = {
    "error": {"code": -32000, "message": "no such thing", "data": {"why": "because"}},
    "refuses": {"code": -32020, "message": "HeaderMismatch"},
}


def progress(token: object) -> dict[str, Any]:
    for step in range(1, 4):
        told = {"progressToken": token, "progress": step, "total": 3, "message": "on"}
        say({"method": "notifications/progress", "params": told})
        time.sleep(0.02)
    return text("done")


def call(identity: object, name: str, given: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any] | None:
    CALLS.append(name)
    if name == "progress":
        return progress(meta.get("progressToken"))
    if name in ERRORS:
        say({"id": identity, "error": ERRORS[name]})
        return None
    return TOOLS[name](given)


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "completions": {}}
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": capabilities,
            "serverInfo": {"name": "hostile", "version": "1"},
            "instructions": "Be careful.",
        }
    if method == "server/discover":
        return {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "completions": {}},
            "instructions": "Be careful.", "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        }  # fmt: skip
    if method == "ping":
        return {}
    if method == "tools/list":  # in pages
        start = int(params.get("cursor") or 0)
        more = {"nextCursor": str(start + 10)} if start + 10 < len(LISTED) else {}
        return {"tools": LISTED[start : start + 10], **more}
    if method == "tools/call":
        return call(message["id"], params["name"], params.get("arguments") or {}, params.get("_meta") or {})
    if method == "prompts/list":
        return {"prompts": [{"name": "greet", "description": "greets", "arguments": [{"name": "who"}]}]}
    if method == "prompts/get":
        said = f"Hello {params.get('arguments', {}).get('who')}"
        return {"messages": [{"role": "user", "content": {"type": "text", "text": said}}]}
    if method == "resources/list":
        return {"resources": [{"uri": "demo://one", "name": "one"}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "mimeType": "text/plain", "text": f"content of {params['uri']}"}]}
    if method == "resources/templates/list":
        return {"resourceTemplates": [{"uriTemplate": "demo://{name}", "name": "any"}]}
    if method == "completion/complete":
        return {"completion": {"values": [json.dumps(params["ref"], sort_keys=True)]}}
    say({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
    return None


def work(message: dict[str, Any]) -> None:
    result = answer(message)
    if result is not None:
        say({"id": message["id"], "result": result})


def main() -> None:
    if "noisy" in OPTIONS:
        print("Welcome to the hostile server!\n\nIt is up.", flush=True)
    if "dies-at-start" in OPTIONS:
        print("no configuration found", file=sys.stderr, flush=True)
        os._exit(7)
    if "slower-start" in OPTIONS:
        time.sleep(12)
    if "slow-start" in OPTIONS:
        time.sleep(1.5)
    greeted = "asks-first" not in OPTIONS
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "notifications/cancelled":
            CANCELLED.append(message["params"])
        if "id" not in message or "method" not in message or "never-greets" in OPTIONS:
            continue
        if message["method"] == "initialize" and "modern" in OPTIONS:
            say({"id": message["id"], "error": {"code": -32022, "message": "unsupported",
                 "data": {"supported": ["2026-07-28"], "requested": "2025-11-25"}}})  # fmt: skip
            continue
        if not greeted and message["method"] != "initialize":
            os._exit(9)
        greeted = True
        if message.get("method") == "tools/call" and (message["params"].get("name") == "hang"):
            work(message)  # in the one thread that reads, so that nothing is answered any more
        else:
            threading.Thread(target=work, args=(message,), daemon=True).start()


main()
