"""What Prometheus is given is right by its own tool, with the values of an environment and with those of tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compose.local.observability import lay_out_extras
from tests.support.on_call import made_parts
from tests.support.programs import program
from tests.support.prometheus_process import configuration

pytestmark = pytest.mark.local


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), "check", "config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def token(folder: Path) -> Path:
    path = folder / "consul.token"
    path.write_text("a token")
    return path


@pytest.mark.feature("D3")
def test_the_configuration_passes_promtool(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(configuration("http://127.0.0.1:8500", token(tmp_path), "127.0.0.1:3010"))
    done = checked(path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.feature("D3")
@pytest.mark.parametrize("asked", ["prometheus", "observability"])
def test_the_configuration_of_an_environment_passes_promtool(tmp_path: Path, asked: str) -> None:
    parts = made_parts(tmp_path, MCP_WITH=asked, MCP_CONTROL_PLANE_REPLICAS="3")
    lay_out_extras(parts)
    parts.layout.consul_secrets.joinpath("prometheus.token").write_text("a token")
    done = checked(parts.layout.prometheus / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_configuration_with_a_slip_does_not(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(
        configuration("http://127.0.0.1:8500", token(tmp_path)).replace("consul_sd_configs", "consul_configs")
    )
    assert checked(path).returncode != 0
