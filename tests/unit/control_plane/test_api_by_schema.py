"""Everything that the OpenAPI document allows, asked with each role: no 5xx, no role beyond its rights, no secret said.

The API runs over a store in memory, in a thread of its own; nothing is asked over a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from control_plane.api import create_app
from control_plane.api.app import ALL_ROUTES
from control_plane.api.openapi import document
from control_plane.api.pace import Pace
from control_plane.api.route import ApiRoute
from control_plane.engine import Engine
from control_plane.roles import Role
from control_plane.rules import Sources
from tests.support.fake_metrics import FakeMetrics
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

pytestmark = [pytest.mark.feature("C9"), pytest.mark.long, pytest.mark.timeout(180)]
BUILT_IN = "the-built-in-secret"
EXAMPLES = 6


def _ok(found: Any) -> Any:
    """An operation of the document, which has to make sense."""
    return found.ok()


SCHEMA = schemathesis.openapi.from_dict(document(ALL_ROUTES))
OPERATIONS = {(one.method.upper(), one.path): one for one in map(_ok, SCHEMA.get_all_operations())}


@dataclass
class Api:
    """An API, operators of every role, and what must never be said."""

    loop: asyncio.AbstractEventLoop
    http: httpx.AsyncClient
    tokens: dict[Role, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def ask(self, token: str, **asked: Any) -> httpx.Response:
        """The answer."""
        asked["headers"] = {**(asked.get("headers") or {}), "Authorization": f"Bearer {token}"}
        return asyncio.run_coroutine_threadsafe(self.http.request(**asked), self.loop).result(30)


async def serve(ready: threading.Event, stop: asyncio.Event, made: list[Api]) -> None:
    """Serve until told to stop."""
    store = Memory()
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        plane.rules.asks(Sources(metrics=FakeMetrics()))
        app = create_app(plane, Engine(plane, store), BUILT_IN, pace=Pace(burst=1_000_000))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            made.append(await with_operators(Api(asyncio.get_running_loop(), http)))
            made[0].secrets |= {hash_ for one in (await plane.operators.all()).values() for hash_ in hashes(one)}
            ready.set()
            await stop.wait()


def hashes(one: Any) -> Iterator[str]:
    """What is kept of an operator's tokens."""
    yield from (token.hash for token in one.tokens)


async def with_operators(api: Api) -> Api:
    """The same with an operator of each role."""
    headers = {"Authorization": f"Bearer {BUILT_IN}"}
    await api.http.post("/v1/init", json={}, headers=headers)
    for role in Role:
        body = {"name": f"the-{role}", "role": role, "reason": "test"}
        api.tokens[role] = (await api.http.post("/v1/operators", json=body, headers=headers)).json()["token"]
    api.secrets |= {BUILT_IN, *api.tokens.values()}
    return api


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    ready, made = threading.Event(), list[Api]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, stop, made)))
    thread.start()
    assert ready.wait(30)
    yield made[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


def sound(api: Api, route: ApiRoute, role: Role, answer: httpx.Response) -> None:
    """Check an answer to an operator of a role."""
    about = f"{role}: {answer.request.method} {answer.request.url} {answer.request.content!r}: {answer.text}"
    assert answer.status_code < 500, about
    assert not [secret for secret in api.secrets if secret in answer.text], about
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", about
    if answer.status_code == 404 and answer.json()["detail"] == "Not Found":
        return  # the path is no route's: an id that was drawn holds a slash
    if not role.covers(route.role):
        assert answer.status_code in (403, 405, 413), about


@pytest.mark.parametrize("route", ALL_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_whatever_is_asked_by_whomever_the_answer_is_sound(api: Api, route: ApiRoute) -> None:
    operation = OPERATIONS[route.method, route.path]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        asked = case.as_transport_kwargs()
        asked = {name: asked[name] for name in ("method", "url", "params", "json") if name in asked}
        for role in Role:
            with contextlib.suppress(httpx.InvalidURL):
                sound(api, route, role, api.ask(api.tokens[role], **asked))

    ask()
    for role, token in api.tokens.items():
        if not api.ask(token, method="GET", url="/v1/who").is_success:
            api.tokens[role] = renewed(api, role)


def renewed(api: Api, role: Role) -> str:
    """Another token, for one that an admin's call has revoked."""
    body = {"name": f"the-{role}", "role": role, "reason": "test"}
    token: str = api.ask(BUILT_IN, method="POST", url="/v1/operators", json=body).json()["token"]
    api.secrets.add(token)
    return token
