"""The dashboards on a running stack: every query of every panel has data, a point leads to its trace and its lines."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from observability.dashboards.__main__ import FOLDER
from tests.e2e.conftest import Environment, make_environment
from tests.support.bounded import bounded
from tests.support.gate import wait_until
from tests.support.load import Load, body, headers
from tests.support.panels import BUILT_IN, Answers, boards, filled, panels, silent
from tests.support.sdk import LEGACY, MODERN, asked, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.feature("D6"), pytest.mark.timeout(900)]
BOARDS = boards(FOLDER)
CANARY = "9.9.9"
PROGRAMS = ("PROMETHEUS", "ALERTMANAGER", "LOKI", "JAEGER", "COLLECTOR")
SEEN_S = 120.0
FILES: dict[str, object] = {"query": "*", "path": ".", "mode": "glob"}
STEPS = [{"mirror": True, "bake_s": 10, "analysis": False}, {"weight_pct": 50, "bake_s": 600, "analysis": False}]
NEEDS_A_LIMIT = {
    # Where nothing bounds an instance's memory or CPU there is no limit to show. The test starts an instance that has
    # limits; it cannot where it may make no control group.
    "overview: Nearest limit of an instance #B",
    "service: Memory #B",
    "capacity: Memory, of its limit #A",
    "capacity: CPU, of its limit #A",
}
LIMITED: list[bool] = []
"""Whether an instance with limits runs."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Everything, after calls of both eras, refusals, failures, a limit, an instance's death and a canary."""
    made = make_environment(tmp_path_factory.mktemp("dashboards"))
    settings = made.directory / "tekup.toml"
    settings.write_text(settings.read_text() + "".join(f"MCP_{name}_PORT = 0\n" for name in PROGRAMS))
    try:
        made.up = made.tekup_json("up", "--observability")
        with bounded(*one_more(made)) as has_limits:
            asyncio.run(live(made))
            LIMITED.append(has_limits)
            yield made
    finally:
        made.tekup("down")


def one_more(made: Environment) -> tuple[list[str], dict[str, str], Path]:
    """Another instance of search, as the supervisor would start it."""
    env = psutil.Process(made.process("search").pid).environ()
    own = {"MCP_PORT": "0", "MCP_ADMIN_PORT": "0", "MCP_INSTANCE": "b0b0b0"}
    return [sys.executable, "-m", "services.search"], {**env, **own}, made.directory / "bounded.log"


@pytest.fixture(scope="module")
def answers(busy: Environment) -> Iterator[Answers]:
    """The programs of the environment."""
    with httpx.Client(timeout=30, trust_env=False) as http:
        yield Answers(busy.up["prometheus"], busy.up["loki"], busy.up["jaeger"], http)


def api(made: Environment, method: str, path: str, **body: object) -> Any:
    """Ask the control plane; fails with what it said."""
    headers = {"Authorization": f"Bearer {made.operator_token}"}
    answer = httpx.request(method, made.control_plane_url + path, json={"reason": "test", **body}, headers=headers,
                           timeout=60, trust_env=False)  # fmt: skip
    assert answer.is_success, f"{method} {path}: {answer.text}"
    return answer.json()


async def live(made: Environment) -> None:
    """Some minutes of a platform's life, in less."""
    limits = [{"name": "few", "per_s": 0.01, "burst": 5, "concurrent": 4}]
    await aside(api, made, "POST", "/v1/clients", id="limited", allow=["*"], limits=limits)
    limited = (await aside(api, made, "POST", "/v1/clients/limited/keys"))["key"]
    await aside(until_counted, made, 'tekup_instances_lost_total{service="filesystem"}')
    os.kill(made.process("filesystem").pid or 0, signal.SIGKILL)
    await aside(made.tekup_json, "scale", "search=1", "--version", CANARY)
    await aside(made.until_all_ready)
    search = load(made, made.key)
    async with search.running(2):
        await aside(api, made, "POST", "/v1/services/search/rollout", version=CANARY, steps=STEPS)
        await calls(made, MODERN, "/browser/mcp", "browser_open", {}, 2)
        await calls(made, MODERN, "/filesystem/mcp", "filesystem_list_roots", {}, 10)
        await calls(made, MODERN, "/filesystem/mcp", "filesystem_read_file", {"path": "/nowhere"}, 5)
        await calls(made, LEGACY, "/mcp", "search_status", {}, 10)
        await load(made, limited).run(20, 2)
        await load(made, "tk_nobody").run(5, 1)
        await asyncio.gather(*(contradiction(made, "search_status", "search_files") for _ in range(3)))
        await aside(until_shifted, made)
        await search.more(200, 60)


def load(made: Environment, key: str) -> Load:
    """Calls of the search service, not begun; their answers are alike, so that copies of them are too."""
    return Load(f"{made.gateway_url}/search/mcp", key, "search_files", FILES)


async def aside(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Ask without holding the load up."""
    return await asyncio.to_thread(lambda: work(*given, **named))


async def contradiction(made: Environment, said: str, meant: str) -> None:
    """A call whose body is of another tool than its headers: the service refuses it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        sent = body("tools/call", {"name": meant, "arguments": {}})
        url = f"{made.gateway_url}/search/mcp"
        answer = await client.post(url, json=sent, headers=headers(made.key, "tools/call", said))
    assert answer.status_code == httpx.codes.BAD_REQUEST, answer.text


async def calls(made: Environment, era: str, path: str, tool: str, arguments: dict[str, Any], count: int) -> None:
    """Call a tool so often by the official client, however it is answered."""
    async with sdk_client(made.gateway_url + path, made.key, era) as client:
        for _ in range(count):
            await asked(client, tool, arguments)


def until_shifted(made: Environment) -> None:
    """Wait until the canary gets calls of its own."""

    def shifted() -> bool:
        phase = api(made, "GET", "/v1/services/search/rollout")
        return bool(phase["phase"] == "baking" and phase["step"] == 1)

    wait_until(shifted, "the canary's second step", SEEN_S)


def until_counted(made: Environment, series: str) -> None:
    """Wait until Prometheus knows a counter: from its first value on it sees it rise, and tells the alerts."""
    with httpx.Client(timeout=30, trust_env=False) as http:
        asked = Answers(made.up["prometheus"], made.up["loki"], made.up["jaeger"], http)
        wait_until(lambda: asked.series(series, now=True), series, SEEN_S)


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_of_every_panel_has_data(name: str, answers: Answers) -> None:
    left: list[str] = []

    def all_answered() -> bool:
        left[:] = sorted(set(silent(name, BOARDS[name], answers)) - (set() if LIMITED[0] else NEEDS_A_LIMIT))
        return not left

    try:
        wait_until(all_answered, "data in every panel", SEEN_S)
    except BaseException:
        print("\n".join(left))
        raise


def test_no_panel_asks_for_a_metric_that_nobody_exports(answers: Answers) -> None:
    known = answers.known_metrics()
    limits = set() if LIMITED[0] else {"tekup_limit_memory_bytes", "tekup_limit_cpus", "tekup_limit_processes"}
    wanted = {
        (metric, panel.name)
        for name, board in BOARDS.items()
        for panel in panels(name, board)
        for source, target in panel.asked
        if source == "prometheus"
        for metric in answers.metrics_of(filled(target["expr"], {**BUILT_IN, **_any(target["expr"])}))
    }
    assert sorted((metric, where) for metric, where in wanted if metric not in known | limits) == []


def test_every_rule_that_panels_and_marks_rest_on_can_be_evaluated(answers: Answers) -> None:
    groups = answers.rules()
    assert [rule["name"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    assert {"slo:objective", "Watchdog"} <= {rule["name"] for group in groups for rule in group["rules"]}


def test_a_point_leads_to_its_trace_and_to_its_log_lines(answers: Answers) -> None:
    found = answers.exemplars('tekup_tool_seconds_bucket{service="search"}')
    assert found, "no exemplars"

    def whole() -> str:
        return next(
            (one for one in found if answers.trace(one) and answers.lines(f'{{service_name="search"}} |= "{one}"')), ""
        )

    wait_until(whole, "a call with its trace and its line", SEEN_S)


def _any(expr: str) -> dict[str, str]:
    return {name: "x" for pair in re.findall(r"\$(?:\{(\w+)[^}]*\}|(\w+))", expr) for name in pair if name} | BUILT_IN
