"""Instances stopped in order under load: no call fails, nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
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
# A machine of two cores has its hands full with starting and stopping browsers.
SPEAKERS = {"browser": 2, "filesystem": 4, "search": 2, "hub": 4}
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


def end_of(environment: Any, stopped: Instance) -> dict[str, Any]:
    """How a process ended, as the supervisor says it; {} if it has not. Others had its name before it."""
    lines = (environment.state / "logs" / "supervisor.log").read_text().splitlines()
    events = (json.loads(line) for line in lines)
    ends = (event for event in events if event["event"] == "ended" and event["pid"] == stopped.process.pid)
    return next(ends, {})


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
        return end_of(environment, stopped)

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
    await asyncio.sleep(0.1)


@asynccontextmanager
async def scaled(environment: Any, services: Iterable[str]) -> AsyncIterator[None]:
    """Two instances of each inside the block, one after it."""

    async def scale(count: int) -> None:
        wishes = (f"{service}={count}" for service in services)
        await asyncio.gather(*(asyncio.to_thread(environment.tekup_json, "scale", wish) for wish in wishes))

    await scale(2)
    try:
        yield
    finally:
        await scale(1)


@contextmanager
def some_calls_long(environment: Any) -> Iterator[None]:
    """Inside the block a share of all tools' calls takes longer than a server that only closes would wait."""
    drills = [environment.state / "drills" / f"{name}-{environment.process(name).version}.json" for name in TOOLS]
    for drill in drills:
        drill.write_text(json.dumps([{"tool": "*", "rate": 0.5, "delay_ms": LONG_MS}]))
    try:
        yield
    finally:
        for drill in drills:
            drill.unlink()


async def all_called(environment: Any, service: str, crowd: Crowd) -> None:
    """Wait until each of two instances has answered the crowd."""

    async def called() -> bool:
        counts = await tool_calls(environment, service, TURNS[service][0], "ok")
        return len(counts) == 2 and all(counts.values())

    await crowd.more(1)
    await eventually(called, f"both instances of {service} to be called", WITHIN_S)


TOOLS = ("browser", "filesystem", "search")
TURNS: dict[str, tuple[str, Turn]] = {
    "browser": ("browser_text", browse),
    "filesystem": ("filesystem_read_file", read_and_write),
    "search": ("search_grep", search),
    "hub": ("filesystem_list_roots", list_and_call),
}


@pytest.mark.feature("B6", "A12", "A13")
@pytest.mark.parametrize(
    "services",
    [("filesystem", "search", "hub"), pytest.param(("browser",), marks=pytest.mark.long)],
    ids="-".join,
)
async def test_instances_that_get_sigterm_under_load_fail_no_call_and_leave_nothing(
    environment: Any, services: tuple[str, ...]
) -> None:
    url = f"{environment.gateway_url}/mcp"
    crowds = {name: Crowd(url, [environment.key] * SPEAKERS[name], TURNS[name][1]) for name in services}
    async with scaled(environment, services):
        async with AsyncExitStack() as speaking:
            for name, crowd in crowds.items():
                await speaking.enter_async_context(crowd.speaking())
                await all_called(environment, name, crowd)
            stopped = [(await asyncio.to_thread(instances_of, environment, name))[0] for name in services]
            for instance in stopped:
                if instance.service == "browser":
                    assert instance.temporary
                    assert any("chrom" in one.name() for one in instance.family)
            with some_calls_long(environment):
                for instance in stopped:
                    await busy(environment, instance)
                    os.kill(instance.process.pid, signal.SIGTERM)
                await asyncio.gather(*(gone_without_a_trace(environment, instance) for instance in stopped))
            await asyncio.gather(*(crowd.more(1) for crowd in crowds.values()))
        await asyncio.to_thread(environment.until_all_ready, WITHIN_S)
    assert {name: crowd.failed() for name, crowd in crowds.items() if crowd.failed()} == {}
    workspace = environment.state / "workspace"
    assert not list(workspace.rglob("*.tmp"))
    for file in workspace.glob("stopping-*"):
        file.unlink()


@pytest.mark.long
@pytest.mark.feature("B6", "A4", "F3")
async def test_scaling_down_keeps_pages_to_the_deadline_fails_nothing_else_and_leaves_nothing(
    environment: Any,
) -> None:
    url = f"{environment.gateway_url}/mcp"
    crowd = Crowd(url, [environment.key] * SPEAKERS["browser"], browse)
    answers: list[Answer] = []

    async def hold(handle: str) -> float:
        """Read a page again and again until it is gone; returns when that was."""
        while True:
            answer = await asked(holder, "browser_text", {"handle": handle})
            answers.append(answer)
            if answer.gone:
                return time.monotonic()
            await asyncio.sleep(0.2)

    async with scaled(environment, ["browser"]), sdk_client(url, environment.key, MODERN) as holder:
        stopped = (await asyncio.to_thread(instances_of, environment, "browser"))[1]
        handle = ""
        while instance_of(handle) != stopped.id:
            opened = await asked(holder, "browser_open", {})
            assert opened.result, opened
            handle = opened.result["handle"]
        async with crowd.speaking():
            await all_called(environment, "browser", crowd)
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
