"""One supervised process: started when its turn has come, restarted when it dies, stopped as a whole.

Invariants: at most one process of a child runs; when it has ended, whatever it started has ended too before
it is started again; only `stop` ends the keeping, even of a process that refuses its settings.

TERM goes to the process alone, so that it can drain with its helpers (a browser, say) still alive; KILL, at
its deadline or after its end, goes to everything it left.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from .consul_api import token_header
from .layout import Layout
from .leftovers import MARK, Started, end, family, started
from .log import log
from .table import Process, Ready, filled

FIRST_BACK_OFF_S = 0.1
LONGEST_BACK_OFF_S = 10.0
WORDS_BYTES = 4000
"""Of what a process said when it refused its settings, so much is passed on."""
STEADY_S = 10.0
"""A process that ran so long has recovered: the next back-off is short again."""
PROBE_S = 1.0
PROBE_EVERY_S = 0.2
LOOK_EVERY_S = 2.0
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
             "PLAYWRIGHT_BROWSERS_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")  # fmt: skip
"""All a child gets of our own environment: what it does depends on the table, not on who ran `tekup up`."""


class State(StrEnum):
    """Where a child is."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Surroundings:
    """What all children of a supervisor share."""

    layout: Layout
    mark: str
    http: httpx.AsyncClient
    changed: Callable[[], None]
    """Called when a process was started or has ended."""


@dataclass
class Child:
    """One process and its keeper."""

    name: str
    process: Process
    around: Surroundings
    version: str = ""
    port: int = 0
    state: State = State.WAITING
    problem: str = ""
    refused: bool = False
    """It last ended with EX_CONFIG: until somebody does something, it will again."""
    restarts: int = 0
    since: float = 0.0
    instance: str = ""
    started: Started | None = None
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _running: asyncio.subprocess.Process | None = None
    _log_bytes: int = 0
    """How much of its log is from earlier starts."""

    async def keep(self, turn: Callable[[], Awaitable[object]]) -> None:
        """Keep the process running until `stop`.

        Args:
            turn: waited for before the first start.
        """
        try:
            await _first(turn(), self._stop.wait())
            delay = FIRST_BACK_OFF_S
            while not self._stop.is_set():
                began = time.monotonic()
                await self._run_once()
                if time.monotonic() - began >= STEADY_S:
                    delay = FIRST_BACK_OFF_S
                if await self._pause(LONGEST_BACK_OFF_S if self.refused else delay):
                    delay = min(2 * delay, LONGEST_BACK_OFF_S)
        finally:
            self.state = State.STOPPED
            self.ended.set()

    async def stop(self) -> None:
        """Stop the process for good, and wait until nothing of it is left."""
        self._stop.set()
        await self._end_process()
        await self.ended.wait()

    async def restart(self) -> None:
        """Stop the process and let its keeper start it anew at once; returns when it has been started."""
        if self.state in (State.WAITING, State.STOPPED):
            return
        before, self.problem = self.started, ""
        self._hurry.set()
        await self._end_process()
        while self.started in (before, None) and not self.problem and not self._stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(PROBE_EVERY_S)

    async def why_not_ready(self) -> str:
        """Ask the process now; "" if it is ready, else the reason."""
        if self.started is None:
            waiting = f"it waits until {', '.join(self.process.after)} are ready"
            return waiting if self.state is State.WAITING else self.problem or f"it is {self.state}"
        if self.process.ready is None:
            return ""
        return await probe(self.around.http, self.process.ready, self._values())

    async def _run_once(self) -> None:
        self.state, self.since, self.problem = State.STARTING, time.time(), ""
        self.refused = False
        self.instance = secrets.token_hex(3)
        try:
            self._running = await self._spawn()
        except OSError as error:
            self.problem = f"{self.process.argv[0]} could not be started: {error.strerror}"
            log("not started", process=self.name, problem=self.problem)
            return
        self.started = started(self._running.pid)
        self.around.changed()
        log("started", process=self.name, pid=self._running.pid, instance=self.instance)
        watch = asyncio.create_task(self._until_ready())
        try:
            if self._stop.is_set():  # stop came while we were starting
                await self._end_process()
            code = await self._running.wait()
        finally:
            watch.cancel()
        await self._clean_up(code)

    async def _spawn(self) -> asyncio.subprocess.Process:
        values = self._values()
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env |= {name: filled(value, values) for name, value in self.process.env.items()}
        env |= {
            MARK: self.around.mark,
            "TEKUP_PROCESS": self.name,
            "TEKUP_DIRECTORY": str(self.around.layout.directory),
        }
        with self.around.layout.log(self.name).open("ab") as output:
            self._log_bytes = output.tell()
            return await asyncio.create_subprocess_exec(
                *(filled(part, values) for part in self.process.argv),
                cwd=self.process.cwd or self.around.layout.directory,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _values(self) -> dict[str, str]:
        return {"name": self.name, "instance": self.instance, "version": self.version, "port": str(self.port)}

    async def _until_ready(self) -> None:
        while await self.why_not_ready():  # noqa: ASYNC110 (the event is in another process)
            await asyncio.sleep(PROBE_EVERY_S)
        self.state = State.READY
        self.was_ready.set()
        log("ready", process=self.name, after_s=round(time.time() - self.since, 2))
        if self.process.failing_s:
            await self._restart_if_failing()

    async def _restart_if_failing(self) -> None:
        """End the process once it has been alive and not fit for work for too long; its keeper starts it anew."""
        well_s = time.monotonic()
        while (failing_s := time.monotonic() - well_s) < self.process.failing_s:
            await asyncio.sleep(min(LOOK_EVERY_S, self.process.failing_s / 4))
            if self.process.ready is None or not await denied(self.around.http, self.process.ready, self._values()):
                well_s = time.monotonic()
        log("restarted, alive and failing", process=self.name, failing_s=round(failing_s, 1))
        await self._end_process()

    async def _end_process(self) -> None:
        running = self._running
        if running is None or running.returncode is not None:
            return
        self.state = State.STOPPING
        running.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.process.stop_s):
                await running.wait()
        except TimeoutError:
            log("killed at its deadline", process=self.name, deadline_s=self.process.stop_s)
            running.kill()
            await running.wait()

    async def _clean_up(self, code: int) -> None:
        root, self.started, self._running = self.started, None, None
        wanted = self._stop.is_set() or self._hurry.is_set()
        if not wanted:
            self.refused = code == os.EX_CONFIG
            self.problem = f"it ended with {_said(code)}; see `tekup logs {self.name}`"
            if self.refused:
                self.problem = f"it refused its settings, {_said(code)}:\n{self._words()}"
            self.restarts += 1
        log("ended", process=self.name, pid=root.pid if root else None, exit=_said(code), wanted=wanted)
        roots = [root] if root else []
        also = f"TEKUP_PROCESS={self.name}"
        while left := await asyncio.to_thread(family, roots, self.around.mark, also):
            log("ending what it left", process=self.name, pids=[process.pid for process in left])
            await asyncio.to_thread(end, left, 0)
        self.around.changed()

    def _words(self) -> str:
        try:
            with self.around.layout.log(self.name).open("rb") as file:
                file.seek(self._log_bytes)
                said = file.read(WORDS_BYTES).decode(errors="replace")
        except OSError as error:
            said = f"(its log cannot be read: {error.strerror})"
        return "\n".join(f"    {line}" for line in said.splitlines()) or "    (it said nothing)"

    async def _pause(self, delay: float) -> bool:
        """Wait before the next start; False if it was asked for and the wait is over at once."""
        if self._hurry.is_set():
            self._hurry.clear()
            return False
        self.state = State.BACKING_OFF
        try:
            async with asyncio.timeout(delay):
                await _first(self._stop.wait(), self._hurry.wait())
            self._hurry.clear()
            return False
        except TimeoutError:
            return True


async def probe(http: httpx.AsyncClient, ready: Ready, values: dict[str, str]) -> str:
    """Check a ready condition once; "" if it holds, else the reason."""
    url, text = filled(ready.url, values), filled(ready.contains, values)
    try:
        response = await http.get(url, headers=token_header(ready.token_file), timeout=PROBE_S)
    except httpx.HTTPError as error:
        return f"GET {url}: {error or type(error).__name__}"
    if response.status_code != httpx.codes.OK:
        return f"GET {url}: answered {response.status_code}"
    if text in response.text:
        return ""
    return await _own_reason(http, filled(ready.why, values)) or f"GET {url}: no {text} in the answer yet"


async def _own_reason(http: httpx.AsyncClient, url: str) -> str:
    """Why a process says itself that it is not ready, "" if it does not say."""
    if not url:
        return ""
    try:
        reason = (await http.get(url, timeout=PROBE_S)).json().get("reason", "")
    except (httpx.HTTPError, ValueError, AttributeError):
        return ""
    return str(reason)[:WORDS_BYTES]


async def denied(http: httpx.AsyncClient, ready: Ready, values: dict[str, str]) -> bool:
    """Whether whoever is asked says that the condition does not hold; one who cannot be asked denies nothing."""
    url, text = filled(ready.url, values), filled(ready.contains, values)
    try:
        response = await http.get(url, headers=token_header(ready.token_file), timeout=PROBE_S)
    except httpx.HTTPError:
        return False
    return response.status_code == httpx.codes.OK and text not in response.text


def _said(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


async def _first(*waits: Awaitable[object]) -> None:
    """Wait for the first of several, and drop the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
