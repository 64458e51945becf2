"""The HTTP API of clients and keys: whole wishes, patches, limits, rotation, uses; undone by a rollback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.api import create_app
from control_plane.engine import Engine
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.model import Key, Table
from control_plane.sealed import RingFile, Sealing, sealed_by
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, running
from tests.support.wait import eventually

TOKEN = {"Authorization": "Bearer secret-token"}
NOW_S = 1_000_000
DAY_S = 86_400
SEARCH = {"name": "search", "tools": ["search_*"], "per_s": 5, "burst": 10, "concurrent": 0}
WHOLE: dict[str, Any] = {
    "allow": ["search_*"],
    "access": "read-only",
    "cohort": "beta",
    "roots": ["/srv/a"],
    "hosts": ["intranet:8443"],
    "limits": [SEARCH],
    "oauth": ["https://login.example#ci"],
}


class World:
    """An API over a store in memory.

    Args:
        store: The store.
        http: Asks the API.
        gates: What the gates' private entrypoints answer, by host; None does not answer.
    """

    def __init__(
        self, store: Memory, http: httpx.AsyncClient, gates: dict[str, str | None], plane: ControlPlane
    ) -> None:
        self.store = store
        self.http = http
        self.gates = gates
        self.plane = plane

    async def ok(self, method: str, path: str, body: object = None, **params: str) -> Any:
        """What the API answers well."""
        answer = await self.http.request(method, path, json=body, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def stored(self) -> dict[str, Key]:
        """The keys as they lie in the store."""
        listing = await self.store.read(Table.KEYS.prefix)
        return {name: Key.parse(entry.value, name) for name, entry in listing.entries.items()}


@pytest.fixture
def sealing() -> Sealing:
    return Sealing()


@pytest.fixture
async def world(sealing: Sealing) -> AsyncIterator[World]:
    store, gates = Memory(), dict[str, str | None]()

    def gate(request: httpx.Request) -> httpx.Response:
        said = gates.get(request.url.host)
        if said is None:
            raise httpx.ConnectError("nobody listens")
        return httpx.Response(200, text=said)

    async with httpx.AsyncClient(transport=httpx.MockTransport(gate)) as gate_http:
        plane = ControlPlane(
            store,
            store,
            Leadership(store, "one", url="http://one"),
            in_force_timeout_s=1,
            now=lambda: float(NOW_S),
            sealing=sealing,
            gate_http=gate_http,
        )
        async with running(plane, *(ObedientGate(store, f"gate-{n}") for n in range(1, 4))):
            transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
            async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as http:
                await http.post("/v1/init", json={})
                yield World(store, http, gates, plane)


async def test_a_client_is_added_whole_shown_whole_and_made_another_whole(world: World) -> None:
    assert (await world.ok("POST", "/v1/clients", {"id": "ci", **WHOLE, "reason": "x"}))["in_force"]
    shown = await world.ok("GET", "/v1/clients/ci")
    assert shown["client"] == {"id": "ci", **WHOLE}
    again = await world.ok("PUT", "/v1/clients/ci", {**WHOLE, "reason": "x"})
    assert (again["changed"], again["revision"]) == (False, 1)
    done = await world.ok("PUT", "/v1/clients/ci", {"allow": ["*"], "reason": "x", "expected_revision": 1})
    assert (done["changed"], done["in_force"], done["revision"]) == (True, True, 2)
    assert (await world.ok("GET", "/v1/clients/ci"))["client"]["limits"] == []


@pytest.mark.feature("C9")
async def test_a_patch_changes_what_it_names_is_recorded_and_comes_back_by_a_rollback(world: World) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", **WHOLE, "reason": "x"})
    patch = {"merge": {"cohort": ""}, "add": {"allow": ["browser_*"]}, "remove": {"hosts": ["intranet:8443"]}}
    tried = await world.ok("PATCH", "/v1/clients/ci", {**patch, "reason": "wider", "dry_run": True})
    fields = {one["path"]: (one["before"], one["after"]) for one in tried["changes"][0]["fields"]}
    assert fields == {"allow[1]": (None, "browser_*"), "cohort": ("beta", ""), "hosts[0]": ("intranet:8443", None)}
    assert (tried["dry_run"], tried["changed"], tried["revision"]) == (True, True, 1)
    done = await world.ok("PATCH", "/v1/clients/ci", {**patch, "reason": "wider"})
    assert (done["revision"], done["in_force"]) == (2, True)
    assert not (await world.ok("PATCH", "/v1/clients/ci", {**patch, "reason": "wider"}))["changed"]
    record = await world.ok("GET", "/v1/state/history/2")
    assert (record["verb"], record["author"], record["reason"]) == ("client.set", "operator", "wider")
    await world.ok("POST", "/v1/state/rollback", {"to": 1, "reason": "back"})
    assert (await world.ok("GET", "/v1/clients/ci"))["client"] == {"id": "ci", **WHOLE}


@pytest.mark.feature("A7")
async def test_a_limit_is_set_replaced_and_taken_away(world: World) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
    limit = {"tools": ["search_*"], "per_s": 5, "burst": 10, "reason": "x"}
    done = await world.ok("PUT", "/v1/clients/ci/limits/search", limit)
    assert (done["changed"], done["in_force"]) == (True, True)
    assert not (await world.ok("PUT", "/v1/clients/ci/limits/search", limit))["changed"]
    await world.ok("PUT", "/v1/clients/ci/limits/search", {"concurrent": 2, "reason": "x"})
    (held,) = (await world.ok("GET", "/v1/clients/ci"))["client"]["limits"]
    assert held == {"name": "search", "tools": [], "per_s": 0, "burst": 0, "concurrent": 2}
    assert (await world.ok("DELETE", "/v1/clients/ci/limits/search", reason="x"))["changed"]
    assert not (await world.ok("DELETE", "/v1/clients/ci/limits/search", reason="x"))["changed"]
    verbs = [one["verb"] for one in (await world.ok("GET", "/v1/state/history"))["records"]]
    assert verbs[:3] == ["client.unlimit", "client.limit", "client.limit"]


PUT, PATCH, POST = "PUT", "PATCH", "POST"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        (PUT, "/v1/clients/no", {"reason": "x"}, 404, "client no does not exist"),
        (PATCH, "/v1/clients/no", {"reason": "x"}, 404, "client no does not exist"),
        (PUT, "/v1/clients/no/limits/a", {"per_s": 1, "reason": "x"}, 404, "client no does not exist"),
        (PUT, "/v1/clients/ci", {"access": "some", "reason": "x"}, 422, "access: Input should be 'all'"),
        (PUT, "/v1/clients/ci", {"limits": [{"name": "a"}], "reason": "x"}, 422, "limit a limits nothing"),
        (PUT, "/v1/clients/ci", {"limits": [SEARCH, SEARCH], "reason": "x"}, 422, "two limits have one name"),
        (PUT, "/v1/clients/ci", {"oauth": ["nowhere"], "reason": "x"}, 422, "oauth.0: String should match"),
        (PUT, "/v1/clients/ci", {"reason": "x", "expected_revision": 9}, 409, "you read revision 9"),
        (PATCH, "/v1/clients/ci", {"merge": {"limits": [{"name": "a"}]}, "reason": "x"}, 422, "limits nothing"),
        (PATCH, "/v1/clients/ci", {"merge": {"nope": 1}, "reason": "x"}, 422, "nope: Extra inputs"),
        (PATCH, "/v1/clients/ci", {"add": {"nope": ["a"]}, "reason": "x"}, 422, "add.nope: Extra inputs"),
        (PATCH, "/v1/clients/ci", {"remove": {"roots": ["/srv/a"]}, "reason": "x"}, 422, "wider, not narrower"),
        (PATCH, "/v1/clients/ci", {"merge": {}}, 422, "reason: Field required"),
        (PUT, "/v1/clients/ci/limits/UP", {"per_s": 1, "reason": "x"}, 422, "bad limit: name: String should match"),
        (PUT, "/v1/clients/ci/limits/a", {"burst": 3, "reason": "x"}, 422, "limit a limits nothing"),
        (PUT, "/v1/clients/ci/limits/a", {"per_s": -1, "reason": "x"}, 422, "per_s: Input should be greater"),
        (PUT, "/v1/clients/ci/limits/a", {"per_s": 1e-9, "reason": "x"}, 422, "less than one call a day"),
        (POST, "/v1/keys/no/rotate", {"overlap_s": 1, "reason": "x"}, 404, "key or client no does not exist"),
        (POST, "/v1/keys/ci/rotate", {"overlap_s": 1, "reason": "x"}, 404, "key or client ci does not exist"),
        (POST, "/v1/keys/ci/rotate", {"overlap_s": -1, "reason": "x"}, 422, "overlap_s: Input should be greater"),
        (PATCH, "/v1/keys/no", {"expires": 0, "reason": "x"}, 404, "key no does not exist"),
        (PATCH, "/v1/keys/no", {"reason": "x"}, 422, "expires: Field required"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_written(
    world: World, method: str, path: str, body: object, status: int, said: str
) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", **WHOLE, "reason": "x"})
    answer = await world.http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert (await world.ok("GET", "/v1/status"))["revision"] == 1
    assert (await world.ok("GET", "/v1/clients/ci"))["client"] == {"id": "ci", **WHOLE}


@pytest.mark.feature("A5")
async def test_a_rotation_is_one_revision_that_leaves_both_keys_good_for_the_overlap(world: World) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
    old = await world.ok("POST", "/v1/clients/ci/keys", {"label": "laptop", "reason": "x"})
    rotation = {"overlap_s": 7 * DAY_S, "reason": "x"}
    tried = await world.ok("POST", "/v1/keys/ci/rotate", {**rotation, "dry_run": True})
    assert (tried["id"], tried["key"], tried["old"], tried["revision"]) == ("", "", old["id"], 2)
    made = await world.ok("POST", "/v1/keys/ci/rotate", rotation)
    assert (made["revision"], made["old"], made["old_expires"], made["client"]) == (
        3,
        old["id"],
        NOW_S + 7 * DAY_S,
        "ci",
    )
    keys = {one["id"]: one for one in (await world.ok("GET", "/v1/keys"))["keys"]}
    assert keys[old["id"]]["state"] == keys[made["id"]]["state"] == "good"
    assert (keys[made["id"]]["label"], keys[old["id"]]["expires"]) == ("laptop", NOW_S + 7 * DAY_S)
    undone = await world.ok("PATCH", f"/v1/keys/{old['id']}", {"expires": made["old_ended"], "reason": "x"})
    assert undone["changed"]
    assert (await world.stored())[old["id"]].expires == 0


@pytest.mark.feature("A5")
async def test_the_last_use_of_a_key_is_the_latest_over_gates_and_outlives_their_restart(world: World) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
    made = await world.ok("POST", "/v1/clients/ci/keys", {"reason": "x"})
    series = 'tekup_gate_key_last_used_seconds{{key="{}",client="ci"}} {}\n'
    world.store.gate_addresses = {"gate-1": "http://one", "gate-2": "http://two", "gate-3": "http://three"}
    world.store.gate_addresses["eve"] = "http://eve"
    world.gates["eve"] = series.format(made["id"], NOW_S)
    world.gates.update(one=series.format(made["id"], NOW_S - 5_000), two="# nothing\n")
    shown = await world.ok("GET", "/v1/clients/ci/keys")
    assert (shown["keys"][0]["last_used"], shown["keys"][0]["used_on"]) == (NOW_S - 5_000, ["gate-1"])
    assert shown["silent"] == ["gate gate-3 does not answer: http://three/metrics: ConnectError"]
    world.gates["two"] = series.format(made["id"], NOW_S - 10)
    (shown,) = (await world.ok("GET", "/v1/keys"))["keys"]
    assert (shown["last_used"], shown["used_on"]) == (NOW_S - 10, ["gate-1", "gate-2"])
    assert world.plane.usage
    await world.plane.usage.collect()
    world.gates.update(one="", two="", three="")
    shown = await world.ok("GET", "/v1/clients/ci")
    assert (shown["keys"][0]["last_used"], shown["keys"][0]["used_on"]) == (NOW_S - 10, [])
    assert (shown["used_since"], shown["silent"]) == (NOW_S, [])


async def test_a_gate_that_has_reported_and_is_in_no_catalog_is_said(world: World) -> None:
    await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
    silent = (await world.ok("GET", "/v1/clients/ci"))["silent"]
    assert silent == [f"gate gate-{n} is not in the catalog" for n in range(1, 4)]


def ring_file(path: Path, *keys: str) -> Path:
    spare = path.with_suffix(".new")
    spare.write_text(json.dumps({"keys": keys}))
    spare.chmod(0o600)
    spare.rename(path)
    return path


@pytest.mark.feature("E5")
class TestSealed:
    """With `MCP_API_KEY_ENCRYPTION`."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return ring_file(tmp_path / "ring.json", "11" * 32)

    @pytest.fixture
    def sealing(self, file: Path) -> Sealing:
        return Sealing(RingFile(file), on=True)

    async def test_keys_lie_sealed_whichever_verb_writes_them(self, world: World) -> None:
        await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
        await world.ok("POST", "/v1/clients/ci/keys", {"reason": "x"})
        await world.ok("POST", "/v1/keys/ci/rotate", {"overlap_s": 60, "reason": "x"})
        assert [bool(sealed_by(key)) for key in (await world.stored()).values()] == [True, True]
        assert "sealed." not in json.dumps(await world.ok("GET", "/v1/clients/ci"))

    async def test_the_leader_seals_again_by_itself_what_another_key_has_sealed(self, world: World, file: Path) -> None:
        await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
        made = await world.ok("POST", "/v1/clients/ci/keys", {"reason": "x"})
        before = sealed_by((await world.stored())[made["id"]])
        ring_file(file, "22" * 32, "11" * 32)

        async def resealed() -> bool:
            return sealed_by((await world.stored())[made["id"]]) != before

        await eventually(resealed, "the key sealed by the new one", 20)
        record = (await world.ok("GET", "/v1/state/history"))["records"][0]
        assert (record["verb"], record["author"], record["documents"]) == ("key.reseal", "control-plane", 1)
        assert not (await world.ok("POST", "/v1/reseal", {"reason": "x"}))["changed"]

    async def test_a_key_that_cannot_be_opened_is_named_and_the_others_are_sealed(
        self, world: World, file: Path
    ) -> None:
        await world.ok("POST", "/v1/clients", {"id": "ci", "reason": "x"})
        lost = await world.ok("POST", "/v1/clients/ci/keys", {"reason": "x"})
        ring_file(file, "33" * 32)
        done = await world.ok("POST", "/v1/reseal", {"reason": "x"})
        assert len(done["left"]) == 1
        assert done["left"][0].startswith(f"key {lost['id']}: sealed by key ")
        assert (await world.ok("DELETE", f"/v1/keys/{lost['id']}", reason="x"))["changed"]
