"""The HTTP API of the state as a whole: resources, plan and apply, history and rollback, drift, dry runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest

from control_plane.api import create_app
from control_plane.engine import Engine
from control_plane.resources import parse_files, render, schema
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

pytestmark = pytest.mark.feature("C9")
TOKEN = {"Authorization": "Bearer secret-token"}
CI: dict[str, Any] = {"kind": "Client", "id": "ci", "allow": ["search_*"]}


@pytest.fixture
async def api() -> AsyncIterator[httpx.AsyncClient]:
    store = Memory()
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as client:
            await client.post("/v1/init", json={})
            yield client


async def apply(api: httpx.AsyncClient, *resources: dict[str, Any], **more: object) -> Any:
    answer = await api.post("/v1/state/apply", json={"resources": resources, "reason": "to see", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_schema_is_the_one_the_cli_prints(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/state/schema")).json() == schema()


async def test_a_set_is_planned_applied_and_exported(api: httpx.AsyncClient) -> None:
    planned = (await api.post("/v1/state/plan", json={"resources": [CI]})).json()
    assert [(one["action"], one["kind"], one["name"]) for one in planned["changes"]] == [("added", "Client", "ci")]
    done = await apply(api, CI, expected_revision=planned["revision"])
    assert (done["revision"], done["changed"], done["in_force"], done["dry_run"]) == (1, True, True, False)
    assert not (await apply(api, CI))["changed"]
    exported = (await api.get("/v1/state/resources")).json()
    assert exported == {
        "revision": 1,
        "resources": [{**CI, "access": "all", "cohort": "", "roots": [], "hosts": [], "limits": [], "oauth": []}],
    }
    for one in exported["resources"]:
        jsonschema.validate(one, schema())
    assert (await api.get("/v1/state/resources", params={"revision": 0})).json()["resources"] == []


async def test_a_change_is_shown_field_by_field(api: httpx.AsyncClient) -> None:
    await apply(api, CI)
    shown = (await api.post("/v1/state/diff", json={"resources": [{**CI, "cohort": "beta"}]})).json()
    assert shown["changes"][0]["fields"] == [{"path": "cohort", "before": "", "after": "beta"}]


async def test_history_and_rollback(api: httpx.AsyncClient) -> None:
    await apply(api, CI)
    await apply(api, {**CI, "cohort": "beta"})
    records = (await api.get("/v1/state/history", params={"limit": 2})).json()["records"]
    assert [(one["revision"], one["verb"], one["documents"]) for one in records] == [
        (2, "state.apply", 1),
        (1, "state.apply", 1),
    ]
    one = (await api.get("/v1/state/history/2")).json()
    assert one["changes"][0]["after"]["cohort"] == "beta"
    tried = (await api.post("/v1/state/rollback", json={"to": 1, "reason": "x", "dry_run": True})).json()
    assert (tried["changed"], tried["dry_run"], tried["revision"]) == (True, True, 2)
    done = (await api.post("/v1/state/rollback", json={"to": 1, "reason": "x"})).json()
    assert (done["changed"], done["revision"]) == (True, 3)
    assert (await api.get("/v1/state/resources")).json()["resources"][0]["cohort"] == ""


async def test_there_is_no_drift_and_nothing_to_restore(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/state/drift")).json() == {"revision": 0, "changes": [], "tables": [], "gates": []}
    assert not (await api.post("/v1/state/restore", json={"reason": "x"})).json()["changed"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/state/apply", {"resources": [], "reason": "x"}, 422, "holds no resource"),
        ("POST", "/v1/state/apply", {"resources": [CI]}, 422, "reason: Field required"),
        (
            "POST",
            "/v1/state/apply",
            {"resources": [CI], "reason": "x", "expected_revision": 7},
            409,
            "you read revision 7",
        ),
        ("POST", "/v1/state/plan", {"resources": [{"kind": "X"}]}, 422, "resources[0]: kind 'X' is unknown"),
        ("POST", "/v1/state/rollback", {"to": 9, "reason": "x"}, 404, "revision 9 does not exist"),
        ("POST", "/v1/state/rollback", {"to": -1, "reason": "x"}, 422, "to: Input should be greater"),
        ("GET", "/v1/state/history/x", None, 422, "revision: 'x' is not a whole number"),
        ("GET", "/v1/state/history/99", None, 404, "revision 99 does not exist"),
        ("GET", "/v1/state/history?limit=0", None, 422, "limit 0 does not lie between 1 and 1000"),
        ("GET", "/v1/state/history?before=-1", None, 422, "before: '-1' is not a whole number"),
        ("GET", "/v1/state/resources?revision=9", None, 404, "revision 9 does not exist"),
        ("DELETE", "/v1/clients/ci?reason=x&dry_run=yes", None, 422, "dry_run: 'yes' is neither true nor false"),
    ],
)
async def test_bad_input_is_a_problem_that_names_it(
    api: httpx.AsyncClient, method: str, path: str, body: object, status: int, said: str
) -> None:
    answer = await api.request(method, path, json=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


async def test_a_set_may_be_larger_than_other_bodies(api: httpx.AsyncClient) -> None:
    many = [{**CI, "id": f"c{n}", "roots": ["/" + "x" * 500]} for n in range(3000)]
    assert (await api.post("/v1/state/plan", json={"resources": many})).status_code == 200
    assert (await api.post("/v1/state/plan", content=b" " * ((16 << 20) + 1))).status_code == 413


async def test_a_dry_run_of_a_key_makes_none(api: httpx.AsyncClient) -> None:
    await apply(api, CI)
    made = (await api.post("/v1/clients/ci/keys", json={"reason": "x", "dry_run": True})).json()
    assert (made["id"], made["key"], made["dry_run"]) == ("", "", True)
    gone = (await api.delete("/v1/clients/ci", params={"reason": "x", "dry_run": "true"})).json()
    assert [(one["action"], one["name"]) for one in gone["changes"]] == [("removed", "ci")]
    assert (await api.get("/v1/clients/ci/keys")).json()["keys"] == []


async def test_the_openapi_document_names_the_query(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/v1/openapi.json")).json()["paths"]
    assert [one["name"] for one in paths["/v1/state/history"]["get"]["parameters"]] == ["limit", "before"]
    of_a_change = [one["name"] for one in paths["/v1/keys/{key}"]["delete"]["parameters"]]
    assert of_a_change == ["key", "reason", "dry_run", "Idempotency-Key"]


LIMITED: dict[str, Any] = {
    **CI,
    "access": "read-only",
    "cohort": "",
    "roots": ["/srv/a"],
    "hosts": ["intranet:8443"],
    "limits": [{"name": "search", "tools": ["search_*"], "per_s": 2.5, "burst": 10, "concurrent": 0}],
    "oauth": ["https://login.example/realms/main#ci"],
}


@pytest.mark.feature("A7")
async def test_a_client_with_limits_goes_out_to_a_file_and_comes_back_the_same(api: httpx.AsyncClient) -> None:
    await apply(api, LIMITED)
    exported = (await api.get("/v1/state/resources")).json()["resources"]
    assert exported == [LIMITED]
    again = [one.document.model_dump(mode="json") for one in parse_files({"clients.yml": render(exported)})]
    planned = (
        await api.post("/v1/state/plan", json={"resources": [{"kind": "Client", **one} for one in again]})
    ).json()
    assert planned["changes"] == []
    wider = {**LIMITED, "limits": [{**LIMITED["limits"][0], "per_s": 5}]}
    (change,) = (await api.post("/v1/state/diff", json={"resources": [wider]})).json()["changes"]
    assert change["fields"] == [{"path": "limits[0].per_s", "before": 2.5, "after": 5.0}]


@pytest.mark.feature("A7")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limits": [{"name": "a"}]}, "limit a limits nothing; give per_s or concurrent"),
        ({"limits": [{"name": "a", "per_s": -1}]}, "limits.0.per_s: Input should be greater than or equal to 0"),
        ({"limits": [{"name": "a", "per_s": 1, "brust": 2}]}, "limits.0.brust: Extra inputs are not permitted"),
        ({"limits": [{"name": "a", "per_s": 1}] * 2}, "two limits have one name"),
        ({"limits": [{"name": f"l{n}", "per_s": 1} for n in range(17)]}, "at most 16 items"),
        ({"access": "write"}, "access: Input should be 'all', 'non-destructive' or 'read-only'"),
        ({"oauth": ["login.example"]}, "oauth.0: String should match pattern"),
        ({"allow": [f"{'x' * 64}{n}" for n in range(60)]}, "more than 4096"),
    ],
)
async def test_of_a_set_with_a_malformed_client_nothing_is_written(
    api: httpx.AsyncClient, wrong: dict[str, Any], said: str
) -> None:
    good = {**CI, "id": "good"}
    answer = await api.post("/v1/state/apply", json={"resources": [good, {**CI, **wrong}], "reason": "x"})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert (await api.get("/v1/state/resources")).json() == {"revision": 0, "resources": []}


@pytest.mark.feature("E7")
async def test_a_note_is_a_revision_of_its_own_that_changes_nothing_and_needs_a_reason(api: httpx.AsyncClient) -> None:
    await apply(api, CI)
    noted = await api.post("/v1/state/notes", json={"what": "secrets rotated: gossip", "reason": "a test"})
    assert (noted.status_code, noted.json()["revision"], noted.json()["in_force"]) == (200, 2, True)
    newest = (await api.get("/v1/state/history", params={"limit": 1})).json()["records"][0]
    assert (newest["verb"], newest["reason"], newest["documents"]) == ("note", "secrets rotated: gossip: a test", 0)
    assert (await api.post("/v1/state/notes", json={"what": "x", "reason": " "})).status_code >= 400
    assert (await api.get("/v1/state/drift")).json()["changes"] == []
    back = await api.post("/v1/state/rollback", json={"to": 2, "reason": "to a note"})
    assert back.status_code == 200
    assert [one["id"] for one in (await api.get("/v1/state/resources")).json()["resources"]] == ["ci"]
