"""A bridge before a server at a URL: headers from files, sessions that expire, servers that come and go."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.services.conftest import ROOT, Instance, Starter
from tests.contract.services.test_bridge_hostile import again
from tests.support.ports import free_port

pytestmark = [pytest.mark.local, pytest.mark.feature("B11"), pytest.mark.timeout(120)]
REMOTE = ROOT / "tests" / "support" / "remote_server.py"
WITHIN_S = 30.0


class Remote:
    """A server that can be restarted on its port."""

    def __init__(self, transport: str, issuer: str = "") -> None:
        self.transport, self.port, self.issuer = transport, free_port(), issuer
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.transport == 'sse' else 'mcp'}"

    def start(self) -> None:
        argv = [sys.executable, str(REMOTE), str(self.port), self.transport, *filter(None, [self.issuer])]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline
            assert self._process.poll() is None
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)


def bridge_to(remote: Remote, starter: Starter, folder: Path) -> Instance:
    word, file = folder / "word", folder / "declaration.json"
    word.write_text("Bearer sesame\n")
    declaration = {"name": "pear", "url": remote.url, "transport": remote.transport, "answer_s": 1}
    file.write_text(json.dumps({**declaration, "header_files": {"Authorization": str(word)}}))
    return starter.start("pear", module="services.bridge", MCP_BRIDGE_FILE=file)


@pytest.fixture(params=["http", pytest.param("sse", marks=pytest.mark.long)])
def remote(request: pytest.FixtureRequest) -> Iterator[Remote]:
    made = Remote(request.param)
    made.start()
    yield made
    made.kill()


async def test_a_remote_server_is_served_and_its_restart_costs_no_call(
    remote: Remote, starter: Starter, tmp_path: Path
) -> None:
    instance = bridge_to(remote, starter, tmp_path)
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        told.append(progress)

    async with instance.session() as session:
        before = await again(session, "pear_pid")
        assert not (await session.client.call_tool("pear_slow", {"steps": 3}, progress_callback=note)).is_error
        assert told == [1, 2, 3]
        remote.kill()
        assert (await session.call("pear_pid")).error
        remote.start()
        after = await again(session, "pear_pid")
        assert after != before
        assert (await session.call("pear_pid")).text == after
    assert "sesame" not in instance.log.read_text()
    assert instance.end() == 0


async def test_an_expired_session_is_begun_anew_and_the_call_runs_once(starter: Starter, tmp_path: Path) -> None:
    """A server that was restarted knows no session; nobody called meanwhile, so no caller sees anything of it."""
    remote = Remote("http")
    remote.start()
    try:
        instance = bridge_to(remote, starter, tmp_path)
        async with instance.session() as session:
            before = await again(session, "pear_pid")
            remote.kill()
            remote.start()
            said = await session.call("pear_pid")
            assert not said.error
            assert said.text != before
        assert instance.end() == 0
    finally:
        remote.kill()
