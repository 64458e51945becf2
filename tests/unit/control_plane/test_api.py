"""The HTTP API over a control plane in memory: token, bodies, problems, the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from control_plane.api import create_app
from control_plane.api.app import ALL_ROUTES as ROUTES
from control_plane.engine import Engine
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

TOKEN = {"Authorization": "Bearer secret-token"}


@pytest.fixture
async def api() -> AsyncIterator[httpx.AsyncClient]:
    store = Memory()
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as client:
            await client.post("/v1/init", json={})
            yield client


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic secret-token", "Bearer secret-token-and-more"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_without_the_operator_token_nothing_answers(api: httpx.AsyncClient, route: object, given: str) -> None:
    answer = await api.request(route.method, route.path, headers={"Authorization": given}, json={})  # type: ignore[attr-defined]
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/clients", {"reason": "x"}, 422, "id: Field required"),
        ("POST", "/v1/clients", {"id": "UPPER", "reason": "x"}, 422, "id: String should match pattern"),
        ("POST", "/v1/clients", {"id": "ci"}, 422, "reason: Field required"),
        ("POST", "/v1/clients", {"id": "ci", "reason": "x", "oops": 1}, 422, "oops: Extra inputs are not permitted"),
        ("PUT", "/v1/services/search/traffic", {"weights_pct": {"1": 1}, "reason": "x"}, 404, "service search"),
        ("PUT", "/v1/services/search/traffic", {}, 422, "weights_pct: Field required"),
        ("DELETE", "/v1/clients/ci", None, 422, "a reason is needed"),
        ("DELETE", "/v1/keys/k1?reason=x", None, 404, "key k1 does not exist"),
        ("GET", "/v1/clients/ci/keys", None, 404, "client ci does not exist"),
        ("GET", "/v1/nowhere", None, 404, "Not Found"),
        ("PATCH", "/v1/clients", None, 405, "Method Not Allowed"),
    ],
)
async def test_bad_input_is_a_problem_that_names_it(
    api: httpx.AsyncClient, method: str, path: str, body: object, status: int, said: str
) -> None:
    answer = await api.request(method, path, json=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


async def test_a_body_that_is_not_json_is_a_problem(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/clients", content=b"{")
    assert (answer.status_code, answer.json()["title"]) == (422, "Refused")


async def test_a_huge_body_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/clients", content=b" " * (1 << 21))
    assert answer.status_code == 413


@pytest.mark.feature("A5")
async def test_a_client_and_its_keys_from_birth_to_revocation(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/clients", json={"id": "ci", "reason": "x"})).json()["in_force"]
    made = (await api.post("/v1/clients/ci/keys", json={"reason": "x", "label": "laptop"})).json()
    assert made["key"].startswith(f"tk_{made['id']}_")
    listed = (await api.get("/v1/clients/ci/keys")).json()["keys"]
    assert [(key["id"], key["label"], key["revoked"]) for key in listed] == [(made["id"], "laptop", 0)]
    assert "hash" not in listed[0]
    revoked = (await api.delete(f"/v1/keys/{made['id']}", params={"reason": "lost"})).json()
    assert (revoked["changed"], revoked["in_force"]) == (True, True)
    assert (await api.get("/v1/clients/ci/keys")).json()["keys"][0]["revoked"] > 0


async def test_init_twice_changes_nothing(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/init", json={})).json() == {"initialised": False, "epoch": 1, "revision": 0}


async def test_the_openapi_document_names_every_route(api: httpx.AsyncClient) -> None:
    document = (await api.get("/v1/openapi.json", headers={"Authorization": ""})).json()
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES} | {("GET", "/v1/events")}
    events = document["paths"]["/v1/events"]["get"]
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert [one["name"] for one in events["parameters"]] == ["Last-Event-ID"]


@pytest.mark.feature("C9")
async def test_every_change_takes_an_idempotency_key_and_nothing_else_does(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/v1/openapi.json")).json()["paths"]
    for route in ROUTES:
        named = [one["name"] for one in paths[route.path][route.method.lower()]["parameters"]]
        assert ("Idempotency-Key" in named) is route.changes, route
