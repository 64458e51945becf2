"""Versions and numbers of real containers, brought about by the control plane under counted load: staging or prod."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from compose.images.tested import ids_of, note
from tests.support.container_environment import ContainerEnvironment, is_well
from tests.support.drill import recovered
from tests.support.engine import Engine
from tests.support.gate import wait_until
from tests.support.images import our_images
from tests.support.load import Load
from tests.support.wait import eventually

pytestmark = [
    pytest.mark.docker,
    pytest.mark.production,
    pytest.mark.long,
    pytest.mark.timeout(20 * 60),
    pytest.mark.feature("C5", "C11", "F3"),
]
OLD, NEW, NEVER = "0.1.0", "0.2.0", "0.3.0"
DEPLOY_S = 400.0
SOON_S = 120.0
FLIP = ("--strategy", "blue-green", "--keep-warm", "5")


@pytest.fixture(scope="module")
def stack(environment: object) -> ContainerEnvironment:
    """The environment, which is one of containers."""
    return cast("ContainerEnvironment", environment)


@pytest.fixture(scope="module")
def record(engine: Engine, base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That a further version of search and filesystem was tested, which is there."""
    our_images(engine, base, "search", "filesystem", "--version", NEW)
    record = tmp_path_factory.mktemp("tested") / "tested.json"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.env.items():
            patch.setenv(name, value)
        note({**ids_of(OLD), **ids_of(NEW, ["search", "filesystem"])}, record)
    return record


async def deployed(stack: ContainerEnvironment, record: Path, *args: str) -> tuple[int, str]:
    """The exit code of `tekup deploy`, and what it said."""
    done = await asyncio.to_thread(
        stack.deploy, *args, "--reason", "a test", "--tested", str(record), timeout_s=DEPLOY_S
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def versions(stack: ContainerEnvironment, service: str) -> list[str]:
    """The version of each container of a service."""
    return sorted(one["Image"].rpartition(":")[2].replace("latest", OLD) for one in stack.containers(f"mcp-{service}"))


@asynccontextmanager
async def loaded(stack: ContainerEnvironment, tool: str, arguments: dict[str, object]) -> AsyncIterator[Load]:
    """Calls without a pause; each has to be answered well."""
    load = Load(f"{stack.gateway_url}/mcp", stack.key, tool, arguments)
    async with load.running(workers=4):
        yield load
    print(f"{tool}: {load.calls} calls, {dict(load.versions)}, failed {dict(load.failures)}")
    assert not load.failures


async def test_a_new_version_comes_up_beside_the_old_gets_the_calls_and_back_again_and_none_is_lost(
    stack: ContainerEnvironment, record: Path
) -> None:
    before = versions(stack, "search")
    async with loaded(stack, "search_status", {}) as load:
        began = time.monotonic()
        code, said = await deployed(stack, record, "search", "--version", NEW, *FLIP)
        print(f"there after {time.monotonic() - began:.1f} s: {said}")
        assert code == 0, said
        await load.more(20)
        assert versions(stack, "search") == [NEW] * len(before)
        answered = load.versions[OLD]
        began = time.monotonic()
        code, said = await deployed(stack, record, "search", "--version", OLD, *FLIP)
        print(f"back after {time.monotonic() - began:.1f} s")
        assert code == 0, said
        await load.more(20)
        assert load.versions[OLD] > answered
        assert load.versions[NEW] > 0
    assert versions(stack, "search") == before
    again = await asyncio.to_thread(
        stack.deploy, "search", "--version", OLD, "--reason", "again", "--tested", str(record)
    )
    assert again.returncode == 0
    assert versions(stack, "search") == before, "a wish that is true changes nothing"
    trail = await asyncio.to_thread(stack.tekup, "audit", "list", "--json")
    assert "a test" in trail.stdout


async def test_a_canary_has_copies_and_then_a_share_is_judged_promoted_and_taken_back_and_no_call_is_lost(
    stack: ContainerEnvironment, record: Path
) -> None:
    before, where = versions(stack, "filesystem"), "/v1/services/filesystem/deployment"
    steps = [{"mirror": True, "bake_s": 10, "verdict_s": 120}, {"weight_pct": 25, "bake_s": 15, "verdict_s": 120}]
    async with loaded(stack, "filesystem_list_roots", {}) as load:
        for version in (NEW, OLD):
            began = time.monotonic()
            wish = {"version": version, "strategy": "canary", "steps": steps, "keep_warm_s": 5, "reason": "a canary"}
            accepted = await asyncio.to_thread(stack.ask, "POST", where, wish)
            assert accepted.is_success, accepted.text

            async def done() -> bool:
                shown = (await asyncio.to_thread(stack.ask, "GET", where)).json()
                assert shown["stage"] != "failed", shown["said"]
                return bool(shown["stage"] == "done")

            await eventually(done, f"{version} to have all calls", DEPLOY_S)
            told = await asyncio.to_thread(stack.tekup, "rollout", "status", "filesystem")
            print(f"{version} after {time.monotonic() - began:.0f} s: {told.stdout}")
            answered = load.versions[version]
            await load.more(20)
            assert load.versions[version] >= answered + 20
    assert versions(stack, "filesystem") == before


async def test_more_instances_and_fewer_again_without_a_lost_call(stack: ContainerEnvironment, record: Path) -> None:
    few = len(versions(stack, "filesystem"))
    async with loaded(stack, "filesystem_list_roots", {}) as load:
        for number in (few + 2, few):
            began = time.monotonic()
            code, said = await deployed(stack, record, "filesystem", "--version", OLD, "--instances", str(number))
            assert code == 0, said
            print(f"{number} instances after {time.monotonic() - began:.1f} s")
            assert len(versions(stack, "filesystem")) == number
            await load.more(20)


async def test_what_was_not_tested_and_what_is_no_service_is_refused_before_anything_is_touched(
    stack: ContainerEnvironment, record: Path, tmp_path: Path
) -> None:
    before = versions(stack, "search")
    empty = tmp_path / "none.json"
    for args, said in (
        (("search", "--version", NEW, "--tested", str(empty)), "not tested"),
        (("search", "--version", "9.9.9"), "the engine has no image"),
        (("consul", "--version", NEW), "there is no service 'consul'"),
        (("search",), "latest says nothing"),
        (("--instances", "3"), "is about one service"),
    ):
        done = await asyncio.to_thread(stack.deploy, *args)
        assert done.returncode != 0
        assert said in " ".join(done.stderr.split())
    assert versions(stack, "search") == before


async def test_a_version_that_is_aborted_on_its_way_goes_and_leaves_things_as_they_were(
    stack: ContainerEnvironment, record: Path
) -> None:
    before = versions(stack, "search")
    async with loaded(stack, "search_status", {}) as load:
        flip = ("--strategy", "blue-green", "--keep-warm", "600")
        going = asyncio.create_task(deployed(stack, record, "search", "--version", NEW, *flip))

        async def flipped() -> bool:
            return load.versions[NEW] > 50

        await eventually(flipped, "calls at the new version", SOON_S)
        done = await asyncio.to_thread(stack.tekup, "rollout", "abort", "search", "--reason", "no")
        assert done.returncode == 0, done.stderr
        code, said = await going
        assert code != 0
        assert "things are as they were" in said
    assert versions(stack, "search") == before


async def test_a_version_that_never_gets_ready_gets_no_call_and_goes_and_leaves_things_as_they_were(
    stack: ContainerEnvironment, engine: Engine, record: Path, tmp_path: Path
) -> None:
    before = versions(stack, "search")
    waits = '["/opt/tekup/bin/python", "-c", "import time; time.sleep(3600)"]'
    (tmp_path / "Dockerfile").write_text(f"FROM tekup/mcp-search:{NEW}\nENTRYPOINT {waits}\nCMD []\n")
    engine.docker("build", "--tag", f"tekup/mcp-search:{NEVER}", str(tmp_path))
    tested = tmp_path / "tested.json"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.env.items():
            patch.setenv(name, value)
        note({**ids_of(OLD), **ids_of(NEVER, ["search"])}, tested)
    load = Load(f"{stack.gateway_url}/mcp", stack.key, "search_status")
    async with load.running(workers=1):
        began = time.monotonic()
        code, said = await deployed(stack, tested, "search", "--version", NEVER)
        print(f"given up after {time.monotonic() - began:.0f} s: {said[-300:]}")
        assert code != 0
        assert "things are as they were" in said
        await load.more(20)
    assert not load.failures
    assert NEVER not in load.versions
    assert versions(stack, "search") == before


async def test_the_number_of_containers_follows_the_load_within_15_s_and_no_call_is_lost(
    stack: ContainerEnvironment,
) -> None:
    few = len(versions(stack, "filesystem"))
    bounds = (
        "--min",
        str(few),
        "--max",
        str(few + 1),
        "--in-flight",
        "1",
        "--down-cooldown",
        "6",
        "--up-cooldown",
        "5",
    )

    async def number(wanted: int) -> float:
        began = time.monotonic()

        async def there() -> bool:
            shown = await asyncio.to_thread(stack.tekup_json, "traffic", "show", "filesystem")
            return bool(wanted == sum(one["passing"] and one["state"] == "serving" for one in shown["instances"]))

        try:
            await eventually(there, f"{wanted} instances", SOON_S)
        except AssertionError:
            print(await asyncio.to_thread(stack.tekup_json, "autoscale", "show", "filesystem"))
            raise
        return time.monotonic() - began

    try:
        await asyncio.to_thread(stack.tekup_json, "autoscale", "set", "filesystem", *bounds, "--reason", "test")
        async with loaded(stack, "filesystem_list_roots", {}) as load, load.running(workers=8):
            print(f"added after {await number(few + 1):.1f} s")
            await load.more(40)
        print(f"removed after {await number(few):.1f} s")
    finally:
        await asyncio.to_thread(stack.tekup_json, "autoscale", "off", "filesystem", "--reason", "test")


def crash(stack: ContainerEnvironment, engine: Engine, kind: str) -> Callable[[], bool]:
    """End a container's program as by a fault of its own; tells whether it is back."""
    engine.crash(stack.containers(kind)[0]["ID"])

    def back() -> bool:
        one = next(iter(stack.containers(kind)), None)
        return one is not None and is_well(one)

    return back


@pytest.mark.drill
@pytest.mark.parametrize(
    ("kind", "most_s"),
    [
        ("control-plane", 60), ("mcp-agent", 60), ("consul", 90), ("consul-1", 120), ("consul-access", 60),
        ("keeper", 60), ("certificate", 60), ("mcp-search", 60), ("egress", 60), ("operators-gate", 60),
    ],
)  # fmt: skip
async def test_the_kill_of_any_one_container_loses_no_call_but_its_own_and_it_is_back_in_time(
    stack: ContainerEnvironment, engine: Engine, kind: str, most_s: float
) -> None:
    load = Load(f"{stack.gateway_url}/mcp", stack.key, "filesystem_list_roots")
    async with load.running(workers=4):
        began = time.monotonic()
        back = await asyncio.to_thread(crash, stack, engine, kind)
        await asyncio.to_thread(wait_until, back, f"{kind} back", most_s)
        took_s = time.monotonic() - began
        await load.more(50)
    print(f"{kind}: back after {took_s:.1f} s; {load.calls} calls, failed {dict(load.failures)}")
    assert not load.failures
    recovered(f"a container of {kind}", took_s, most_s)


async def test_the_kill_of_the_only_gate_is_over_when_the_engine_has_started_it_again(
    stack: ContainerEnvironment, engine: Engine
) -> None:
    back = await asyncio.to_thread(crash, stack, engine, "mcp-gateway")
    began = time.monotonic()
    await asyncio.to_thread(wait_until, back, "the gate back", 60)

    async def answers() -> bool:
        asked = Load(f"{stack.gateway_url}/mcp", stack.key, "filesystem_list_roots")
        await asked.run(1)
        return not asked.failures

    await eventually(answers, "an answered call", 60)  # a running program does not listen yet
    took_s = time.monotonic() - began
    load = Load(f"{stack.gateway_url}/mcp", stack.key, "filesystem_list_roots")
    await load.run(50)
    print(f"mcp-gateway: back after {took_s:.1f} s")
    assert not load.failures
    recovered("a container of mcp-gateway", took_s, 60)
