"""Limits on the real Traefik: who is refused, when, with what words, and that nobody else notices."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.gate import KEYS, MAC, SECRETS, Gate, Maker, b64, close, lay_out, sign, wait_until

if TYPE_CHECKING:
    from tests.support.gate import Answer

pytestmark = [pytest.mark.local, pytest.mark.feature("A7")]
NEVER = 0.001
"""Calls per second that no test sees come back."""


def limited(gate: Gate, *limits: dict[str, object], gates: int = 1, **others: list[dict[str, object]]) -> None:
    """Put these limits of client dev in force; `others` are those of other clients."""
    all_of_them = {**others, "dev": list(limits)}
    more: dict[str, dict[str, object]] = {client: {"limits": own} for client, own in all_of_them.items()}
    gate.clients({"dev": ["*"], "narrow": ["*"]}, more=more, gates=gates)
    gate.in_force()


@pytest.fixture(autouse=True)
def fresh(gate: Gate, request: pytest.FixtureRequest) -> str:
    """A limit's name that no other test used: what is used of one outlives its table."""
    name: str = re.sub(r"[^a-z0-9-]", "-", request.node.name.lower())[:60]
    return name


def spent(gate: Gate, headers: dict[str, str], calls: int) -> Counter[int]:
    """Statuses of so many calls."""
    return Counter(gate.call(headers=headers).status for _ in range(calls))


def test_two_clients_have_budgets_of_their_own(gate: Gate, make: Maker, fresh: str) -> None:
    limit = {"name": fresh, "per_s": NEVER, "burst": 5}
    limited(gate, limit, narrow=[limit])
    assert spent(gate, make.modern("tools/call", "alpha_read"), 9) == {200: 5, 429: 4}
    assert spent(gate, make.modern("tools/call", "alpha_read", "narrow"), 9) == {200: 5, 429: 4}


def test_a_refusal_says_which_limit_and_when_to_come_again(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": 0.1, "burst": 1})
    call = make.modern("tools/call", "alpha_read")
    assert gate.call(headers=call).status == 200
    answer = gate.call(headers=call, content=b'{"jsonrpc":"2.0","id":7,"method":"tools/call"}')
    assert (answer.status, answer.body["id"]) == (429, 7)
    assert 9 <= int(answer.reply.headers["retry-after"]) <= 10
    error = answer.body["error"]
    assert isinstance(error, dict)
    assert error["code"] == 429
    assert fresh in error["message"]
    assert error["data"]["limit"] == fresh
    assert 9 < error["data"]["retry_after_s"] <= 10


def test_what_is_left_is_said_with_every_answer(gate: Gate, make: Maker, fresh: str) -> None:
    limited(
        gate,
        {"name": fresh, "per_s": 2, "burst": 10},
        {"name": f"{fresh}2", "tools": ["alpha_*"], "per_s": NEVER, "burst": 3},
    )
    answer = gate.call(headers=make.modern("tools/call", "alpha_read")).reply.headers
    assert answer["ratelimit-policy"] == f'"{fresh}";q=10;w=5, "{fresh}2";q=3;w=3000'
    assert answer["ratelimit"].startswith(f'"{fresh}";r=9;t=1, "{fresh}2";r=2;t=1000')
    of_others = gate.call(headers=make.modern("tools/call", "beta_read")).reply.headers["ratelimit"]
    assert f"{fresh}2" not in of_others
    assert "ratelimit" not in gate.call(headers=make.modern("tools/list", client="narrow")).reply.headers


def test_a_class_of_tools_has_a_budget_beside_the_general_one(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "tools": ["alpha_read*"], "per_s": NEVER, "burst": 2})
    assert spent(gate, make.modern("tools/call", "alpha_read"), 4) == {200: 2, 429: 2}
    assert spent(gate, make.modern("tools/call", "alpha_write"), 4) == {200: 4}
    assert spent(gate, make.modern("tools/list"), 4) == {200: 4}


def test_discovery_is_never_refused(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 1, "concurrent": 1})
    assert spent(gate, make.modern("tools/list"), 2) == {200: 1, 429: 1}
    assert spent(gate, make.modern("server/discover"), 20) == {200: 20}


def test_older_clients_spend_the_general_budget_outside_and_that_of_tools_inside(
    gate: Gate, make: Maker, fresh: str
) -> None:
    limited(
        gate,
        {"name": fresh, "per_s": NEVER, "burst": 3},
        {"name": f"{fresh}2", "tools": ["alpha_*"], "per_s": NEVER, "burst": 2},
    )
    old = {"Authorization": f"Bearer {KEYS['dev']}", "MCP-Protocol-Version": "2025-11-25"}
    assert spent(gate, old, 5) == {200: 3, 429: 2}
    back = make.proof("hub") | make.modern("tools/call", "alpha_read") | {"X-Tekup-Grant": make.grant("dev", ["*"])}
    inside = [gate.call("/alpha/mcp", back, to=gate.internal) for _ in range(4)]
    assert [answer.status for answer in inside] == [200, 200, 429, 429]
    assert f"{fresh}2" in str(inside[-1].error["message"])


def test_many_gates_hold_a_share_each(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 9}, gates=3)
    assert spent(gate, make.modern("tools/call", "alpha_read"), 5) == {200: 3, 429: 2}


def test_a_changed_limit_counts_what_was_used_before_it(gate: Gate, make: Maker, fresh: str) -> None:
    call = make.modern("tools/call", "alpha_read")
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 4})
    assert spent(gate, call, 3) == {200: 3}
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 5})
    assert spent(gate, call, 4) == {200: 2, 429: 2}
    limited(gate)
    assert spent(gate, call, 4) == {200: 4}


def test_under_load_exactly_the_burst_and_the_rate_get_through(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": 20, "burst": 10})
    call, seen = make.modern("tools/call", "alpha_read"), Counter[int]()

    def work(_: int) -> Counter[int]:
        mine = Counter[int]()
        while time.monotonic() < end:
            mine[gate.call(headers=call).status] += 1
        return mine

    begun = time.monotonic()
    end = begun + 3
    with ThreadPoolExecutor(8) as pool:
        for part in pool.map(work, range(8)):
            seen += part
    took_s = time.monotonic() - begun
    assert seen.keys() == {200, 429}
    # Too many is the limit's fault alone; too few is also a machine that held all callers for a while.
    assert 0.8 * (10 + 20 * 3) <= seen[200] <= 10 + 20 * took_s + 1


def test_calls_under_way_are_bounded_and_freed_however_they_end(
    gate: Gate, make: Maker, fresh: str, tmp_path: Path
) -> None:
    limited(gate, {"name": fresh, "concurrent": 2})
    call = make.modern("tools/call", "alpha_read")
    slow = {**call, "X-Test-Delay": "4"}
    with ThreadPoolExecutor(2) as pool:
        here = [tmp_path / name for name in ("one", "two")]
        holding = [pool.submit(gate.call, headers={**slow, "X-Test-Touch": str(path)}) for path in here]
        wait_until(lambda: all(path.exists() for path in here), "two under way")
        answer = gate.call(headers=call)
        assert (answer.status, answer.reply.headers["retry-after"]) == (429, "1")
        assert "under way" in str(answer.error["message"])
        assert gate.call(headers=make.modern("tools/call", "alpha_read", "narrow")).status == 200
        assert [each.result().status for each in holding] == [200, 200]
    assert gate.call(headers=call).status == 200
    for _ in range(4):  # callers that leave
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{gate.public}/mcp", headers=slow, content=b"{}", timeout=0.2, trust_env=False)
    wait_until(lambda: gate.call(headers=call).status == 200, "room again after four callers left")
    for name in ("aaaaa1", "aaaaa2", "aaaaa3"):
        gate.kill(name)
    assert {gate.call(headers=call).status for _ in range(4)} <= {502, 503}
    for name in ("aaaaa1", "aaaaa2", "aaaaa3"):
        gate.backend(name)
    wait_until(lambda: gate.call(headers=call).status == 200, "room again after calls that nobody answered")


def test_metrics_say_who_was_refused_by_which_limit(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 1, "concurrent": 1})
    assert spent(gate, make.modern("tools/call", "alpha_read"), 3) == {200: 1, 429: 2}
    page = gate.http.get(f"{gate.private}/metrics").text
    assert f'tekup_gate_limited_total{{client="dev",limit="{fresh}"}} 2\n' in page
    assert f'tekup_gate_limit_calls_under_way{{client="dev",limit="{fresh}"}} 0\n' in page
    used = re.search(rf'tekup_gate_limit_used_seconds{{client="dev",limit="{fresh}"}} ([0-9.]+)', page)
    assert used
    assert 900 < float(used[1]) <= 1000


def test_a_limit_that_makes_no_sense_refuses_its_client_alone(gate: Gate, make: Maker) -> None:
    limited(gate, {"name": "nothing"})
    assert gate.call().status == 401
    assert "nothing" in str(gate.state()["clients"]["problems"])
    assert gate.call(headers=make.modern(client="narrow")).status == 200


@pytest.mark.feature("A11")
def test_users_of_one_client_have_budgets_of_their_own(gate: Gate, fresh: str) -> None:
    limits = [{"name": fresh, "per_s": NEVER, "burst": 2}]
    gate.clients({"dev": ["*"]}, more={"dev": {"limits": limits, "oauth": ["https://as.example"]}})
    gate.in_force()
    for subject in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"):
        said = (
            '{"v":1,"client":"dev","key":"","allow":["*"],"cohort":"","roots":[],"hosts":[],"access":"all",'
            f'"subject":"{subject}","expires":4000000000,"within":["*"]}}'
        )
        body = b64(said.encode())
        headers = {
            "Authorization": "Bearer x",
            "X-Test-Foreign": "1",
            "X-Tekup-Grant": f"{body}.{b64(sign(MAC, body))}",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/list",
        }
        assert spent(gate, headers, 3) == {200: 2, 429: 1}


MIB = 1 << 20


def test_a_body_beyond_the_bound_is_refused_unread(gate: Gate, make: Maker) -> None:
    assert gate.call(headers=make.modern(), content=b"x" * (8 * MIB)).status == 200
    answer = gate.call(headers=make.modern(), content=b"x" * (8 * MIB + 1))
    assert (answer.status, answer.code) == (413, 413)
    assert "8388608 bytes" in str(answer.error["message"])


def test_a_body_of_no_stated_length_ends_at_the_bound(gate: Gate, make: Maker) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * MIB

    def post(count: int) -> Answer | None:
        try:
            return gate.call(headers=make.modern("tools/call", "alpha_read"), content=chunks(count))
        except httpx.TransportError:  # the connection was closed under the upload
            return None

    answer = post(3)
    assert answer
    assert (answer.status, answer.body["body"]) == (200, 3 * MIB)
    before = sum(gate.seen(name)["call"] for name in ("aaaaa1", "aaaaa2", "aaaaa3"))
    refused = post(64)
    assert refused is None or refused.code == 413
    assert sum(gate.seen(name)["call"] for name in ("aaaaa1", "aaaaa2", "aaaaa3")) == before
    assert gate.call(headers=make.modern("tools/call", "alpha_read")).status == 200


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Gate]:
    """A gate that refuses once its policy was not confirmed for two seconds."""
    gate = lay_out(tmp_path / "gate", gate_policy_max_age_s=2)
    try:
        gate.write("tables/secrets.json", json.dumps(SECRETS))
        gate.backend("ccccc1")
        gate.start()
        gate.routes({"hub": {"hub_1-0-0": ["ccccc1"]}})
        gate.services({"hub": {"hub_1-0-0": 100}})
        gate.clients({"dev": ["*"]})
        gate.in_force()
        yield gate
    finally:
        close(gate)


@pytest.mark.feature("A5")
def test_a_policy_that_nobody_confirms_is_refused_after_its_age(strict: Gate, make: Maker) -> None:
    confirmed = strict.folder / "tables/confirmed"
    refused = strict.call()
    assert (refused.status, refused.code) == (503, 503)
    assert "confirmed" in str(refused.error["message"])
    confirmed.touch()
    wait_until(lambda: strict.call().status == 200, "confirmed")
    wait_until(lambda: strict.call().status == 503, "too old again")
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(0.2):
            confirmed.touch()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        wait_until(lambda: strict.call().status == 200, "confirmed again")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert strict.call().status == 200
    finally:
        ended.set()
        keeper.join()


@pytest.fixture(scope="module")
def ceilings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with ceilings per address, which nothing here reaches but what tries to."""
    gate = lay_out(tmp_path_factory.mktemp("ceilings") / "gate", gate_address_rate=1, gate_address_burst=60)
    try:
        gate.write("tables/secrets.json", json.dumps(SECRETS))
        gate.backend("ccccc1")
        gate.start()
        gate.routes({"hub": {"hub_1-0-0": ["ccccc1"]}})
        gate.services({"hub": {"hub_1-0-0": 100}})
        gate.clients({"dev": ["*"]}, more={"dev": {"limits": [{"name": "few", "per_s": 0.1, "burst": 1}]}})
        gate.in_force()
        yield gate
    finally:
        close(gate)


def test_a_clients_refusal_passes_the_ceilings_unchanged(ceilings: Gate, make: Maker) -> None:
    forged = b64(b'{"body":{"forged":true},"retry":"7"}')
    call = {**make.modern(), "X-Tekup-Refusal": forged}
    answers = [ceilings.call(headers=call, content=b'{"id":5}') for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 429]
    assert "x-tekup-refusal" not in answers[0].headers
    error = answers[1].body["error"]
    assert isinstance(error, dict)
    assert (answers[1].body["id"], error["data"]["limit"]) == (5, "few")
    assert 9 <= int(answers[1].reply.headers["retry-after"]) <= 10
    assert answers[1].reply.headers["ratelimit-policy"] == '"few";q=1;w=10'
    assert answers[1].reply.headers["content-type"] == "application/json"


def test_the_ceilings_own_refusal_is_json_rpc_and_no_callers_words(ceilings: Gate, make: Maker) -> None:
    forged = b64(b'{"body":{"forged":true},"retry":"7"}')
    answer = ceilings.call(headers={"X-Tekup-Refusal": forged})
    for _ in range(200):
        if answer.status == 429:
            break
        answer = ceilings.call(headers={"X-Tekup-Refusal": forged})
    assert (answer.status, answer.code) == (429, 429)
    assert "address" in str(answer.error["message"])


SENTINEL = "=?base64?YWxwaGFfcmVhZA==?="
DODGES: dict[str, tuple[str, dict[str, str]]] = {
    "another path": ("/alpha/mcp", {}),
    "a query": ("/mcp?fresh=1", {}),
    "a path in another form": ("//mcp", {}),
    "an encoded name": ("/mcp", {"Mcp-Name": SENTINEL}),
    "another tool of the class": ("/mcp", {"Mcp-Name": "alpha_read_more"}),
    "another address": ("/mcp", {"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "192.0.2.1"}),
    "another client's name": ("/mcp", {"X-Tekup-Client": "narrow"}),
    "another session": ("/mcp", {"Mcp-Session-Id": "other"}),
    "a handle": ("/mcp", {"Mcp-Param-Handle": "aaaaa1.x.y"}),
    "other parameters": ("/mcp", {"Mcp-Param-Any": "1", "User-Agent": "other"}),
    "the scheme in capitals": ("/mcp", {"Authorization": f"BEARER  {KEYS['dev']}"}),
    "a budget of its own": ("/mcp", {"RateLimit": '"x";r=99', "RateLimit-Policy": '"x";q=99'}),
    "a refusal of its own": ("/mcp", {"X-Tekup-Refusal": "e30"}),
}


@pytest.mark.parametrize("dodge", DODGES)
def test_a_limit_that_is_used_up_cannot_be_dodged(gate: Gate, make: Maker, dodge: str, fresh: str) -> None:
    limited(gate, {"name": fresh, "tools": ["alpha_read*"], "per_s": NEVER, "burst": 2})
    call = make.modern("tools/call", "alpha_read")
    assert spent(gate, call, 3) == {200: 2, 429: 1}
    path, changed = DODGES[dodge]
    assert gate.call(path, call | changed).status == 429
    assert gate.call(headers=make.modern("tools/call", "alpha_write")).status == 200, "the control"


def test_another_key_of_a_client_and_the_other_era_use_the_same_budget(gate: Gate, make: Maker, fresh: str) -> None:
    limited(gate, {"name": fresh, "per_s": NEVER, "burst": 3})
    assert spent(gate, make.modern("tools/call", "alpha_read"), 3) == {200: 3}
    table = json.loads((gate.folder / "tables/clients.json").read_text())
    table["keys"]["narrow-1"]["client"] = "dev"  # a second key of dev's
    gate.serial += 1
    gate.write("tables/clients.json", json.dumps(table | {"serial": gate.serial}))
    gate.in_force()
    assert gate.call(headers=make.modern("tools/call", "alpha_read", "narrow")).status == 429
    old = {"Authorization": f"Bearer {KEYS['dev']}", "MCP-Protocol-Version": "2025-11-25"}
    assert gate.call(headers=old).status == 429
    gate.clients({"dev": ["*"], "narrow": ["*"]})
    gate.in_force()
