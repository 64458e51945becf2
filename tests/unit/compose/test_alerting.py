"""What the local environment makes of alerts: rules laid out, Alertmanager's patience, who is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compose.local.alerting import alertmanager, alertmanager_values, lay_out_rules, rules_folder
from compose.local.errors import BadSettings
from compose.local.layout import Layout
from compose.local.parts import Parts
from compose.local.programs import Found
from compose.local.settings import load


def parts(folder: Path, **settings: str) -> Parts:
    layout = Layout(folder)
    programs = {"alertmanager": Found("alertmanager", Path("/bin/alertmanager"), "0.31.1", "here")}
    return Parts(layout, load(layout, settings), {"MCP_ALERTMANAGER_PORT": 9093}, programs)


def test_rules_are_laid_out_scaled_with_their_runbooks_and_what_is_none_any_more_goes(tmp_path: Path) -> None:
    made = parts(tmp_path, MCP_ALERT_TIME_SCALE="0.1", MCP_RUNBOOKS_URL="https://books.example")
    (rules_folder(made) / "alerts").mkdir(parents=True)
    (rules_folder(made) / "alerts" / "gone.yml").write_text("groups: []")
    lay_out_rules(made, 5)
    assert not (rules_folder(made) / "alerts" / "gone.yml").exists()
    (group,) = yaml.safe_load((rules_folder(made) / "alerts" / "tools.yml").read_text())["groups"]
    slow = group["rules"][0]
    assert (group["interval"], slow["for"]) == ("5000ms", "30000ms")
    assert slow["annotations"]["runbook_url"] == "https://books.example/ToolSlow.md"


def test_runbooks_are_those_of_this_checkout_unless_told(tmp_path: Path) -> None:
    made = parts(tmp_path)
    lay_out_rules(made, 5)
    text = (rules_folder(made) / "alerts" / "tools.yml").read_text()
    assert "file:///" in text
    assert "/docs/runbooks/ToolSlow.md" in text


def test_nobody_is_told_unless_there_is_somebody(tmp_path: Path) -> None:
    values = alertmanager_values(parts(tmp_path))
    assert (values["ALERT_RECEIVER"], values["WATCHDOG_RECEIVER"]) == ("", "")
    told = alertmanager_values(parts(tmp_path, MCP_ALERT_WEBHOOK_URL="http://127.0.0.1:9/hook"))
    assert told["ALERT_RECEIVER"] == '{url: "http://127.0.0.1:9/hook", send_resolved: true}'


def test_patience_is_scaled_and_never_none(tmp_path: Path) -> None:
    assert alertmanager_values(parts(tmp_path))["GROUP_WAIT"] == "30s"
    scaled = alertmanager_values(parts(tmp_path, MCP_ALERT_TIME_SCALE="0.001"))
    assert (scaled["GROUP_WAIT"], scaled["PAGE_REPEAT"]) == ("5000ms", "5000ms")


@pytest.mark.parametrize("url", ["ftp://x", 'http://x"}', "http://${HOME}"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSettings, match="MCP_ALERT_WEBHOOK_URL"):
        parts(tmp_path, MCP_ALERT_WEBHOOK_URL=url)


def test_alertmanager_listens_where_it_is_told_and_gossips_with_nobody(tmp_path: Path) -> None:
    process = alertmanager(parts(tmp_path))
    assert "--web.listen-address=127.0.0.1:9093" in process.argv
    assert "--cluster.listen-address=" in process.argv
    assert process.ready
    assert process.ready.url == "http://127.0.0.1:9093/-/ready"
