"""Instances stopped in order under load: no call fails, nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.crowd import Crowd, Speaker, Turn
from tests.support.metrics import in_flight, registered, tool_calls
from tests.support.sdk import MODERN, Answer, asked, instance_of, sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parents[2]
SPEAKERS = 6
BROWSING = 2  # a machine of two cores has its hands full with starting and stopping browsers
WITHIN_S = 60.0
LONG_MS = 3500


@dataclass(frozen=True)
class Instance:
    """An instance that runs, its processes, and what it has of temporary files."""

    name: str
    service: str
    id: str
    process: psutil.Process
    family: tuple[psutil.Process, ...]
    temporary: frozenset[Path]

    def left(self) -> list[object]:
        """What of it is still there."""
        running = [one for one in self.family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        return [*running, *(path for path in self.temporary if path.exists())]


def instances_of(environment: Any, service: str) -> list[Instance]:
    """The instances of a service, in the supervisor's order."""
    found = []
    for process in environment.status().processes:
        if process.group == service and process.pid:
            parent = psutil.Process(process.pid)
            family = (parent, *parent.children(recursive=True))
            found.append(
                Instance(
                    process.name,
                    service,
                    process.instance,
                    parent,
                    family,
                    frozenset(temporary(family, environment.directory)),
                )
            )
    return found


def temporary(family: Iterable[psutil.Process], directory: Path) -> set[Path]:
    """What lies in the folder for temporary files and these processes run in, hold open or name."""
    top = Path(tempfile.gettempdir())
    known = {top / path.relative_to(top).parts[0] for path in (REPOSITORY, directory) if path.is_relative_to(top)}
    named: set[str] = set()
    for process in family:
        with suppress(psutil.Error):
            named |= {process.cwd(), *(file.path for file in process.open_files())}
            named |= {part for word in process.cmdline() for part in word.split("=") if part.startswith(f"{top}/")}
    return {top / Path(name).relative_to(top).parts[0] for name in named if name.startswith(f"{top}/")} - known


def last_end(environment: Any, name: str) -> dict[str, Any]:
    """How a process ended last, as the supervisor says it; {} if it has not ended."""
    lines = (environment.state / "logs" / "supervisor.log").read_text().splitlines()
    ends = [event for line in lines if (event := json.loads(line))["event"] == "ended" and event["process"] == name]
    return ends[-1] if ends else {}


async def busy(environment: Any, instance: Instance) -> None:
    """Wait until an instance has been in the middle of the same calls for a while."""
    (found,) = [one for one in await registered(environment, instance.service) if one.id == instance.id]

    async def long_calls() -> bool:
        for _ in range(5):
            if not await in_flight(found):
                return False
            await asyncio.sleep(0.1)
        return True

    await eventually(long_calls, f"{instance.name} to be in the middle of a long call", WITHIN_S)


async def gone_without_a_trace(environment: Any, stopped: Instance) -> None:
    """Wait for the end of an instance, and see how it ended and what it left."""

    async def ended() -> bool:
        return not stopped.process.is_running()

    await eventually(ended, f"{stopped.name} to end", WITHIN_S)

    async def said() -> dict[str, Any]:
        return last_end(environment, stopped.name)

    assert (await eventually(said, "the supervisor to notice", WITHIN_S))["exit"] == "exit code 0"
    assert stopped.left() == []
    known = await registered(environment, stopped.service, passing=False)
    assert stopped.id not in [one.id for one in known]
    supervisor = (environment.state / "logs" / "supervisor.log").read_text()
    assert f'"ending what it left", "process": "{stopped.name}"' not in supervisor


async def read_and_write(speaker: Speaker) -> None:
    path = f"stopping-{speaker.name}.txt"
    text = speaker.entry()
    await speaker.call("filesystem_write_file", path=path, content=text, overwrite=True)
    answer = await speaker.call("filesystem_read_file", path=path)
    assert text in answer.text, answer


async def search(speaker: Speaker) -> None:
    answer = await speaker.call("search_grep", pattern="lighthouse", path=".")
    assert "lighthouse" in answer.text, answer


async def browse(speaker: Speaker) -> None:
    opened = await speaker.call("browser_open")
    if opened.result is not None:
        await speaker.call("browser_text", handle=opened.result["handle"])
        await speaker.call("browser_close", handle=opened.result["handle"])


async def list_and_call(speaker: Speaker) -> None:
    """What goes through a hub: a modern client's lists, and everything of an older one."""
    names = await speaker.lists()
    assert {name.partition("_")[0] for name in names} >= {"browser", "filesystem", "search"}, names
    await speaker.call("filesystem_list_roots")


@asynccontextmanager
async def scaled(environment: Any, service: str, count: int) -> AsyncIterator[None]:
    """So many instances inside the block, one after it."""
    await asyncio.to_thread(environment.tekup_json, "scale", f"{service}={count}")
    try:
        yield
    finally:
        await asyncio.to_thread(environment.tekup_json, "scale", f"{service}=1")


async def all_called(environment: Any, service: str, tool: str, crowd: Crowd) -> None:
    """Wait until each of two instances has answered the crowd."""

    async def called() -> bool:
        counts = await tool_calls(environment, service, tool, "ok")
        return len(counts) == 2 and all(counts.values())

    await crowd.more(1)
    await eventually(called, f"both instances of {service} to be called", WITHIN_S)


@contextmanager
def some_calls_long(environment: Any, service: str) -> Iterator[None]:
    """Inside the block a share of a service's calls takes longer than a server that only closes would wait."""
    version = environment.process(service).version
    drill = environment.state / "drills" / f"{service}-{version}.json"
    drill.write_text(json.dumps([{"tool": "*", "rate": 0.2, "delay_ms": LONG_MS}]))
    try:
        yield
    finally:
        drill.unlink()


@pytest.mark.feature("B6", "A12", "A13")
@pytest.mark.parametrize(
    ("service", "tool", "turn"),
    [
        ("filesystem", "filesystem_read_file", read_and_write),
        ("search", "search_grep", search),
        ("hub", "filesystem_list_roots", list_and_call),
        pytest.param("browser", "browser_text", browse, marks=pytest.mark.long),
    ],
    ids=["filesystem", "search", "hub", "browser"],
)
async def test_an_instance_that_gets_sigterm_under_load_fails_no_call_and_leaves_nothing(
    environment: Any, service: str, tool: str, turn: Turn
) -> None:
    speakers = BROWSING if service == "browser" else SPEAKERS
    crowd = Crowd(f"{environment.gateway_url}/mcp", [environment.key] * speakers, turn)
    slow = "filesystem" if service == "hub" else service
    async with scaled(environment, service, 2):
        with some_calls_long(environment, slow):
            async with crowd.speaking():
                await all_called(environment, service, tool, crowd)
                stopped = (await asyncio.to_thread(instances_of, environment, service))[0]
                if service == "browser":
                    assert stopped.temporary
                    assert any("chrom" in one.name() for one in stopped.family)
                await busy(environment, stopped)
                os.kill(stopped.process.pid, signal.SIGTERM)
                await gone_without_a_trace(environment, stopped)
                await crowd.more(2)
        await asyncio.to_thread(environment.until_all_ready, WITHIN_S)
    assert crowd.failed() == []
    workspace = environment.state / "workspace"
    assert not list(workspace.rglob("*.tmp"))
    for file in workspace.glob("stopping-*"):
        file.unlink()


@pytest.mark.feature("B6", "A4", "F3")
async def test_scaling_down_keeps_pages_to_the_deadline_fails_nothing_else_and_leaves_nothing(
    environment: Any,
) -> None:
    url = f"{environment.gateway_url}/mcp"
    crowd = Crowd(url, [environment.key] * BROWSING, browse)
    answers: list[Answer] = []

    async def hold(handle: str) -> float:
        """Read a page again and again until it is gone; returns when that was."""
        while True:
            answer = await asked(holder, "browser_text", {"handle": handle})
            answers.append(answer)
            if answer.gone:
                return time.monotonic()
            await asyncio.sleep(0.2)

    async with scaled(environment, "browser", 2), sdk_client(url, environment.key, MODERN) as holder:
        stopped = (await asyncio.to_thread(instances_of, environment, "browser"))[1]
        handle = ""
        while instance_of(handle) != stopped.id:
            opened = await asked(holder, "browser_open", {})
            assert opened.result, opened
            handle = opened.result["handle"]
        async with crowd.speaking():
            await all_called(environment, "browser", "browser_text", crowd)
            holding = asyncio.create_task(hold(handle))
            asked_s = time.monotonic()
            scaling = asyncio.create_task(asyncio.to_thread(environment.tekup_json, "scale", "browser=1"))
            await gone_without_a_trace(environment, stopped)
            async with asyncio.timeout(WITHIN_S):
                gone_s = await holding
            await crowd.more(3)
            await scaling
    assert crowd.failed() == []
    drain_deadline_s = 10.0
    assert gone_s - asked_s >= drain_deadline_s
    # Between the instance's last word and the gate's hearing of it there is nobody to ask.
    assert all(answer.ok or answer.may_have_run for answer in answers[:-1]), answers
    assert sum(not answer.ok for answer in answers[:-1]) <= 5
