"""Alerts of a full local environment: what stores logs and traces stands still, and what no fault disturbs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Environment, make_environment
from tests.support.alerting import Receiver
from tests.support.gate import wait_until
from tests.support.load import body, headers

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(3600), pytest.mark.feature("D4")]
ALERT_S = 240.0
QUIET_S = 600.0
CALLS: tuple[tuple[str, dict[str, object]], ...] = (
    ("filesystem_read_file", {"path": "{workspace}/welcome.md"}),
    ("search_grep", {"pattern": "Welcome", "path": "{workspace}"}),
)


@contextlib.contextmanager
def alerted(folder: Path, receiver: Receiver, *extras: str, scale: float = 1) -> Iterator[Environment]:
    """An environment whose alerts are told to a receiver."""
    made = make_environment(folder)
    ports = "".join(f"MCP_{name}_PORT = 0\n" for name in ("PROMETHEUS", "ALERTMANAGER", "LOKI", "JAEGER", "COLLECTOR"))
    told = f'MCP_ALERT_WEBHOOK_URL = "{receiver.url}/alerts"\nMCP_WATCHDOG_WEBHOOK_URL = "{receiver.url}/watchdog"\n'
    settings = folder / "tekup.toml"
    settings.write_text(f"{settings.read_text()}{ports}{told}MCP_ALERT_TIME_SCALE = {scale}\n")
    try:
        made.up = made.tekup_json("up", *extras)
        wait_until(lambda: receiver.last("Watchdog"), "the deadman's switch", ALERT_S)
        yield made
    finally:
        made.tekup("down")


@contextlib.contextmanager
def load(environment: Environment) -> Iterator[None]:
    """A few calls a second of every kind that is cheap."""
    ended = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while True:
                for tool, arguments in CALLS:
                    if ended.wait(0.2):
                        return
                    given = {
                        name: str(value).format(workspace=environment.state / "workspace")
                        for name, value in arguments.items()
                    }
                    asked = body("tools/call", {"name": tool, "arguments": given})
                    url = f"{environment.gateway_url}/mcp"
                    with contextlib.suppress(httpx.HTTPError):
                        client.post(url, json=asked, headers=headers(environment.key, "tools/call", tool))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_neither_logs_nor_traces_arrive_while_their_stores_stand_still(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        alerted(tmp_path, receiver, "--observability", scale=0.02) as environment,
        load(environment),
    ):
        for process, name in (("loki", "LogsNotArriving"), ("jaeger", "TracesNotArriving")):
            before = receiver.last(name)
            assert before is None or before.status == "resolved"
            pid = environment.process(process).pid
            assert pid
            with frozen(pid):
                wait_until(lambda name=name: is_now(receiver, name, "firing"), f"{name} to be told", ALERT_S)  # type: ignore[misc]
            wait_until(lambda name=name: is_now(receiver, name, "resolved"), f"{name} to be over", ALERT_S)  # type: ignore[misc]


def is_now(receiver: Receiver, name: str, status: str) -> bool:
    last = receiver.last(name)
    return last is not None and last.status == status


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process stands still for the length of a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_an_instance_that_dies_is_told_and_ten_quiet_minutes_before_it_nothing_else_is(tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        alerted(tmp_path, receiver, "--with", "prometheus,alertmanager") as environment,
        load(environment),
    ):
        over = threading.Event()
        over.wait(QUIET_S)  # ten minutes of normal load are what is asked for
        told = {(one.labels["alertname"], one.labels.get("service", "")) for one in receiver.told}
        assert told == {("Watchdog", "")}
        pid = environment.process("search").pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_now(receiver, "InstanceRestarted", "firing"), "the loss to be told", ALERT_S)
        last = receiver.last("InstanceRestarted")
        assert last
        assert last.labels["service"] == "search"
        assert last.annotations["runbook_url"].endswith("/docs/runbooks/InstanceRestarted.md")
