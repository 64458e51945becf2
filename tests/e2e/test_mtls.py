"""Mutual TLS between everything real: Consul's CA, a gate with its agent, control plane, hub and instances."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from starlette.types import Receive, Scope, Send

from services.common.listen import bind, listening
from services.common.tls import LiveContext
from tests.e2e.conftest import Environment
from tests.support import guest
from tests.support.consul_process import ConsulProcess
from tests.support.gate import Gate, wait_until
from tests.support.identities import CONNECT, Papers, change_ca, forbid, papers, stranger
from tests.support.load import Load, body, headers
from tests.support.sdk import LEGACY, asked, sdk_client
from tests.support.stage import SERVICE, Stage, stage

pytestmark = [pytest.mark.local, pytest.mark.feature("E1"), pytest.mark.timeout(240)]

TOOL = f"{SERVICE}_echo"
TEXT = {"text": "hello"}
HOST = "tekup-gate.internal"
IN_FORCE_S = 2.0


def with_ca(folder: Path) -> ConsulProcess:
    return ConsulProcess(folder, connect=CONNECT)


@contextlib.contextmanager
def mutual(folder: Path, *, hub: bool = False) -> Iterator[Stage]:
    """A stage on which everybody proves itself by a certificate, with one gate."""
    with stage(folder, gates=(2,), registry=with_ca, mtls=True) as made:
        if hub:
            made.add_hub()
            wait_until(lambda: call(made, path="/mcp").status_code == 200, "a call of an older client", 60)
        yield made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage that tests use and none changes."""
    with mutual(tmp_path_factory.mktemp("stage"), hub=True) as made:
        yield made


def call(made: Stage, path: str = f"/{SERVICE}/mcp") -> httpx.Response:
    """One tool call as a client makes it; on `/mcp` one that the hub answers."""
    method, name = ("tools/list", "") if path == "/mcp" else ("tools/call", TOOL)
    params: dict[str, object] = {"name": TOOL, "arguments": TEXT} if name else {}
    return httpx.post(
        f"{made.gates[0].public}{path}",
        headers=headers(made.key, method, name),
        json=body(method, params),
        timeout=20,
        trust_env=False,
    )


def instance_url(made: Stage, service: str = SERVICE) -> str:
    """Where an instance serves."""
    found = httpx.get(f"{made.consul.url}/v1/health/service/mcp-{service}", trust_env=False).json()
    return f"127.0.0.1:{found[0]['Service']['Port']}"


def directly(made: Stage, by: Papers, scheme: str = "https") -> httpx.Response:
    """A call to the instance past the gate, with everything that a proven gate would send in development."""
    sent = {**headers("", "tools/call", TOOL), "X-Tekup-Client": "~hub", "X-Tekup-Service": SERVICE}
    del sent["Authorization"]
    with by.client() as http:
        url = f"{scheme}://{instance_url(made)}/mcp"
        return http.post(url, headers=sent, json=body("tools/call", {"name": TOOL, "arguments": TEXT}))


def inside(made: Stage, by: Papers, *, host: str = HOST, name: str = HOST) -> httpx.Response:
    """The list of services, as the hub asks for it at the internal entrypoint.

    Args:
        made: Where.
        by: Who asks.
        host: The Host header.
        name: What the connection is opened for.
    """
    with by.client() as http:
        where = made.internal_url
        return http.get(f"{where}/tekup/services", headers={"Host": host}, extensions={"sni_hostname": name})


# -- what works


def test_a_call_goes_through_the_gate_to_the_service(here: Stage) -> None:
    assert call(here).json()["result"]["structuredContent"] == TEXT


async def test_an_older_clients_call_goes_gate_hub_gate_service(here: Stage) -> None:
    async with sdk_client(f"{here.gates[0].public}/mcp", here.key, LEGACY) as client:
        answer = await asked(client, TOOL, TEXT)
    assert answer.result == TEXT


def test_the_control_plane_probes_through_the_internal_entrypoint(here: Stage) -> None:
    def probed() -> bool:
        shown = here.ask("GET", f"/v1/services/{SERVICE}")["instances"]
        return bool(shown) and all(one["probe"] == "ok" for one in shown)

    wait_until(probed, "probes of the ledger that work", 60)


def test_keys_lie_in_files_of_the_agents_alone(here: Stage) -> None:
    folder = here.gates[0].folder / "tls"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.glob("leaf-*.pem"))
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    shown = httpx.get(f"{here.gates[0].private}/api/rawdata", trust_env=False).text
    assert "PRIVATE KEY" not in shown + (here.gates[0].folder / "dynamic/identity.yml").read_text()


def test_the_local_environment_comes_up_and_calls_every_service(fresh_environment: Environment) -> None:
    up = fresh_environment.tekup_json("up", "--mtls")
    assert up["ok"] is True
    found = fresh_environment.tekup_json("doctor")
    mine = [one for one in found if one["what"].startswith("certificate mcp-")]
    assert len(mine) == 4
    assert all(one["ok"] for one in mine)
    done = fresh_environment.tekup_json("secrets", "rotate", "--all", "--reason", "with certificates")
    assert {one["kind"] for one in done} == {"consul-tokens", "gate-keys", "gossip"}
    assert fresh_environment.tekup_json("up")["ok"] is True


@pytest.mark.feature("A10")
async def test_connections_to_an_instance_are_pooled(here: Stage) -> None:
    port = int(instance_url(here).rsplit(":", 1)[1])
    seen: set[object] = set()
    load = Load(f"{here.gates[0].public}/{SERVICE}/mcp", here.key, TOOL, dict(TEXT))
    async with load.running(workers=16):
        for _ in range(20):
            await load.more(60)
            process = psutil.Process(here.instances[0].pid)
            mine = await asyncio.to_thread(process.net_connections, "tcp")
            seen |= {one.raddr for one in mine if one.laddr.port == port and one.status == "ESTABLISHED"}
    assert load.calls >= 1200
    assert not load.failures
    # 16 callers at once, health checks, and some that Traefik opened while none was free; without a pool 1,200.
    assert len(seen) <= 80, f"{len(seen)} connections for {load.calls} calls"


# -- who is refused


@pytest.mark.parametrize("name", ["mcp-hub", "mcp-other", "tekup-control-plane"])
def test_nobody_but_the_gate_calls_a_service(here: Stage, name: str) -> None:
    answer = directly(here, papers(here.consul, name))
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith(f"{name} may not call mcp-{SERVICE}")


def test_a_service_answers_neither_plain_http_nor_strangers(here: Stage) -> None:
    known = papers(here.consul, "tekup-gate")
    for by, scheme in ((known, "http"), (Papers("", "", known.roots, ""), "https"), (stranger(known), "https")):
        with pytest.raises(httpx.TransportError):
            directly(here, by, scheme)


def test_the_internal_entrypoint_answers_hub_and_control_plane(here: Stage) -> None:
    for name in ("mcp-hub", "tekup-control-plane"):
        assert SERVICE in inside(here, papers(here.consul, name)).json()["services"]


@pytest.mark.parametrize("name", [f"mcp-{SERVICE}", "tekup-gate", "mcp-hubs"])
def test_the_internal_entrypoint_refuses_other_names(here: Stage, name: str) -> None:
    answer = inside(here, papers(here.consul, name))
    assert answer.status_code == 403
    assert repr(name).replace("'", '"') in answer.json()["error"]["message"]


def test_one_callers_decision_is_not_anothers(here: Stage) -> None:
    sent = {**headers("", "tools/list"), "Host": HOST}
    del sent["Authorization"]
    statuses = []
    for name in ("mcp-hub", f"mcp-{SERVICE}", "mcp-hub", "tekup-gate"):
        with papers(here.consul, name).client() as http:
            answer = http.post(
                f"{here.internal_url}/{SERVICE}/mcp",
                headers=sent,
                json=body("tools/list"),
                extensions={"sni_hostname": HOST},
            )
            statuses.append(answer.status_code)
    assert statuses == [200, 403, 200, 403]


def test_the_internal_entrypoint_cuts_off_who_shows_no_certificate_of_the_ca(here: Stage) -> None:
    known = papers(here.consul, "mcp-hub")
    for by in (Papers("", "", known.roots, ""), stranger(known)):
        with pytest.raises(httpx.TransportError):
            inside(here, by)


def test_a_proof_of_development_opens_nothing_without_a_certificate(here: Stage) -> None:
    proof = {"X-Tekup-Caller": "hub", "X-Tekup-Proof": "00" * 32}
    answer = httpx.get(f"{here.gates[0].internal}/tekup/services", headers=proof, trust_env=False)
    assert answer.status_code == 403
    assert "by their certificates" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("host", "name"), [(HOST, "elsewhere"), ("elsewhere", "elsewhere"), ("elsewhere", HOST)])
def test_another_host_name_is_no_way_around_the_certificate(here: Stage, host: str, name: str) -> None:
    known = papers(here.consul, "mcp-hub")
    with contextlib.suppress(httpx.TransportError):
        answer = inside(here, Papers("", "", known.roots, ""), host=host, name=name)
        assert answer.status_code in (403, 404, 421), answer.text


@pytest.mark.parametrize(("name", "called"), [("mcp-other", False), (f"mcp-{SERVICE}", True)])
async def test_an_impostor_in_the_registry_gets_no_call(here: Stage, name: str, *, called: bool) -> None:
    known = papers(here.consul, name)  # Consul gives each its own name, and no other
    reached: list[str] = []

    async def impostor(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reached.append(scope["path"])
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    context = LiveContext(server_side=True)
    domain = known.uri.split("/")[2]
    context.renew(chain=known.chain, key=known.key, roots=known.roots, domains=frozenset({domain}))
    listener = bind("127.0.0.1", 0)
    async with listening(impostor, listener, context):
        await asyncio.to_thread(guest.register, here.consul.url, SERVICE, "bad000", "1.0.0", listener.port)
        try:
            routes = here.gates[0].folder / "dynamic/routes.yml"
            await asyncio.to_thread(wait_until, lambda: str(listener.port) in routes.read_text(), "its routes", 30)
            answers = [await asyncio.to_thread(call, here) for _ in range(40)]
        finally:
            await asyncio.to_thread(guest.deregister, here.consul.url, SERVICE, "bad000")
    assert {answer.status_code for answer in answers} == {200}
    assert ("/mcp" in reached) is called
    assert called or reached == []  # not even a health check


# -- what changes


def test_an_intention_taken_away_is_in_force_at_once_and_is_kept_by_the_leader(tmp_path: Path) -> None:
    with mutual(tmp_path) as made:
        assert call(made).status_code == 200
        made.replicas["r1"].end(signal.SIGKILL)
        forbid(made.consul, f"mcp-{SERVICE}")
        began_s = time.monotonic()
        wait_until(lambda: call(made).status_code == 403, "the service refuses the gate", 20)
        assert time.monotonic() - began_s < IN_FORCE_S
        made.add_replica("r2")
        wait_until(lambda: call(made).status_code == 200, "a new leader has written it again", 30)


@pytest.mark.long
async def test_leaves_and_ca_change_under_load_and_no_call_is_lost(tmp_path: Path) -> None:
    with mutual(tmp_path, hub=True) as made:
        load = Load(f"{made.gates[0].public}/{SERVICE}/mcp", made.key, TOOL, dict(TEXT))
        async with load.running(), Older(made).running() as older:
            # Consul's agent keeps leaves in memory: after a restart all get another of the same CA.
            before = leaf_of(made.gates[0])
            await asyncio.to_thread(made.consul.kill)
            await load.more(200)
            await asyncio.to_thread(made.consul.start)
            await renewed(made, before, leaves=2, roots=1)
            await asyncio.gather(load.more(300), older.more(30))

            before = leaf_of(made.gates[0])
            await asyncio.to_thread(change_ca, made.consul)
            await renewed(made, before, leaves=3, roots=2)
            await asyncio.gather(load.more(300), older.more(30))
        assert not load.failures
        assert not older.failures
        assert load.calls > 800


class Older:
    """An older client that calls on and on: through the hub, which calls through the internal entrypoint."""

    def __init__(self, made: Stage) -> None:
        self._made = made
        self.calls = 0
        self.failures: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Older]:
        """Call for the length of the block."""
        work = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def more(self, count: int) -> None:
        """Wait for so many further calls."""
        until = self.calls + count
        async with asyncio.timeout(60):
            while self.calls < until and not self.failures:
                await asyncio.sleep(0.02)

    async def _work(self) -> None:
        async with sdk_client(f"{self._made.gates[0].public}/mcp", self._made.key, LEGACY) as client:
            while True:
                answer = await asked(client, TOOL, TEXT)
                self.calls += 1
                if answer.result != TEXT:
                    self.failures.append(f"{answer}")


def leaf_of(gate: Gate) -> str:
    """The file of the gate's certificate in force."""
    pair = json.loads((gate.folder / "dynamic/identity.yml").read_text())["tls"]["stores"]["default"]
    return str(pair["defaultCertificate"]["certFile"])


async def renewed(made: Stage, before: str, *, leaves: int, roots: int) -> None:
    """Wait until the gate and every instance have other certificates."""

    def everywhere() -> bool:
        texts = [one.log.read_text() for one in made.instances]
        return leaf_of(made.gates[0]) != before and all(
            text.count("identity.leaf") >= leaves and text.count("identity.roots") >= roots for text in texts
        )

    await asyncio.to_thread(wait_until, everywhere, "other certificates everywhere", 60)


@pytest.mark.long
def test_calls_go_on_without_consul_and_through_a_restart_of_traefik(tmp_path: Path) -> None:
    with mutual(tmp_path, hub=True) as made:
        made.consul.kill()
        assert call(made).status_code == 200
        made.gates[0].stop()
        made.gates[0].start()
        wait_until(lambda: call(made).status_code == 200, "a call without Consul", 20)
        wait_until(lambda: call(made, "/mcp").status_code == 200, "a call to the hub without Consul", 20)
        for agent in made.agents:
            agent.end(signal.SIGKILL)
            agent.start()
        wait_until(lambda: "watch.unavailable" in made.agents[0].log.read_text(), "the agent misses Consul", 20)
        assert call(made).status_code == 200
