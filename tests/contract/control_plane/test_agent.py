"""The agent beside a real Traefik: the order of its work, and what it believes of whom (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest

from control_plane.agent.disk import GateFolder
from control_plane.consul import Consul
from control_plane.errors import Conflict, NotLeader, Unavailable
from control_plane.loop import Wish
from control_plane.model import ClientPolicy, InstanceState, Key, Table
from control_plane.ports import Write
from tests.support.gate import MAC, SERVICE_KEYS, Load
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.contract.control_plane.conftest import World

T = TypeVar("T")
WISH = Wish("test", "test")

pytestmark = [pytest.mark.local, pytest.mark.timeout(120)]
FILES = ("dynamic/routes.yml", "tables/services.json", "tables/clients.json")


def files(world: World) -> dict[str, tuple[int, bytes]]:
    """The agent's three files: when written, and what."""
    paths = {name: world.gate.folder / name for name in FILES}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in paths.items()}


def targets(world: World) -> set[str]:
    """The targets that stand in the routes."""
    routers: dict[str, object] = json.loads((world.gate.folder / FILES[0]).read_text())["http"]["routers"]
    return set(routers)


@pytest.mark.feature("C1", "C2", "C3")
async def test_versions_that_come_take_everything_and_go_lose_no_call(world: World) -> None:
    old = ("aaaaa1", "1.0.0")
    with Load(world.gate, "/alpha/mcp", world.gate_headers()) as calls:
        for number in range(2, 6):
            new = (f"aaaaa{number}", f"1.{number}.0")
            await world.instance(*new)
            await world.shift(new[1])
            await world.instance(*old, state="draining")

            async def leaving(name: str = old[0]) -> bool:
                known = GateFolder(world.gate.folder).recall().instances
                return any(one.id == name and one.state is InstanceState.DRAINING for one in known)

            # An agent that has not seen it leave believes its own checks, which still find it.
            await eventually(leaving, f"the agent to see {old[0]} drain")
            world.deregister(old[0])

            async def gone(target: str = f"alpha_{old[1].replace('.', '-')}") -> bool:
                return target not in targets(world)

            await eventually(gone, f"the routes of {old[1]} to go")
            await asyncio.to_thread(world.gate.kill, old[0])
            old = new
        await asyncio.to_thread(calls.more, 100)
    assert calls.lost == {}
    assert {f"aaaaa{number}" for number in range(1, 6)} <= calls.seen.keys()


@pytest.mark.feature("C1")
async def test_an_agent_that_starts_writes_nothing_until_consul_has_answered(world: World) -> None:
    world.stop_agent()
    before = files(world)
    world.server.kill()
    world.start_agent()

    async def asked() -> bool:
        return "watch.unavailable" in world.log

    await eventually(asked, "the agent to ask Consul in vain", 20)
    assert files(world) == before
    assert await world.served()
    await asyncio.to_thread(world.server.start)
    await eventually(world.report, "the agent to report again", 30)
    assert files(world)["dynamic/routes.yml"][1] == before["dynamic/routes.yml"][1]
    assert await world.served()


def content(world: World, name: str) -> object:
    """What a file holds, but for when it was written; None for nothing that can be read."""
    try:
        found: dict[str, object] = json.loads((world.gate.folder / name).read_bytes())
    except (OSError, ValueError):
        return None
    return {key: value for key, value in found.items() if key not in ("serial", "epoch", "number")}


def deleted(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def spoilt(path: Path) -> None:
    path.write_text('{"http": [')


@pytest.mark.feature("C2")
async def test_a_file_that_somebody_spoils_is_written_again(world: World) -> None:
    for name, spoil in itertools.product(FILES, (deleted, emptied, spoilt)):
        meant = content(world, name)
        spoil(world.gate.folder / name)

        async def mended(name: str = name, meant: object = meant) -> bool:
            return content(world, name) == meant

        await eventually(mended, f"{name} to be as it was, {spoil.__name__}")
        await eventually(world.served, "calls to be answered")


@pytest.mark.feature("C2")
@pytest.mark.parametrize("agent", ["running", "restarted"])
async def test_a_traefik_that_starts_on_spoilt_routes_gets_good_ones(world: World, agent: str) -> None:
    if agent == "restarted":
        world.stop_agent()
    await asyncio.to_thread(world.gate.stop)
    spoilt(world.gate.folder / FILES[0])
    await asyncio.to_thread(world.gate.launch)
    if agent == "restarted":
        world.start_agent()
    await eventually(world.served, "calls to be answered again", 30)


@pytest.mark.feature("C2")
async def test_a_file_restored_from_a_backup_is_put_right(world: World) -> None:
    await world.instance("aaaaa2", "1.1.0")
    old = (world.gate.folder / FILES[1]).read_bytes()
    await world.shift("1.1.0")
    (world.gate.folder / FILES[1]).write_bytes(old)

    async def right() -> bool:
        found = json.loads((world.gate.folder / FILES[1]).read_bytes())
        return bool(found["services"]["alpha"]["stable"] == "alpha_1-1-0")

    await eventually(right, "the table to be of now again")

    async def answered_by_the_new_one() -> bool:
        answer = await asyncio.to_thread(world.gate.call, "/alpha/mcp", world.gate_headers())
        return answer.status == 200 and answer.name == "aaaaa2"

    await eventually(answered_by_the_new_one, "calls to go where they should")


async def test_a_stray_configuration_is_swept_before_it_can_block_a_change(world: World) -> None:
    world.stop_agent()
    stray = world.gate.folder / "dynamic" / "old.yml"
    stray.write_text("http: [")
    world.start_agent()
    await world.instance("aaaaa2", "1.1.0")
    await world.shift("1.1.0")
    assert not stray.exists()
    assert "gate.stray_file_removed" in world.log


@pytest.mark.feature("C1")
async def test_consuls_word_alone_takes_no_instance_away_and_a_dead_one_goes(world: World) -> None:
    await world.instance("aaaaa2", "1.1.0")
    await world.shift("1.1.0")
    world.deregister("aaaaa1")
    world.deregister("aaaaa2")

    async def heard() -> bool:
        return not world.plane.instances()

    await eventually(heard, "the catalog to be empty")
    world.stop_agent()
    world.start_agent()
    await eventually(world.report, "the restarted agent's report", 20)
    assert {"alpha_1-0-0", "alpha_1-1-0"} <= targets(world)
    assert await world.served()
    await asyncio.to_thread(world.gate.kill, "aaaaa1")

    async def gone() -> bool:
        return "alpha_1-0-0" not in targets(world)

    await eventually(gone, "the dead one to go", 20)
    assert await world.served()


@pytest.mark.feature("C1")
async def test_the_last_instance_goes_without_a_word_about_routers(world: World) -> None:
    world.deregister("aaaaa1")
    await asyncio.to_thread(world.gate.kill, "aaaaa1")

    async def gone() -> bool:
        return targets(world) == {"placeholder"}

    await eventually(gone, "the last targets to go", 20)
    assert (await asyncio.to_thread(world.gate.call, "/alpha/mcp", world.gate_headers())).code == 503
    assert "does not show these routers" not in world.log


@pytest.mark.feature("A5")
async def test_a_revocation_outlives_the_agent_and_a_store_that_forgot_it(world: World) -> None:
    key_id = world.key.split("_")[1]
    async with Consul(world.server.url) as consul:
        kept = (await consul.read(Table.KEYS.prefix)).entries[key_id].value
        await world.plane.rights.revoke_key(key_id, WISH)
        assert not await world.served()
        world.stop_agent()
        assert not Key.parse(kept, "key").revoked
        await consul.commit([Write(Table.KEYS.prefix + key_id, kept)])
        repairing = asyncio.create_task(world.plane.repair(WISH))
        world.start_agent()
        repaired = await repairing
    assert repaired.changed

    async def in_force() -> bool:
        report = await world.report()
        return report is not None and report.number >= repaired.revision.number

    await eventually(in_force, "the restored revision to be in force", 20)
    answer = await asyncio.to_thread(world.gate.call, "/alpha/mcp", world.gate_headers())
    assert answer.status == 401
    assert "revoked" in str(answer.error["message"])


@pytest.mark.feature("A5", "C2")
async def test_a_consul_restored_from_an_older_backup_is_taken_up_once_that_is_accepted(
    world: World, tmp_path: Path
) -> None:
    world.server.kill()
    shutil.copytree(world.server.data, tmp_path / "backup")
    await asyncio.to_thread(world.server.start)
    await eventually(world.report, "the gate's report", 30)
    later = (await until_led(lambda: world.plane.rights.create_key("dev", WISH)))[0]
    await until_led(lambda: world.plane.rights.revoke_key(world.key.split("_")[1], WISH))
    world.server.kill()
    world.server.lose_data()
    shutil.copytree(tmp_path / "backup", world.server.data)
    await asyncio.to_thread(world.server.start)

    async def refuses_to_go_back() -> bool:
        report = await world.report()
        return report is not None and any("restore a newer backup" in problem for problem in report.problems)

    await eventually(refuses_to_go_back, "the gate to say that Consul is older", 30)
    with pytest.raises(Conflict, match="older state was restored"):
        await until_led(lambda: world.plane.rights.add_client(ClientPolicy(id="ci"), WISH))
    repaired = await until_led(lambda: world.plane.repair(WISH))
    assert (repaired.revision.epoch, repaired.waiting_for) == (2, ())
    # The older state knew nothing of the revocation; the gate did. And it knows nothing of the later key.
    assert not await world.served()
    assert (await world.plane.policy()).keys[world.key.split("_")[1]].revoked
    world.key = later.text
    assert not await world.served()
    world.key = (await until_led(lambda: world.plane.rights.create_key("dev", WISH)))[0].text
    assert await world.served()


async def until_led(verb: Callable[[], Awaitable[T]]) -> T:
    """A verb's outcome, once Consul has let this replica lead again."""

    async def tried() -> T | None:
        with suppress(NotLeader, Unavailable):
            return await verb()
        return None

    return await eventually(tried, "this replica to lead again", 30)


async def test_one_folder_has_one_agent(world: World) -> None:
    second = world.start_agent()
    assert await asyncio.to_thread(second.wait, 20) == 78
    assert f"another agent runs on {world.gate.folder}" in world.log


@pytest.mark.feature("E5")
async def test_traefiks_api_shows_no_secret(world: World) -> None:
    clients = json.loads((world.gate.folder / FILES[2]).read_text())
    secrets = {MAC, *SERVICE_KEYS.values(), *(key["hash"] for key in clients["keys"].values()), world.key}
    for path in (
        "/api/rawdata",
        "/api/http/middlewares",
        "/api/http/routers",
        "/api/overview",
        "/tekup/state",
        "/metrics",
    ):
        answer = await asyncio.to_thread(world.gate.http.get, world.gate.private + path)
        assert answer.status_code == 200, path
        assert not [secret for secret in secrets if secret in answer.text], path


async def test_a_client_too_large_for_a_grant_holds_up_nobody_else(world: World) -> None:
    """Another hand put it there: the verbs refuse it."""
    rights = json.dumps({"id": "wide", "allow": [f"alpha_{number:0200}" for number in range(40)]}).encode()
    key_id = world.key.split("_")[1]
    async with Consul(world.server.url) as consul:
        kept = Key.parse((await consul.read(Table.KEYS.prefix)).entries[key_id].value, "key")
        theirs = kept.model_copy(update={"id": "ffffffffff", "client": "wide"})
        await consul.commit(
            [
                Write(Table.CLIENTS.prefix + "wide", rights),
                Write(Table.KEYS.prefix + theirs.id, theirs.to_bytes()),
            ]
        )
        await world.plane.repair(WISH)
    outcome = await world.plane.rights.revoke_key(key_id, WISH)
    assert not outcome.waiting_for
    assert not await world.served()
    report = await world.report()
    assert report is not None
    assert any("key ffffffffff is refused" in problem for problem in report.problems)


@pytest.mark.feature("D3")
async def test_the_gate_stands_in_the_catalog_with_its_private_entrypoint_and_comes_back_when_lost(
    world: World,
) -> None:
    url = f"{world.server.url}/v1/health/service/tekup-gate?passing"

    async def shown() -> dict[str, Any] | None:
        async with httpx.AsyncClient() as client:
            found = (await client.get(url)).json()
        return found[0]["Service"] if found else None

    service = await eventually(shown, "the gate in the catalog", 20)
    assert (service["ID"], service["Meta"]["gate"]) == ("tekup-gate-gate", "gate")
    assert world.gate.private == f"http://{service['Address']}:{service['Port']}"
    async with httpx.AsyncClient() as client:
        await client.put(f"{world.server.url}/v1/agent/service/deregister/tekup-gate-gate")
    await eventually(shown, "the gate in the catalog again", 20)
