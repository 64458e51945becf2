"""One service in a bad state, the calls to another: their p95 against before, in the same run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from compose.local.layout import Layout
from compose.local.link import Link
from tests.bench.environment import Environment
from tests.bench.tools import Row, Side, load_once, wait_until
from tests.support import guest
from tests.support.load import body, headers
from tests.support.ports import free_ports

SICK = "search"
CALLS_PER_S = 10
GIVE_UP_S = 5.0
SETTLE_S = 60.0
GARBAGE = [{"name": "garbage_x", "inputSchema": {"type": "object", "required": 7}}, {"name": "browser_open"}, 7, None]


def others_p95(load: Path, env: Environment, seconds: int, rounds: int) -> list[Row]:
    """p95 of calls to filesystem while search is sick, against while it is well; and whether all else stays listed."""
    tool = "filesystem_list_roots"
    side = Side(
        f"{env.gateway}/filesystem/mcp", headers(env.key, "tools/call", tool), body("tools/call", {"name": tool})
    )
    rows: list[Row] = []
    with _callers(env):
        for name, sick in STATES.items():
            ratios = []
            for _ in range(rounds):
                before = load_once(load, side, 1, seconds)["p95_ms"]
                with sick(env):
                    ratios.append(load_once(load, side, 1, seconds)["p95_ms"] / before)
                    _check_listed(env)
                _until_well(env)
            worst = max(ratios)
            rows.append((f"p95 of filesystem, search {name} / well, median (worst)",
                         f"{statistics.median(ratios):.2f}x ({worst:.2f}x)"))  # fmt: skip
    return rows


@contextlib.contextmanager
def _drill(env: Environment, **drill: object) -> Iterator[None]:
    path = Layout(env.folder).drills / f"{SICK}-{_version(env)}.json"
    path.write_text(json.dumps([{"tool": "*", "probe": True, **drill}]))
    try:
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def _frozen(env: Environment) -> Iterator[None]:
    pid = _pid(env)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _dead(env: Environment) -> Iterator[None]:
    """Killed again and again: the supervisor starts it anew each time."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(StopIteration, ProcessLookupError):
                os.kill(_pid(env), signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        try:
            yield
        finally:
            over.set()
            killing.result()


@contextlib.contextmanager
def _garbage(env: Environment) -> Iterator[None]:
    """A service beside the others whose lists are wrong in every way, and long."""

    class Garbage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            listed = {"tools": GARBAGE * 500, "ttlMs": 0, "cacheScope": "public", "serial": time.time()}
            self._answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": listed}).encode())

        def _answer(self, text: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    (port,) = free_ports(1)
    server = ThreadingHTTPServer(("127.0.0.1", port), Garbage)
    guest.introduce(env.folder / ".tekup", "garbage")
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(server.serve_forever)
        try:
            token = guest.token_of(env.folder / ".tekup", "garbage")
            guest.register(env.consul, "garbage", "0bad0b", "1", port, token)
            wait_until(partial(_shown, env, "garbage"), "the garbage to be served", SETTLE_S)
            yield
        finally:
            guest.deregister(env.consul, "garbage", "0bad0b", token)
            server.shutdown()
            serving.result()


STATES: dict[str, Callable[[Environment], contextlib.AbstractContextManager[None]]] = {
    "well, which is the noise": lambda _: contextlib.nullcontext(),
    "failing each call": lambda env: _drill(env, error="drill"),
    "slow by 2 s": lambda env: _drill(env, delay_ms=2000),
    "hanging in each call": lambda env: _drill(env, hang=True),
    "frozen": _frozen,
    "dying again and again": _dead,
    "beside one that lists garbage": _garbage,
}


@contextlib.contextmanager
def _callers(env: Environment) -> Iterator[None]:
    """Callers of the sick service, at the same pace all the time, who give up after a while."""
    over = threading.Event()
    sent, asked = _search(env)

    def call(client: httpx.Client) -> None:
        with contextlib.suppress(httpx.HTTPError):
            client.post(f"{env.gateway}/{SICK}/mcp", headers=sent, json=asked)

    def pace() -> None:
        with httpx.Client(timeout=GIVE_UP_S) as client, ThreadPoolExecutor(int(CALLS_PER_S * GIVE_UP_S) + 1) as pool:
            while not over.wait(1 / CALLS_PER_S):
                pool.submit(call, client)

    with ThreadPoolExecutor(1) as pool:
        pacing = pool.submit(pace)
        try:
            yield
        finally:
            over.set()
            pacing.result()


def _search(env: Environment) -> tuple[dict[str, str], dict[str, object]]:
    workspace = str(env.folder / ".tekup" / "workspace")
    wanted: dict[str, object] = {"name": "search_grep", "arguments": {"pattern": "x", "path": workspace}}
    return headers(env.key, "tools/call", "search_grep"), body("tools/call", wanted)


def _check_listed(env: Environment) -> None:
    names = _listed(env)
    for service in ("browser", "filesystem"):
        if not any(name.startswith(f"{service}_") for name in names):
            raise RuntimeError(f"the tools of {service} are not listed any more: {names}")


def _listed(env: Environment) -> list[str]:
    answer = httpx.post(
        f"{env.gateway}/mcp", headers=headers(env.key, "tools/list"), json=body("tools/list"), timeout=10
    )
    return [str(tool["name"]) for tool in answer.json()["result"]["tools"]]


def _shown(env: Environment, service: str) -> bool:
    return service in json.dumps(env.ask("GET", "/v1/services"))


def _until_well(env: Environment) -> None:
    sent, asked = _search(env)

    def well() -> bool:
        try:
            answer = httpx.post(f"{env.gateway}/{SICK}/mcp", headers=sent, json=asked, timeout=GIVE_UP_S)
            return answer.status_code == 200 and answer.json().get("result", {}).get("isError") is False
        except (httpx.HTTPError, ValueError):
            return False

    wait_until(well, f"{SICK} to be well again", SETTLE_S)


def _pid(env: Environment) -> int:
    found = next(one for one in Link(Layout(env.folder)).status().processes if one.group == SICK and one.pid)
    assert found.pid is not None
    return found.pid


def _version(env: Environment) -> str:
    shown = env.ask("GET", f"/v1/services/{SICK}")
    return str(shown["policy"]["stable"])  # type: ignore[index]
