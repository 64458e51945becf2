"""What staging and production have and development has not, tried on all of it: `--environment=staging` or `prod`."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.container_environment import ContainerEnvironment
from tests.support.engine import Engine
from tests.support.flood import FLOOD
from tests.support.gate import wait_until
from tests.support.sdk import sdk_client

pytestmark = [pytest.mark.docker, pytest.mark.production, pytest.mark.timeout(20 * 60), pytest.mark.feature("F1", "F2")]

SOON_S = 120.0
TOOL = "filesystem_list_roots"
ONE_SHOT = {"setup", "first-call"}
ON_CALL = ("prometheus", "alertmanager", "loki", "jaeger")
DIRECT = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)) as peer:
    peer.sendall(b"GET /ready HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    print((peer.recv(200).decode(errors="replace").splitlines() or ["closed"])[0])
"""


CONNECT = """
import concurrent.futures, json, socket, sys
def opens(address):
    try:
        socket.create_connection(tuple(address), 2).close()
        return True
    except OSError:
        return False
asked = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(len(asked)) as side_by_side:
    found = side_by_side.map(opens, asked)
print(json.dumps({f"{host}:{port}": opened for (host, port), opened in zip(asked, found)}))
"""


@pytest.fixture
def stack(environment: object) -> ContainerEnvironment:
    """The environment, which is one of containers."""
    return cast("ContainerEnvironment", environment)


@pytest.fixture
def twofold(stack: ContainerEnvironment) -> ContainerEnvironment:
    """One that has two gates, three control planes and three servers of Consul."""
    if stack.kind != "prod":
        pytest.skip("staging has one of each")
    return stack


def container(stack: ContainerEnvironment, service: str) -> dict[str, Any]:
    return next(one for one in stack.containers() if one["Service"] == service)


async def works(stack: ContainerEnvironment, port: str = "MCP_GATEWAY_PORT") -> None:
    """A call through a gate is answered."""
    url = f"https://localhost:{stack.settings[port]}/filesystem/mcp"
    async with sdk_client(url, stack.key, "2026-07-28") as client:
        assert not (await client.call_tool(TOOL, {})).is_error


def metric(stack: ContainerEnvironment, query: str) -> list[tuple[dict[str, str], float]]:
    url = f"{stack.on_call_url('prometheus')}/api/v1/query"
    found = httpx.get(url, params={"query": query}, timeout=20, trust_env=False).json()["data"]["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]


def test_everything_runs_and_is_healthy_and_only_gates_lead_in_from_beyond_this_machine(
    stack: ContainerEnvironment,
) -> None:
    found = stack.containers()
    assert {one["Service"] for one in found if one["State"] != "running"} == ONE_SHOT
    assert all(one["ExitCode"] == 0 for one in found if one["Service"] in ONE_SHOT)
    assert not [one["Service"] for one in found if one["Health"] not in ("", "healthy")]
    published = {(one["Service"], p["URL"]) for one in found for p in one["Publishers"] or () if p["PublishedPort"]}
    further = ["mcp-gateway-2"] if stack.kind == "prod" else []
    assert {service for service, _ in published} == {"mcp-gateway", "operators-gate", *further, *ON_CALL}
    assert {address for _, address in published} == {"127.0.0.1"}, (
        "nobody but gates can be told to be reached elsewhere"
    )


def test_the_gate_proves_itself_and_speaks_no_plain_http(stack: ContainerEnvironment) -> None:
    where = urlsplit(stack.gateway_url)
    assert where.port
    trusting = ssl.create_default_context(cafile=stack.ca)
    with (
        socket.create_connection(("127.0.0.1", where.port), 10) as raw,
        trusting.wrap_socket(raw, server_hostname="localhost") as peer,
    ):
        assert peer.version() in ("TLSv1.2", "TLSv1.3")
    answer = httpx.get(f"http://127.0.0.1:{where.port}/mcp", timeout=10, trust_env=False)
    assert answer.status_code in (400, 404, 426)


async def test_a_neighbour_in_the_same_zone_may_not_call_a_service_past_the_gate(stack: ContainerEnvironment) -> None:
    await works(stack)
    done = stack.compose("exec", "-T", "mcp-search", "python", "-c", DIRECT, "mcp-filesystem", "3002")
    refused = re.search(r"HTTP/1\.1 403|closed", done.stdout) or re.search("alert|reset", done.stderr.lower())
    assert refused, done.stdout + done.stderr


def test_consul_speaks_tls_alone_and_wants_a_token(stack: ContainerEnvironment) -> None:
    ask = "import socket; socket.create_connection(('consul', 8500), 2)"
    assert stack.compose("exec", "-T", "control-plane", "python", "-c", ask).returncode != 0
    keys = (
        "import ssl, urllib.request as u; c = ssl.create_default_context(cafile='/run/tekup/consul-ca.pem');"
        "u.urlopen('https://consul:8501/v1/kv/tekup/policy/?recurse', context=c, timeout=5)"
    )
    refused = stack.compose("exec", "-T", "control-plane", "python", "-c", keys)
    assert refused.returncode != 0
    assert "403" in refused.stderr or "404" in refused.stderr, refused.stderr


def test_every_part_is_scraped(stack: ContainerEnvironment) -> None:
    servers = 3 if stack.kind == "prod" else 1
    wait_until(lambda: not metric(stack, "up == 0") and len(metric(stack, "up{job='consul'}")) == servers, "all up", 60)
    jobs = {found["job"] for found, _ in metric(stack, "up")}
    assert {
        "instances",
        "gates",
        "traefik",
        "control-plane",
        "consul",
        "loki",
        "jaeger",
        "collector",
        "containers",
    } <= jobs
    assert {found["service"] for found, _ in metric(stack, "tekup_ready == 1")} == {
        "browser",
        "filesystem",
        "hub",
        "search",
    }


def test_every_container_s_use_and_limit_is_measured(stack: ContainerEnvironment) -> None:
    running = {one["Name"] for one in stack.containers() if one["State"] == "running"}

    def measured(name: str) -> set[str]:
        return {found["name"] for found, _ in metric(stack, name)}

    names = ("container_memory_working_set_bytes", "container_cpu_usage_seconds_total", "container_threads")
    wait_until(lambda: all(measured(name) >= running for name in names), "all of them measured", 60)
    limits = {found["name"]: value for found, value in metric(stack, "container_spec_memory_limit_bytes")}
    assert all(limits[name] > 0 for name in running)


async def test_a_call_leaves_its_line_in_loki_and_its_trace_in_jaeger(stack: ContainerEnvironment) -> None:
    began_ns = time.time_ns()
    await works(stack)
    query = {"query": f'{{service_name="filesystem"}} |= "{TOOL}" | trace_id != ""', "start": str(began_ns)}
    found: list[dict[str, Any]] = []

    def told() -> bool:
        url = f"{stack.on_call_url('loki')}/loki/api/v1/query_range"
        found[:] = httpx.get(url, params=query, timeout=20, trust_env=False).json()["data"]["result"]
        return bool(found)

    wait_until(told, "the line of the call", 60)
    labels = found[0]["stream"]
    assert labels["instance"].startswith("mcp-filesystem/")
    trace = f"{stack.on_call_url('jaeger')}/api/traces/{labels['trace_id']}"

    def seen() -> set[str]:
        answer = httpx.get(trace, timeout=20, trust_env=False)
        data = answer.json()["data"] if answer.status_code == 200 else []
        return {process["serviceName"] for one in data for process in one["processes"].values()}

    wait_until(lambda: {"tekup-gate", "tekup-filesystem"} <= seen(), "the trace of the call", 60)


def test_alerts_arrive_and_none_is_told_of_a_sound_environment(stack: ContainerEnvironment) -> None:
    url = f"{stack.on_call_url('alertmanager')}/api/v2/alerts"

    def told() -> set[str]:
        return {one["labels"]["alertname"] for one in httpx.get(url, timeout=20, trust_env=False).json()}

    wait_until(lambda: "Watchdog" in told(), "the deadman's switch", 90)
    # a machine that is busy while everything starts may tell of that for some minutes
    wait_until(lambda: told() == {"Watchdog"}, "nothing told but the deadman's switch", 600)


def test_no_secret_is_in_what_anybody_can_ask_the_engine(stack: ContainerEnvironment, engine: Engine) -> None:
    secrets = {stack.operator_token, stack.key.rpartition("_")[2]}
    secrets |= set(stack.said("exec", "-T", "mcp-agent", "sh", "-c", "cat /run/tekup/consul.token").split())
    for one in stack.containers():
        text = (
            engine.docker("inspect", one["ID"]) + engine.docker("top", one["ID"]) if one["State"] == "running" else ""
        )
        assert not [secret for secret in secrets if secret in text], one["Service"]
        if one["Service"] != "first-call":  # which prints the key of the proof
            assert not [secret for secret in secrets if secret in stack.said("logs", one["Service"])], one["Service"]


def reached(stack: ContainerEnvironment, service: str, *addresses: tuple[str, int]) -> set[str]:
    """Which of some ports answer somebody inside of a service's container."""
    done = stack.compose("exec", "-T", service, "python", "-c", CONNECT, given=json.dumps(addresses))
    assert done.returncode == 0, done.stderr
    return {host for host, opened in json.loads(done.stdout).items() if opened}


@pytest.mark.feature("C9")
def test_operators_reach_api_and_console_by_tls_on_an_entrypoint_of_their_own(stack: ContainerEnvironment) -> None:
    assert stack.ask("GET", "/v1/status").json()["leader"]
    with httpx.Client(base_url=stack.control_plane_url, verify=ssl.create_default_context(cafile=stack.ca),
                      trust_env=False, timeout=20) as nobody:  # fmt: skip
        assert nobody.get("/v1/status").status_code == 401
        assert nobody.get("/").headers["location"].endswith("/console/")
        page = nobody.get("/console/login")
        assert "Operator token" in page.text
        came_in = nobody.post("/console/login", data={"token": stack.operator_token})
        assert "Secure" in came_in.headers["set-cookie"]
        assert nobody.get("/metrics").status_code == 404
    port = stack.settings["MCP_OPERATORS_PORT"]
    assert httpx.get(f"http://127.0.0.1:{port}/v1/status", timeout=10, trust_env=False).status_code in (400, 404, 426)


@pytest.mark.feature("C9")
@pytest.mark.parametrize("path", ["/console/", "/console/login", "/v1/status", "/v1/openapi.json", "/%2e/v1/status"])
def test_the_public_entrypoint_leads_nowhere_near_the_operators(stack: ContainerEnvironment, path: str) -> None:
    trusted = ssl.create_default_context(cafile=stack.ca)
    for host in ("localhost", f"localhost:{stack.settings['MCP_OPERATORS_PORT']}", "operators-gate", "control-plane"):
        headers = {"Host": host, "Authorization": f"Bearer {stack.operator_token}"}
        for port in filter(None, (stack.settings["MCP_GATEWAY_PORT"], stack.settings.get("MCP_GATEWAY_2_PORT"))):
            if port == stack.settings.get("MCP_GATEWAY_2_PORT") and stack.kind != "prod":
                continue
            answer = httpx.get(f"https://localhost:{port}{path}", headers=headers, verify=trusted, trust_env=False)
            assert answer.status_code in (403, 404, 405), f"{host} {path}: {answer.status_code} {answer.text[:200]}"


@pytest.mark.feature("C9")
@pytest.mark.parametrize("service", ["mcp-browser", "mcp-filesystem", "mcp-search", "mcp-hub", "egress"])
def test_no_service_reaches_the_operators_entrypoint_or_a_control_plane(
    stack: ContainerEnvironment, engine: Engine, service: str
) -> None:
    def addresses(of: str, port: int) -> list[tuple[str, int]]:
        about = json.loads(engine.docker("inspect", container(stack, of)["ID"]))[0]
        return [(one["IPAddress"], port) for one in about["NetworkSettings"]["Networks"].values()]

    theirs = [*addresses("operators-gate", 3008), *addresses("control-plane", 3010)]
    assert len(theirs) == 4
    assert reached(stack, service, ("mcp-gateway", 3000), ("mcp-gateway", 3008), *theirs) == {"mcp-gateway:3000"}


OWN_RULES = """
kind: AlertRules
name: own
rules:
  - {alert: OwnRule, expr: vector(1) > 0, labels: {severity: info}, annotations: {summary: "of an operator"}}
tests:
  - {interval: 1m, alert_rule_test: [{eval_time: 1m, alertname: OwnRule, exp_alerts: [
      {exp_labels: {severity: info}, exp_annotations: {summary: "of an operator"}}]}]}
"""


@pytest.mark.feature("C13")
def test_an_alert_rule_of_an_operator_is_tested_live_and_fires_until_it_is_removed(stack: ContainerEnvironment) -> None:
    (stack.directory / "own.yml").write_text(
        OWN_RULES.replace("eval_time: 1m, alertname: Own", "eval_time: 1m, alertname: Other")
    )
    refused = stack.tekup("rules", "add", "-f", "own.yml", "--reason", "a test")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    (stack.directory / "own.yml").write_text(OWN_RULES)
    added = stack.tekup("rules", "add", "-f", "own.yml", "--reason", "a test")
    assert added.returncode == 0, added.stdout + added.stderr
    assert "live" in stack.tekup("rules", "list").stdout
    wait_until(lambda: metric(stack, 'ALERTS{alertname="OwnRule", alertstate="firing"}'), "OwnRule to fire", 60)
    removed = stack.tekup("rules", "remove", "own", "--reason", "a test")
    assert removed.returncode == 0, removed.stderr
    wait_until(lambda: not metric(stack, 'ALERTS{alertname="OwnRule"}'), "OwnRule to be gone", 60)


TAKES = """
import http.server, pathlib
class Takes(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        pathlib.Path("/tmp/told").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("0.0.0.0", 8099), Takes).serve_forever()
"""
LIVE_S = 10.0


@pytest.mark.feature("C13")
def test_a_receiver_of_an_operator_is_checked_live_within_seconds_and_takes_a_message(
    stack: ContainerEnvironment, engine: Engine
) -> None:
    secret = stack.alert_secrets / "pager"
    secret.write_text("http://control-plane:8099/")
    name = container(stack, "control-plane")["Name"]
    engine.docker("exec", "--detach", name, "/opt/tekup/bin/python", "-c", TAKES)
    began = time.monotonic()
    made = stack.tekup("receivers", "set", "night", "webhook", "--url-secret", "pager", "--reason", "on call")
    took_s = time.monotonic() - began
    assert made.returncode == 0, made.stdout + made.stderr
    assert "live" in stack.tekup("receivers", "list").stdout
    print(f"live {took_s:.1f} s after the command was typed")
    assert took_s < LIVE_S
    tried = stack.tekup("receivers", "test", "night", "--reason", "is it on?")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "is it on?" in engine.docker("exec", name, "cat", "/tmp/told") or "night" in tried.stdout
    removed = stack.tekup("receivers", "remove", "night", "--reason", "a test")
    assert removed.returncode == 0, removed.stderr
    engine.docker("exec", name, "/opt/tekup/bin/python", "-c", END_OF_TAKES)


END_OF_TAKES = """
import os, pathlib, signal
for each in pathlib.Path("/proc").glob("[0-9]*"):
    if int(each.name) != os.getpid() and b"8099" in (each / "cmdline").read_bytes():
        os.kill(int(each.name), signal.SIGTERM)
"""


@pytest.mark.feature("C10")
def test_every_change_is_a_commit_of_the_leaders_mirror_with_its_author_and_reason(stack: ContainerEnvironment) -> None:
    reason = "a change that is looked for in git"
    made = stack.tekup("clients", "add", "mirrored", "--allow", "filesystem_*", "--reason", reason)
    assert made.returncode == 0, made.stderr
    leader = stack.ask("GET", "/v1/status").json()["leader"]

    def last() -> str:
        git = ("exec", "-T", leader, "git", f"--git-dir=/history/{leader}", "log", "-1", "--format=%an %s", "main")
        return stack.compose(*git).stdout

    wait_until(lambda: reason in last(), "the commit", 30)
    assert last().split()[0] == "operator"
    assert "history was rewritten" not in stack.ask("GET", "/v1/status").json().get("mirror", "")
    stack.tekup("clients", "remove", "mirrored", "--yes", "--reason", "a test")


async def test_what_hogs_the_network_sends_no_more_than_its_bound(stack: ContainerEnvironment) -> None:
    before = {one["name"]: value for one, value in metric(stack, "tekup_container_bandwidth_bytes_per_second")}
    bound = before[container(stack, "mcp-filesystem")["Name"]]
    done = stack.compose("exec", "-T", "mcp-filesystem", "python", "-c", FLOOD, "mcp-search", "3")
    assert done.returncode == 0, done.stderr
    assert bound / 4 < json.loads(done.stdout)["rate"] < bound * 1.25
    await works(stack)


HOLD = """
import os, sys, time
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(240)
        os._exit(0)
time.sleep(240)
"""


def test_an_offender_near_its_limit_is_told_of_by_name(twofold: ContainerEnvironment, engine: Engine) -> None:
    name = container(twofold, "mcp-hub")["Name"]
    engine.docker("exec", "--detach", name, "python", "-c", HOLD, "108")
    url = f"{twofold.on_call_url('alertmanager')}/api/v2/alerts"

    def told() -> bool:
        found = [one["labels"] for one in httpx.get(url, timeout=20, trust_env=False).json()]
        return any(
            (labels["alertname"], labels.get("name"), labels.get("of")) == ("ContainerNearLimit", name, "processes")
            for labels in found
        )

    wait_until(told, f"ContainerNearLimit of {name}", 200)
    engine.docker("restart", "--time", "30", name)
    wait_until(lambda: container(twofold, "mcp-hub")["Health"] == "healthy", "the hub to be well", SOON_S)


async def test_a_gate_that_crashes_leaves_the_other_and_comes_back(
    twofold: ContainerEnvironment, engine: Engine
) -> None:
    engine.crash(container(twofold, "mcp-gateway")["ID"])
    await works(twofold, "MCP_GATEWAY_2_PORT")
    wait_until(lambda: container(twofold, "mcp-gateway")["Health"] == "healthy", "the gate healthy again", SOON_S)
    await works(twofold)


async def test_a_server_of_consul_that_crashes_is_not_missed(twofold: ContainerEnvironment, engine: Engine) -> None:
    engine.crash(container(twofold, "consul-1")["ID"])
    await works(twofold)
    made = twofold.tekup("clients", "add", "after-crash", "--allow", "filesystem_*", "--reason", "a change")
    assert made.returncode == 0, made.stderr


async def test_a_leading_control_plane_that_crashes_hands_over(twofold: ContainerEnvironment, engine: Engine) -> None:
    def leader() -> str:
        try:
            return str(twofold.ask("GET", "/v1/status").json()["leader"])
        except (httpx.TransportError, KeyError, ValueError):
            return ""

    first = leader()
    assert first
    engine.crash(container(twofold, first)["ID"])
    await works(twofold)
    wait_until(leader, "somebody to lead", SOON_S)
    changed = twofold.tekup("traffic", "set", "search", f"{version(twofold)}=100", "--reason", "after the crash")
    assert changed.returncode == 0, changed.stderr


def version(stack: ContainerEnvironment) -> str:
    """The stable version of search."""
    return str(stack.tekup_json("traffic", "show", "search")["policy"]["stable"])


async def test_a_container_that_takes_the_place_of_a_killed_one_does_not_pass_for_it(
    stack: ContainerEnvironment, engine: Engine
) -> None:
    before = container(stack, "mcp-search")
    engine.docker("rm", "--force", before["ID"])
    services = set(stack.said("config", "--services").split()) - {"grafana", *ONE_SHOT}
    stack.said("up", "-d", "--no-build", *sorted(services))
    count = len([one for one in stack.containers() if one["Service"] == "mcp-search"])

    def passing() -> int:
        shown = stack.tekup_json("traffic", "show", "search")
        return len([one for one in shown["instances"] if one["passing"]])

    wait_until(lambda: passing() == count, "no ghost among the instances", SOON_S)
