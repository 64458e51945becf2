"""Two whole environments as two regions behind one front: cut, taken over, healed, handed back, under counted load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import make_environment
from tests.support.load import answered, body, headers
from tests.support.ports import free_ports
from tests.support.programs import program
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.feature("F6"), pytest.mark.timeout(1500)]
MOVED_S = 10.0
PER_S = 20
SECRET = "a" * 64
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
Json = dict[str, Any]


def page() -> dict[str, list[tuple[str, ...]]]:
    """What docs/operations.md tells people to type in two regions: by verb, each with where it is typed."""
    section = PAGE.read_text().split("\n## Two regions\n")[1].split("\n## ")[0]
    typed: dict[str, list[tuple[str, ...]]] = {}
    for line in "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)).splitlines():
        command, _, where = line.partition(" # in ")
        program_, group, verb, *rest = shlex.split(command)
        assert (program_, group) == ("tekup", "region")
        assert where in ("west", "east")
        typed.setdefault(verb, []).append((where, verb, *rest))
    return typed


class Region:
    """One environment as a region."""

    def __init__(self, environment: Any) -> None:
        self.there = environment

    def ask(self, method: str, path: str, given: Json | None = None) -> httpx.Response:
        token = {"Authorization": f"Bearer {self.there.operator_token}"}
        return httpx.request(
            method, self.there.control_plane_url + path, json=given, headers=token, timeout=60, trust_env=False
        )

    async def told(self, method: str, path: str, given: Json | None = None) -> Json:
        answer = await asyncio.to_thread(self.ask, method, path, given)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    async def tekup(self, *args: str) -> Json:
        found: Json = await asyncio.to_thread(self.there.tekup_json, "region", *args)
        return found

    async def part(self) -> str:
        return str((await self.told("GET", "/v1/region"))["part"])

    async def until_is(self, part: str) -> None:
        async def so() -> bool:
            with contextlib.suppress(httpx.TransportError, AssertionError):
                return await self.part() == part
            return False

        await eventually(so, f"the region to be {part}", 120)

    def lay_out(self) -> None:
        """The secret of both regions."""
        secret = self.there.directory / "region.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        with (self.there.directory / "tekup.toml").open("a") as file:
            file.write(f"MCP_REGION_SECRET_FILE = {str(secret)!r}\n")

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TEKUP_DIRECTORY") == str(self.there.directory):
                    found.append(process)
        return found

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing of the region answers: all its processes stand still, and go on afterwards as if nothing had been."""
        stopped = self.processes()
        try:
            for process in stopped:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGSTOP)
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)


class Steady:
    """A steady load on the front: when each call began, and how it ended."""

    def __init__(self, url: str, key: str, path: str) -> None:
        self._url, self._key, self._path = f"{url}/mcp", key, path
        self.ended: list[tuple[float, str]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        over = asyncio.Event()
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client, asyncio.TaskGroup() as tasks:
            beginning = tasks.create_task(self._begin(client, tasks, over))
            try:
                yield
            finally:
                over.set()
                await beginning

    async def _begin(self, client: httpx.AsyncClient, tasks: asyncio.TaskGroup, over: asyncio.Event) -> None:
        while not over.is_set() and len(self.ended) < 50_000:
            tasks.create_task(self._call(client))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 1 / PER_S)

    async def _call(self, client: httpx.AsyncClient) -> None:
        began_s = time.monotonic()
        asked = body("tools/call", {"name": "filesystem_read_file", "arguments": {"path": self._path}})
        _, problem = await answered(client, self._url, asked, headers(self._key, "tools/call", "filesystem_read_file"))
        self.ended.append((began_s, problem))

    def failed(self, since_s: float = 0) -> list[float]:
        """When the calls began that were not answered well."""
        return [began_s for began_s, problem in self.ended if problem and began_s >= since_s]

    async def more(self, count: int) -> None:
        """Wait until so many further calls have ended well."""
        good = sum(not problem for _, problem in self.ended)

        async def enough() -> bool:
            return sum(not problem for _, problem in self.ended) >= good + count

        await eventually(enough, f"{count} further calls", 120)


@contextlib.contextmanager
def front(folder: Path, printed: str) -> Iterator[str]:
    """A Traefik with what `tekup region front` prints."""
    (port,) = free_ports(1)
    (folder / "front.yml").write_text(printed)
    (folder / "traefik.yml").write_text(
        f"entryPoints: {{public: {{address: '127.0.0.1:{port}'}}}}\n"
        f"providers: {{file: {{filename: {folder / 'front.yml'}}}}}\n"
    )
    with (folder / "front.log").open("wb") as log:
        running = subprocess.Popen(
            [program("traefik"), f"--configFile={folder / 'traefik.yml'}"], stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[tuple[Region, Region]]:
    made = []
    try:
        for name in ("west", "east"):
            (tmp_path / name).mkdir()
            one = Region(make_environment(tmp_path / name))
            one.lay_out()
            made.append(one)
            one.there.start()
            shutil.copy(os.devnull, one.there.workspace / "same.txt")
            (one.there.workspace / "same.txt").write_text("the same in both")
        yield made[0], made[1]
    finally:
        for one in made:
            one.there.tekup("down")


async def test_a_region_is_cut_during_a_rollout_taken_over_healed_and_handed_back_and_no_change_is_lost(
    regions: tuple[Region, Region], tmp_path: Path
) -> None:
    west, east = regions
    told = page()

    def line(verb: str, at: int = 0) -> tuple[Region, list[str]]:
        where, *words = told[verb][at]
        for name, one in (("west", west), ("east", east)):
            words = [word.replace(f"https://{name}.example:3008", one.there.control_plane_url) for word in words]
            words = [word.replace(f"https://{name}.example:3000", one.there.gateway_url) for word in words]
        return {"west": west, "east": east}[where], words

    async def typed(verb: str, at: int = 0) -> Json:
        region, words = line(verb, at)
        return await region.tekup(*words)

    assert (await typed("take-over"))["part"] == "home"
    assert (await typed("follow"))["part"] == "follower"
    assert (await typed("show"))["behind_revisions"] == 0
    assert (await typed("left"))["records"]
    version = west.there.process("search").version
    for one in regions:
        await asyncio.to_thread(one.there.tekup_json, "scale", "search=1", "--version", "2.0.0")
    key = west.there.key
    region, words = line("front")
    printed = await asyncio.to_thread(region.there.tekup, "region", *words)
    assert printed.returncode == 0, printed.stderr
    with front(tmp_path, printed.stdout) as url:
        load = Steady(url, key, "same.txt")

        async def stands() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await asyncio.to_thread(httpx.get, f"{url}/mcp", trust_env=False)).status_code == 405
            return False

        await eventually(stands, "the front", 60)
        async with load.running():
            await load.more(3 * PER_S)
            assert not load.failed(), Counter(problem for _, problem in load.ended).most_common(3)
            made = [f"made-{number}" for number in range(10)]
            for client in made:
                await west.told("POST", "/v1/clients", {"id": client, "reason": f"for {client}"})
            await west.told(
                "POST",
                "/v1/services/search/rollout",
                {
                    "version": "2.0.0",
                    "reason": "under way",
                    "steps": [{"weight_pct": 10, "bake_s": 600, "analysis": False}],
                },
            )

            async def level() -> bool:
                lanes = (await east.told("GET", "/v1/services/search"))["policy"]["lanes"]
                shown = await east.told("GET", "/v1/region")
                return len(lanes) == 2 and shown["behind_revisions"] == 0

            await eventually(level, "east to have the rollout's first step", 60)
            with west.cut():
                cut_s = time.monotonic()
                await load.more(5 * PER_S)
                taken = await typed("take-over", 1)
                assert taken["part"] == "home"
                await east.told("POST", "/v1/clients", {"id": "after", "reason": "while west is away"})
                rollouts = (await east.told("GET", "/v1/rollouts"))["rollouts"]
                assert [one["service"] for one in rollouts if not one["ended"]] == ["search"]
                aborted = await east.told(
                    "POST", "/v1/services/search/rollout/abort", {"reason": "steered at the new home"}
                )
                assert aborted
                settled_s = time.monotonic()
                await load.more(5 * PER_S)
            failed = load.failed(cut_s - 5)
            moved_s = max((began_s - cut_s for began_s in failed), default=0.0)
            print(f"moved after {moved_s:.1f} s: {len(failed)} of {len(load.ended)} calls lost")
            assert moved_s < MOVED_S
            await west.until_is("follower")

            async def caught_up() -> bool:
                return "after" in {one["id"] for one in (await west.told("GET", "/v1/clients"))["clients"]}

            await eventually(caught_up, "west to have what was changed while it was away", 60)
            refused = await asyncio.to_thread(west.ask, "POST", "/v1/clients", {"id": "late", "reason": "test"})
            assert refused.status_code == 409
            assert not (await typed("left", 1))["records"], "west had nothing that east did not get"
            handed = await typed("hand-over")
            assert handed["part"] == "follower"
            await west.until_is("home")
            await west.told("POST", "/v1/clients", {"id": "home-again", "reason": "test"})
            await load.more(3 * PER_S)
        records = (await west.told("GET", "/v1/state/history?limit=200"))["records"]
        named = [one["reason"] for one in records if one["verb"] == "client.add"]
        for client in made:
            assert named.count(f"for {client}") == 1
        assert [(await one.told("GET", "/v1/region"))["left"] for one in regions] == [0, 0]
        lanes = (await west.told("GET", "/v1/services/search"))["policy"]["lanes"]
        assert [lane["version"] for lane in lanes if lane["weight_pct"] == 100] == [version]
        late = load.failed(settled_s + 1)
        print(f"{len(load.ended)} calls, {len(load.failed())} lost, {len(late)} after the front had moved")
