"""Alertmanager's configuration: right by its own tool, and each alert goes where it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.alerting import AlertmanagerProcess
from tests.support.programs import program

pytestmark = pytest.mark.local
HOOK = "http://127.0.0.1:9/hook"


def amtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [program("amtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.feature("D4")
@pytest.mark.parametrize("urls", [("", ""), (HOOK, ""), (HOOK, HOOK)])
def test_the_configuration_passes_amtool_with_and_without_somebody_to_tell(
    tmp_path: Path, urls: tuple[str, str]
) -> None:
    done = amtool("check-config", AlertmanagerProcess(tmp_path, *urls).config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 receivers" in done.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=NoLeader", "severity=critical"), "pages"),
        (("alertname=ToolSlow", "severity=warning", "service=search"), "warnings"),
        (("alertname=Watchdog", "severity=none"), "watchdog"),
    ],
)
def test_an_alert_goes_to(tmp_path: Path, labels: tuple[str, ...], receiver: str) -> None:
    config = AlertmanagerProcess(tmp_path, HOOK, HOOK).config
    done = amtool("config", "routes", "test", f"--config.file={config}", *labels)
    assert done.stdout.strip() == receiver


def test_a_configuration_with_a_slip_does_not_pass(tmp_path: Path) -> None:
    config = AlertmanagerProcess(tmp_path).config
    config.write_text(config.read_text().replace("receiver: pages", "receiver: nobody"))
    assert amtool("check-config", config).returncode != 0
