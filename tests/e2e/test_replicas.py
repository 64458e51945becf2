"""A local environment with three control planes: what an operator notices when one dies."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.e2e.conftest import Environment
from tests.support.drill import recovered

pytestmark = [
    pytest.mark.local,
    pytest.mark.long,
    pytest.mark.drill,
    pytest.mark.feature("C12"),
    pytest.mark.timeout(600),
]
CHANGED_S = 60


def test_operators_go_on_when_the_leading_control_plane_is_killed(fresh_environment: Environment) -> None:
    settings = fresh_environment.directory / "tekup.toml"
    settings.write_text(settings.read_text() + "MCP_CONTROL_PLANE_REPLICAS = 3\n")
    fresh_environment.start()
    shown = fresh_environment.tekup_json("status")["control_plane"]
    names = [one["id"] for one in shown["replicas"]]
    assert names == ["control-plane", "control-plane-2", "control-plane-3"]
    assert shown["leader"] in names
    leader = next(one for one in fresh_environment.status().processes if one.name == shown["leader"])
    assert leader.pid
    began_s = time.monotonic()
    os.kill(leader.pid, signal.SIGKILL)
    assert fresh_environment.tekup_json("clients", "add", "after")["in_force"]
    recovered("the leading control plane, until the next change is in force", time.monotonic() - began_s, CHANGED_S)
    assert "after" in {one["id"] for one in fresh_environment.tekup_json("clients", "list")["clients"]}
    fresh_environment.until_all_ready()
    assert fresh_environment.tekup("doctor").returncode == 0
    assert fresh_environment.tekup("down").returncode == 0
    assert fresh_environment.running() == []
