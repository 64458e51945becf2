"""Every row of tests/vectors/decisions.json, through the real Traefik, where the plugin runs interpreted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pytest

if TYPE_CHECKING:
    from tests.support.gate import Gate

pytestmark = pytest.mark.local


class Expect(TypedDict, total=False):
    """What must come of a call."""

    status: int
    code: int
    reason: str
    says: str
    client: str
    service: str
    scope: str
    key: str
    grant: str
    challenge: str
    targets: list[str]
    gone: list[str]


class Row(TypedDict):
    """One call."""

    part: str
    case: str
    role: str
    method: str
    path: str
    headers: list[list[str]]
    expect: Expect


FILE = json.loads((Path(__file__).parents[1] / "vectors/decisions.json").read_text())
ROWS: list[Row] = FILE["rows"]
FEATURES = {
    "paths": "A2",
    "eras": "A2",
    "names": "A2",
    "keys": "A5",
    "rights": "A6",
    "handles": "A4",
    "spoofs": "A5",
    "within": "A5",
    "rules": "C8",
    "bearers": "A11",
}
TARGETS = {
    "alpha_1-0-0": "aaaaa1",
    "alpha_1-1-0": "aaaaa3",
    "beta_2-0": "bbbbb1",
    "hub_0-1-0": "ccccc1",
    "delta_1-0-0": "aaaaa1",
    "delta_2-0-0": "aaaaa3",
    "eps_1": "aaaaa1",
    "eps_2": "aaaaa3",
}


@pytest.fixture(scope="module")
def world(running_gate: Gate) -> Gate:
    """The gate with the tables of the rows."""
    routes: dict[str, dict[str, list[str]]] = {}
    for target, name in TARGETS.items():
        routes.setdefault(target.split("_")[0], {})[target] = [name]
    running_gate.routes(routes, ("delta_1-0-0~delta_2-0-0",))
    for name, table in FILE["world"].items():
        running_gate.write(f"tables/{name}.json", json.dumps(table))
    running_gate.serial = 1
    running_gate.in_force()
    return running_gate


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{row['part']}: {row['case']}", marks=pytest.mark.feature(FEATURES[row["part"]]))
        for row in ROWS
    ],
)
def test_the_gate_decides(world: Gate, row: Row) -> None:
    pairs = [(name, value) for name, value in row["headers"]]
    if row["role"] == "foreign":
        pairs.append(("X-Test-Foreign", "1"))
    entry = world.internal if row["role"] == "internal" else world.public
    answer = world.call(row["path"], pairs, row["method"], to=entry)
    expect = row["expect"]
    if "status" in expect:
        if "%" in row["path"]:
            assert answer.status in (400, 404)  # Traefik itself refuses some encodings
            return
        assert (answer.status, answer.code) == (expect["status"], expect["code"])
        assert expect["says"] in str(answer.error["message"])
        if expect.get("challenge"):
            assert answer.reply.headers["www-authenticate"] == expect["challenge"]
        return
    assert answer.status == 200
    got = answer.headers
    assert got["x-tekup-route"] in expect["targets"]
    assert (got["x-tekup-client"], got["x-tekup-service"]) == (expect["client"], expect["service"])
    assert got.get("x-tekup-scope", "") == expect["scope"]
    assert got["x-tekup-gate"] == FILE["gate_proofs"][expect["service"]]
    grants = {key: item["grant"] for key, item in FILE["world"]["clients"]["keys"].items()}
    assert got.get("x-tekup-grant") == (expect.get("grant") or grants.get(expect["key"]))
    assert answer.body["path"] == "/mcp"
    assert not {*expect.get("gone", []), "authorization"} & got.keys()
    if got["x-tekup-route"] in TARGETS:
        assert answer.name == TARGETS[got["x-tekup-route"]]
