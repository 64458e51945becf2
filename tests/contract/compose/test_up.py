"""`tekup up` with everything real, where not everything is as usual."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.local.layout import Layout
from compose.local.platform_table import package_version
from compose.local.settings import load, named_ports

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).resolve().parents[3]
Tekup = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tekup(tmp_path: Path) -> Iterator[Tekup]:
    """Runs `tekup` in an environment of the test's own, on free ports."""
    names = named_ports(load(Layout(tmp_path), {}).settings)
    (tmp_path / "tekup.toml").write_text("".join(f"{name} = 0\n" for name in names))

    def run(*args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from control_plane.cli import main; main()", *args]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **settings}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)

    yield run
    run("down")


def test_up_ends_in_seconds_with_all_that_services_say_against_their_settings(tekup: Tekup) -> None:
    began = time.monotonic()
    up = tekup("up", MCP_TOOL_DEADLINE_S="abc", MCP_BROWSER_ALLOW_HOSTS="bad/host", MCP_SEARCH_FOO="1")
    assert up.returncode == 2, up.stderr
    assert time.monotonic() - began < 60
    said = " ".join(up.stderr.split())
    for problem in ("MCP_TOOL_DEADLINE_S", "'bad/host' is not a host", "MCP_SEARCH_FOO: there is no such setting"):
        assert problem in said
    for service in ("browser", "filesystem", "search", "hub"):
        assert f"{service} was not started" in said


def test_up_passes_over_what_is_scaled_to_0_and_says_so(tekup: Tekup, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make_folders()
    layout.scale.write_text(json.dumps({name: {package_version(): 0} for name in ("filesystem", "hub")}))
    up = tekup("up")
    assert up.returncode == 0, up.stderr
    said = " ".join(up.stdout.split())
    assert "ok search_grep" in said
    assert "filesystem: scaled to 0, nobody answers its calls; `tekup scale filesystem=1` brings it back" in said
    assert "hub: scaled to 0, /mcp gives no lists and older clients get 503; `tekup scale hub=1`" in said
    again = json.loads(tekup("up", "--json").stdout)
    assert again["scaled_to_0"] == ["filesystem", "hub"]
    assert [call["service"] for call in again["calls"]] == ["search", "browser"]
    doctor = {finding["what"]: finding for finding in json.loads(tekup("doctor", "--json").stdout)}
    assert doctor["gate local"]["ok"]
    assert doctor["service search"]["ok"]
