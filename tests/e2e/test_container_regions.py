"""Two environments of containers as two regions: cut from each other, taken over, healed and handed back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import told
from tests.support.container_environment import USER, ContainerEnvironment
from tests.support.drill import recovered
from tests.support.engine import Engine
from tests.support.load import Load
from tests.support.wait import eventually

pytestmark = [
    pytest.mark.docker,
    pytest.mark.long,
    pytest.mark.drill,
    pytest.mark.timeout(40 * 60),
    pytest.mark.feature("F6"),
]
SECRET = "5ec2e7" * 8
SOON_S = 60.0
NAMES = ("west", "east")


def host(name: str) -> str:
    return f"{name}.example"


@dataclass
class Region:
    """One environment, and how the other is reached from it."""

    name: str
    there: ContainerEnvironment
    engine: Engine

    @classmethod
    def of(cls, name: str, engine: Engine, prefix: str, folder: Path) -> Region:
        own = folder / name / "region"
        own.mkdir(parents=True)
        secret = own / "region.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        os.chown(secret, USER, USER)
        settings = {
            "MCP_PUBLIC_URL": f"https://{host(name)}",
            "MCP_REGION_FOLDER": str(own),
            "MCP_REGION_CA_FILE": "/region/ca.pem",
            "MCP_API_KEY_ENCRYPTION": "false",  # else both would need the same keys to seal with
        }
        return cls(
            name, ContainerEnvironment(engine.env, "staging", folder / name, f"{prefix}-{name}", settings), engine
        )

    def _container(self, service: str) -> str:
        return self.there.said("ps", "--quiet", service).strip()

    def trust(self, other: Region) -> None:
        """The other's authority is trusted here."""
        ca = Path(self.there.settings["MCP_REGION_FOLDER"]) / "ca.pem"
        ca.write_text(other.there.ca.read_text())

    def join(self, way: str) -> None:
        """Be where the other can be reached, and where it can reach this one's gate for operators by its name."""
        self.engine.docker("network", "connect", way, self._container("control-plane"))
        self.engine.docker("network", "connect", "--alias", host(self.name), way, self._container("operators-gate"))

    def leave(self, way: str) -> None:
        """Nothing comes from here to the other any more, nor back."""
        for service in ("control-plane", "operators-gate"):
            self.engine.docker("network", "disconnect", way, self._container(service))

    async def region(self, *args: str, reason: bool = True) -> Any:
        why = ("--reason", "a test") if reason else ()
        return told(await asyncio.to_thread(self.there.tekup, "region", *args, *why, "--json"))

    async def until_is(self, part: str) -> float:
        began_s = time.monotonic()

        async def so() -> bool:
            return bool((await self.region("show", reason=False))["part"] == part)

        await eventually(so, f"{self.name} to be {part}", SOON_S)
        return time.monotonic() - began_s

    async def add(self, client: str) -> str:
        """A client that may list roots, and its key."""
        for args in (("clients", "add", client, "--allow", "filesystem_list_roots"), ("keys", "create", client)):
            done = await asyncio.to_thread(self.there.tekup, *args, "--reason", "a test")
            assert done.returncode == 0, f"{self.name}: {done.stderr}"
        return done.stdout.split()[0]

    async def until_takes(self, key: str) -> float:
        """Wait until a key is good here; how long that took."""
        began_s = time.monotonic()

        async def taken() -> bool:
            load = Load(f"{self.there.gateway_url}/mcp", key, "filesystem_list_roots")
            await load.run(1, workers=1)
            return bool(load.versions)

        await eventually(taken, f"a key of the other region to be good in {self.name}", SOON_S)
        return time.monotonic() - began_s

    @contextlib.asynccontextmanager
    async def loaded(self, key: str) -> AsyncIterator[Load]:
        load = Load(f"{self.there.gateway_url}/mcp", key, "filesystem_list_roots")
        async with load.running(workers=2):
            yield load
        print(f"{self.name}: {load.calls} calls, failed {dict(load.failures)}")
        assert not load.failures


@pytest.fixture
def way(engine: Engine, run_prefix: str) -> Iterator[str]:
    """The network between the regions."""
    name = f"{run_prefix}-way"
    engine.docker("network", "create", name)
    yield name
    engine.docker("network", "rm", name)


@pytest.fixture
def regions(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, way: str, tmp_path: Path
) -> Iterator[tuple[Region, Region]]:
    """Two staging environments that can reach each other's operators' gate."""
    west, east = (Region.of(name, engine, run_prefix, tmp_path) for name in NAMES)
    with contextlib.ExitStack() as life, pytest.MonkeyPatch.context() as patch:
        for one in (west, east):
            life.callback(one.there.stop)
            one.there.start()
        both = tmp_path / "both.pem"
        both.write_text(west.there.ca.read_text() + east.there.ca.read_text())
        patch.setenv("SSL_CERT_FILE", str(both))
        for one, other in ((west, east), (east, west)):
            one.trust(other)
            one.join(way)
        yield west, east


async def test_two_environments_of_containers_are_cut_taken_over_healed_and_handed_back_and_no_change_is_lost(
    regions: tuple[Region, Region], way: str
) -> None:
    west, east = regions
    await west.region("take-over", "--peer", f"https://{host('east')}:3008")
    first = await west.add("first")
    await east.region("follow", f"https://{host('west')}:3008", "--replace")
    print(f"east has what west had after {await east.until_takes(first):.1f} s")
    async with west.loaded(first), east.loaded(first):
        second = await west.add("second")
        print(f"a change is there after {await east.until_takes(second):.1f} s")
        refused = await asyncio.to_thread(east.there.tekup, "clients", "add", "nobody", "--reason", "a test")
        assert refused.returncode != 0
        assert host("west") in refused.stderr

        west.leave(way)
        cut = await west.add("cut")  # east never hears of it
        began_s = time.monotonic()
        await east.region("take-over")
        third = await east.add("third")
        recovered("a region that takes over, and its first change", time.monotonic() - began_s, 60)
        await east.until_takes(third)

        west.join(way)
        print(f"west follows {await west.until_is('follower'):.1f} s after the cut is healed")
        await west.until_takes(third)
        left = await west.region("left", reason=False)
        assert "clients/cut" in str(left)
        gone = Load(f"{west.there.gateway_url}/mcp", cut, "filesystem_list_roots")
        await gone.run(1, workers=1)
        assert not gone.versions, "what the home never had is in force nowhere"

        await east.region("hand-over")
        await west.until_is("home")
        last = await west.add("last")
        await east.until_takes(last)
    await east.until_is("follower")
