"""Operators over the HTTP API: roles, services, rotation, expiry, revocation, pace; and what is kept of tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from control_plane.api import create_app
from control_plane.api.app import ALL_ROUTES
from control_plane.api.pace import Pace
from control_plane.api.route import ApiRoute
from control_plane.engine import Engine
from control_plane.errors import Forbidden
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.model import Instance, Table
from control_plane.roles import Operator, Role
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, running
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C9")
ADMIN = "secret-token"
DAY_S = 86_400
SHIFT = {"weights_pct": {"1.1.0": 10}, "reason": "try it"}


@dataclass
class World:
    """An API over a store in memory, and a clock that is set."""

    store: Memory
    http: httpx.AsyncClient
    plane: ControlPlane
    now: list[float] = field(default_factory=lambda: [1_000_000.0])

    async def ask(self, method: str, path: str, body: object = None, token: str = ADMIN, **params: str) -> Any:
        """The answer, whatever it is."""
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, path, json=body, params=params, headers=headers)

    async def add(self, name: str, role: str, *services: str, expires: int = 0) -> str:
        """An operator's token."""
        body = {"name": name, "role": role, "services": services, "expires": expires, "reason": "test"}
        answer = await self.ask("POST", "/v1/operators", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store, now = Memory(), [1_000_000.0]
    plane = ControlPlane(
        store, store, Leadership(store, "one", url="http://one"), in_force_timeout_s=1, now=lambda: now[0]
    )
    async with running(plane, ObedientGate(store, "gate-1")):
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), ADMIN, pace=Pace(burst=100_000)))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            made = World(store, http, plane, now)
            assert (await made.ask("POST", "/v1/init", {})).is_success
            await store.register(
                *(
                    Instance(service, version, f"{number:06x}", "127.0.0.1", 1)
                    for number, (service, version) in enumerate(
                        (service, version) for service in ("search", "filesystem") for version in ("1.0.0", "1.1.0")
                    )
                )
            )

            async def taken_in() -> bool:
                return len((await made.ask("GET", "/v1/services")).json()["services"]) == 2 and all(
                    one["policy"] for one in (await made.ask("GET", "/v1/services")).json()["services"]
                )

            await eventually(taken_in, "both services taken in", 20)
            yield made


@pytest.mark.parametrize("route", ALL_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_says_which_role_it_needs_and_lesser_ones_are_refused(route: ApiRoute) -> None:
    path = {"service": "search"}
    for role in Role:
        if role.covers(route.role):
            route.refuse(Operator("ada", role), path)
        else:
            with pytest.raises(Forbidden, match="needs the role"):
                route.refuse(Operator("ada", role), path)
    if route.method == "DELETE":
        assert route.changes


async def test_a_viewer_looks_an_operator_shifts_and_an_admin_adds_clients(world: World) -> None:
    viewer, steers = await world.add("vera", "viewer"), await world.add("otto", "operator")
    admin = await world.add("ada", "admin")
    assert [(await world.ask("GET", "/v1/status", token=one)).status_code for one in (viewer, steers)] == [200, 200]
    shift = "/v1/services/search/traffic"
    assert (await world.ask("PUT", shift, SHIFT, viewer)).status_code == 403
    assert (await world.ask("PUT", shift, SHIFT, steers)).status_code == 200
    client = {"id": "ci", "reason": "x"}
    refused = await world.ask("POST", "/v1/clients", client, steers)
    assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")
    assert "needs the role admin, and otto is operator" in refused.json()["detail"]
    assert (await world.ask("POST", "/v1/clients", client, admin)).status_code == 200
    assert (await world.ask("GET", "/v1/operators", token=steers)).status_code == 403
    records = (await world.ask("GET", "/v1/state/history")).json()["records"]
    assert [(one["author"], one["verb"]) for one in records[:2]] == [("ada", "client.add"), ("otto", "traffic.set")]


async def test_who_is_bound_to_a_service_changes_nothing_else_by_whatever_way(world: World) -> None:
    token = await world.add("sam", "admin", "search")
    assert (await world.ask("PUT", "/v1/services/search/traffic", SHIFT, token)).status_code == 200
    assert (await world.ask("PUT", "/v1/services/filesystem/traffic", SHIFT, token)).status_code == 403
    assert (await world.ask("GET", "/v1/services/filesystem", token=token)).status_code == 403
    everything = (await world.ask("GET", "/v1/state/resources")).json()["resources"]
    for one in everything:
        one["lanes"] = [{"version": "1.0.0", "weight_pct": 95}, {"version": "1.1.0", "weight_pct": 5}]
    wish = {"resources": everything, "reason": "x"}
    answer = await world.ask("POST", "/v1/state/apply", wish, token)
    assert answer.status_code == 403
    assert "tekup/policy/services/filesystem" in answer.json()["detail"]
    own = [one for one in everything if one["name"] == "search"]
    others = (await world.ask("GET", "/v1/state/resources")).json()["resources"]
    wish["resources"] = own + [one for one in others if one["name"] == "filesystem"]
    assert (await world.ask("POST", "/v1/state/apply", wish, token)).status_code == 200
    for method, path, body in (
        ("POST", "/v1/clients", {"id": "ci", "reason": "x"}),
        ("POST", "/v1/operators", {"name": "eve", "role": "admin", "reason": "x"}),
        ("POST", "/v1/repair", {"reason": "x"}),
        ("DELETE", "/v1/gates/gate-1", None),
    ):
        assert (await world.ask(method, path, body, token)).status_code == 403, path


async def test_a_token_ends_is_rotated_and_revoked_and_only_its_hash_is_kept(world: World) -> None:
    first = await world.add("ada", "admin", expires=1_000_000 + DAY_S)
    again = await world.ask("POST", "/v1/operators", {"name": "ada", "role": "viewer", "reason": "x"})
    assert (again.status_code, again.json()["title"]) == (409, "Conflict")
    rotated = (await world.ask("POST", "/v1/operators/ada/rotate", {"overlap_s": 3600, "reason": "x"})).json()
    second = rotated["token"]
    for one in (first, second):
        assert (await world.ask("GET", "/v1/who", token=one)).json() == {"name": "ada", "role": "admin", "services": []}
    world.now[0] += 3601
    assert (await world.ask("GET", "/v1/who", token=first)).status_code == 401
    shown = (await world.ask("GET", "/v1/operators")).json()["operators"]
    assert [(one["name"], one["built_in"]) for one in shown] == [("operator", True), ("ada", False)]
    assert [one["state"] for one in shown[1]["tokens"]] == ["expired", "good"]
    assert shown[1]["tokens"][0]["last_used"] == 1_000_000
    stored = str((await world.store.read("")).entries)
    assert not [secret for secret in (first, second) if secret in stored or secret.rpartition("_")[2] in stored]
    assert (await world.ask("DELETE", "/v1/operators/ada", reason="gone")).status_code == 200
    assert (await world.ask("GET", "/v1/who", token=second)).status_code == 401


async def test_no_answer_of_the_api_holds_a_hash_or_a_token(world: World) -> None:
    token = await world.add("ada", "viewer")
    [held] = (await world.plane.operators.all()).values()
    for route in (one for one in ALL_ROUTES if one.method == "GET" and "{" not in one.path):
        text = (await world.ask("GET", route.path)).text
        assert held.tokens[0].hash not in text
        assert token not in text
    changes = (await world.ask("GET", "/v1/state/history/" + str((await world.plane.page()).revision.number))).json()
    assert [(one["kind"], one["after"]) for one in changes["changes"]] == [("Operator", None)]


async def test_a_rollback_brings_no_token_back(world: World) -> None:
    token = await world.add("ada", "admin")
    number = (await world.plane.page()).revision.number
    await world.ask("DELETE", "/v1/operators/ada", reason="gone")
    await world.ask("POST", "/v1/clients", {"id": "ci", "reason": "x"})
    back = await world.ask("POST", "/v1/state/rollback", {"to": number, "reason": "x"})
    assert back.status_code == 200, back.text
    assert (await world.ask("GET", "/v1/who", token=token)).status_code == 401


@pytest.mark.parametrize("body", [{"name": "operator"}, {"name": "control-plane"}, {"name": "A"}, {"role": "root"}])
async def test_an_operator_that_makes_no_sense_is_refused(world: World, body: dict[str, str]) -> None:
    answer = await world.ask("POST", "/v1/operators", {"name": "ada", "role": "viewer", "reason": "x", **body})
    assert answer.status_code == 422, answer.text


async def test_a_document_that_makes_no_sense_lets_nobody_in_and_hides_nobody(world: World) -> None:
    token = await world.add("ada", "viewer")
    world.store.put(Table.OPERATORS.prefix + "aaa", b"{}")
    assert (await world.ask("GET", "/v1/who", token=token)).status_code == 200


async def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_not() -> None:
    seconds = [0.0]
    pace = Pace(per_s=2, burst=3, clock=lambda: seconds[0])
    assert [pace.wait_s("ada") for _ in range(4)] == [0, 0, 0, 1]
    assert pace.wait_s("otto") == 0
    seconds[0] += 0.5
    assert [pace.wait_s("ada"), pace.wait_s("ada")] == [0, 1]


async def test_the_answer_to_who_asks_too_often_is_a_problem_with_the_seconds_to_wait(world: World) -> None:
    app = create_app(world.plane, Engine(world.plane, world.store), ADMIN, pace=Pace(per_s=0.1, burst=1))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        assert (await http.get("/v1/who", headers=headers)).status_code == 200
        answer = await http.get("/v1/who", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert answer.headers["content-type"] == "application/problem+json"
