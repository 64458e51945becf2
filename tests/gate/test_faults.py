"""Backends that die, targets that are missing, and a Traefik that starts badly or again."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.gate import wait_until

if TYPE_CHECKING:
    from tests.support.gate import Gate, Load, Maker

pytestmark = pytest.mark.local


@pytest.mark.feature("A12")
def test_one_of_two_instances_dies_under_load(
    gate: Gate, make: Maker, load: Callable[[str, dict[str, str]], Load]
) -> None:
    gate.services({"alpha": {"alpha_1-0-0": 100}})
    gate.in_force()
    with load("/mcp", make.modern("tools/call", "alpha_read")) as calls:
        calls.more(100)
        gate.kill("aaaaa1")
        calls.more(400)
    # What was under way in it is lost: nothing that was sent is sent again. At most one call a thread, and one more
    # on a connection that is not yet known to be closed.
    assert sum(calls.lost.values()) <= 8
    assert calls.seen["aaaaa2"] > 300


@pytest.mark.feature("A12")
@pytest.mark.parametrize("held", [True, False], ids=["by its handle", "by lane"])
def test_a_call_whose_instance_dies_under_it_is_told_that_it_may_have_run(
    gate: Gate, make: Maker, held: bool, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    headers = make.modern("tools/call", "beta_work") | {"X-Test-Delay": "5", "X-Test-Touch": str(here)}
    if held:
        headers |= {"Mcp-Param-Handle": make.handle("beta", "bbbbb1", "dev")}
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(gate.call, "/beta/mcp", headers)
        make.wait(here.exists, "the call to reach its instance")
        gate.kill("bbbbb1")
        answer = calling.result(10)
    assert (answer.status, answer.code) == (502, 502)
    assert "may have run" in str(answer.error["message"])
    assert ("open anew" in str(answer.error["message"])) == held


@pytest.mark.feature("A2", "A13")
@pytest.mark.parametrize(
    ("said", "answered"), [(b'{"id":7}', 7), (b'{"params":{},"id":"a"}', "a"), (b"{nonsense", None)]
)
def test_a_refusal_carries_the_requests_id_where_it_has_one(
    gate: Gate, make: Maker, said: bytes, answered: object
) -> None:
    answer = gate.call("/alpha/mcp", make.modern("tools/call", "beta_work"), content=said)
    assert (answer.status, answer.body["id"]) == (400, answered)


@pytest.mark.feature("A12")
def test_large_answers_are_never_cut_off(gate: Gate, make: Maker, load: Callable[[str, dict[str, str]], Load]) -> None:
    """Behind a bare Traefik one in some hundred is (docs/decisions/0008)."""
    with load("/alpha/mcp", make.modern("tools/call", "alpha_read") | {"X-Test-Size": "300000"}) as calls:
        calls.more(3000)
    assert calls.lost == {}


@pytest.mark.feature("A12")
def test_a_version_without_a_live_instance_is_answered_by_the_stable_one(
    gate: Gate, make: Maker, load: Callable[[str, dict[str, str]], Load]
) -> None:
    gate.services({"alpha": {"alpha_1-0-0": 50, "alpha_1-1-0": 50}})
    gate.in_force()
    with load("/mcp", make.modern("tools/call", "alpha_read")) as calls:
        calls.more(100)
        gate.kill("aaaaa3")
        calls.more(400)
    assert sum(calls.lost.values()) <= 8


@pytest.mark.feature("A12")
def test_the_stable_version_gone_any_other_answers(gate: Gate) -> None:
    gate.kill("aaaaa1")
    gate.kill("aaaaa2")
    answers = [gate.call("/alpha/mcp") for _ in range(20)]
    # Pooled connections of the two dead ones may be met once each.
    assert [answer.name for answer in answers[2:]] == ["aaaaa3"] * 18


@pytest.mark.feature("A12")
def test_nobody_left_is_said_as_json_and_ends_when_one_is_back(gate: Gate, make: Maker) -> None:
    for name in ("aaaaa1", "aaaaa2", "aaaaa3"):
        gate.kill(name)
    make.wait(lambda: gate.call("/alpha/mcp").status == 502, "all are found dead")
    for _ in range(10):
        answer = gate.call("/alpha/mcp")
        assert (answer.status, answer.code) == (502, 502)
    assert gate.call("/beta/mcp").status == 200
    gate.backend("aaaaa2")
    make.wait(lambda: gate.call("/alpha/mcp").status == 200, "alpha is back")


@pytest.mark.feature("A14")
def test_an_instance_that_answers_5xx_or_is_hung_up_on_stays_reachable(gate: Gate, make: Maker) -> None:
    """What Traefik counts as an instance's failure can be a client's doing: it must not cost others the service."""
    held = make.modern("tools/call", "alpha_read") | {"Mcp-Param-Handle": make.handle("alpha", "aaaaa2", "dev")}
    for headers, path in ((make.modern("tools/call", "beta_x"), "/beta/mcp"), (held, "/alpha/mcp")):
        for body in (b"zz\r\n", b"5\r\nab"):
            for _ in range(6):
                hang_up(gate, path, headers, body)
        answers = [gate.call(path, headers | {"X-Test-Status": status}) for status in ("500", "500", "500", "200")]
        assert [answer.status for answer in answers] == [500, 500, 500, 200]
        assert gate.call(path, headers).name in ("bbbbb1", "aaaaa2")


def hang_up(gate: Gate, path: str, headers: dict[str, str], body: bytes) -> None:
    """Sends part of a chunked body, waits until it is under way or answered, and leaves."""
    with closing(HTTPConnection(gate.public.removeprefix("http://"), timeout=0.05)) as connection:
        connection.putrequest("POST", path)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with suppress(OSError):
            connection.getresponse()


@pytest.mark.feature("A12")
def test_a_balancer_found_empty_is_said_as_json_too(gate: Gate) -> None:
    """A call meets one between a check's "no" and the failover that hears of it."""
    routes = json.loads((gate.folder / "dynamic/routes.yml").read_text())
    routes["http"]["services"]["beta_1-0-0"] = {"loadBalancer": {"servers": []}}
    gate.write("dynamic/routes.yml", json.dumps(routes))
    wait_until(lambda: gate.call("/beta/mcp").status == 503, "the balancer to be empty")
    answer = gate.call("/beta/mcp")
    assert (answer.status, answer.code) == (503, 503)
    assert answer.reply.headers["retry-after"] == "1"
    assert "may have run" not in str(answer.error["message"])


@pytest.mark.feature("C1")
def test_a_target_missing_from_the_routes_is_unavailable(gate: Gate, make: Maker) -> None:
    gate.services({"alpha": {"alpha_9-9-9": 100}})
    gate.in_force()
    answer = gate.call("/alpha/mcp")
    assert (answer.status, answer.code) == (503, 503)
    assert "alpha_9-9-9" in str(answer.error["message"])
    pinned = make.modern() | make.proof("control-plane") | {"X-Tekup-Target": "alpha_8-8-8"}
    assert gate.call("/alpha/mcp", pinned, to=gate.internal).code == 503


@pytest.mark.feature("C2")
def test_a_stream_outlives_the_removal_of_its_own_route(gate: Gate, make: Maker) -> None:
    headers = make.modern("tools/call", "beta_x") | {"X-Test-Stream": "20"}
    with gate.http.stream("POST", f"{gate.public}/mcp", headers=headers, content=b"{}") as reply:
        lines = reply.iter_lines()
        next(lines)
        gate.routes({"hub": {"hub_1-0-0": ["ccccc1"]}})
        assert sum(1 for line in lines if line.startswith("data")) == 19


@pytest.mark.feature("A5")
def test_without_tables_every_call_is_unavailable_and_not_unauthorized(bare_gate: Gate) -> None:
    bare_gate.start()
    answer = bare_gate.call()
    assert (answer.status, answer.code) == (503, 503)
    assert bare_gate.state()["clients"]["serial"] == 0


@pytest.mark.feature("A5")
def test_a_truncated_table_at_start_is_unavailable_and_not_unauthorized(bare_gate: Gate, make: Maker) -> None:
    bare_gate.services({"hub": {"hub_1-0-0": 100}})
    bare_gate.clients({"dev": ["*"]})
    whole = (bare_gate.folder / "tables/clients.json").read_text()
    bare_gate.write("tables/clients.json", whole[:-20])
    bare_gate.write("tables/secrets.json", json.dumps(make.secrets))
    bare_gate.start()
    assert bare_gate.call().code == 503
    bare_gate.write("tables/clients.json", whole)
    bare_gate.in_force()
    assert bare_gate.call().code == 503  # its target is not routed
    assert bare_gate.call(headers={}).code == 401


@pytest.mark.feature("A5")
@pytest.mark.parametrize("broken", ["package policy\n\nfunc {", 'package policy\n\nimport "example.com/absent"\n'])
def test_a_plugin_that_does_not_load_opens_no_port(bare_gate: Gate, broken: str) -> None:
    plugin = bare_gate.folder / "plugins-local/src/tekup.dev/policy/broken.go"
    plugin.write_text(broken)
    process = bare_gate.launch()
    assert process.wait(timeout=20) != 0
    with pytest.raises(httpx.ConnectError):
        bare_gate.http.get(bare_gate.public)


@pytest.mark.feature("C1")
def test_a_restarted_traefik_serves_from_its_files_at_once(gate: Gate, make: Maker) -> None:
    held = make.modern("tools/call", "alpha_read") | {"Mcp-Param-Handle": make.handle("alpha", "aaaaa3", "dev")}
    gate.stop()
    gate.start()
    first = [gate.call("/mcp", held) for _ in range(10)]
    assert {answer.status for answer in first} == {200}
    assert {answer.name for answer in first} == {"aaaaa3"}
    assert gate.call(headers=make.modern(client="gone")).code == 401
    assert gate.state()["clients"]["serial"] == gate.serial
