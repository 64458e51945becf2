"""Alert rules: complete, tested by Prometheus's own tool, each with a runbook whose queries can be asked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.rules import RULES, Scale, rendered, rule_files
from tests.support.alerting import RUNBOOKS, queries
from tests.support.programs import program
from tests.support.promql import EXPORTED, series

pytestmark = pytest.mark.local
SECTIONS = ["Means", "Check", "Remedy", "Silence"]
NAMES = {
    "InstanceRestarted", "InstanceCrashLooping", "MemoryNearLimit", "CpuNearLimit", "ProcessesNearLimit",
    "FilesNearLimit", "DiskNearlyFull", "ToolSlow", "GateSlow", "ToolErrors", "GateErrors", "SloBurnFast",
    "SloBurnSlow", "CanaryFailing", "RolloutStuck", "NoLeader", "GatePolicyStale", "GateLagging", "GateTableProblems",
    "CertificateExpiring", "ConsulNoQuorum", "ScrapeMissing", "BrowserExhausted", "ProbeFailing", "GateOnFallback",
    "RegistrationRefused", "AuthorizationServerUnreachable", "LogsNotArriving", "TracesNotArriving",
    "NotificationsFailing", "Watchdog", "ContainerNearLimit", "GitMirrorRewritten",
    "AutoscaleAtMaximum", "BackupTooOld", "StandbyTooOld", "ContainerFailing",
    "RegionBehind", "RegionLeftChanges",
}  # fmt: skip
Json = dict[str, Any]


def rules() -> Iterator[Json]:
    for path in rule_files().values():
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDED = {str(rule["record"]) for rule in rules() if "record" in rule}
TESTS = sorted((RULES / "tests").glob("*.yml"))


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def runbook(name: str) -> str:
    return (RUNBOOKS / f"{name}.md").read_text()


@pytest.mark.feature("D4")
def test_every_alert_that_was_agreed_on_is_there_and_no_other() -> None:
    assert {rule["alert"] for rule in ALERTS} == NAMES


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: Json) -> None:
    name, said = rule["alert"], rule["annotations"]
    assert rule["labels"]["severity"] in (("none",) if name == "Watchdog" else ("critical", "warning"))
    assert said["runbook_url"] == f"RUNBOOKS/{name}.md"
    assert said["summary"]
    assert not said["summary"].endswith(".")
    assert said["description"].endswith(".")


@pytest.mark.feature("D4")
@pytest.mark.parametrize("path", [*rule_files().values(), *TESTS], ids=lambda path: str(path.relative_to(RULES)))
def test_promtool_finds_nothing_wrong(path: Path) -> None:
    done = promtool("test" if path in TESTS else "check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("factor", [1, 0.02, 0.001])
def test_scaled_rules_are_rules(tmp_path: Path, factor: float) -> None:
    for name, text in rendered(Scale(factor, window_s=4, interval_s=1), "docs/runbooks").items():
        (tmp_path / name.replace("/", "-")).write_text(text)
    done = promtool("check", "rules", *sorted(tmp_path.iterdir()))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_alert_is_tested_to_fire_and_not_to_fire(name: str) -> None:
    looks = [
        look
        for path in TESTS
        for case in yaml.safe_load(path.read_text())["tests"]
        for look in case.get("promql_expr_test", ())
        if f'alertname="{name}"' in look["expr"]
    ]
    assert [look for look in looks if look["exp_samples"]]
    assert name == "Watchdog" or [look for look in looks if not look["exp_samples"]]


ALERTED = [path for path in TESTS if (RULES / "alerts" / path.name).exists()]


@pytest.mark.parametrize("path", ALERTED, ids=lambda path: path.name)
def test_a_test_of_rules_notices_a_rule_that_never_fires(path: Path, tmp_path: Path) -> None:
    """What holds no matter what the rules say tests nothing."""
    text = (RULES / "alerts" / path.name).read_text()
    dead = re.sub(r"expr: (\|\n(?: {10}.*\n)+|.*\n)", "expr: vector(0) > 1\n", text)
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / path.name).write_text(dead)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / path.name).write_text(path.read_text())
    assert promtool("check", "rules", tmp_path / "alerts" / path.name).returncode == 0
    assert promtool("test", "rules", tmp_path / "tests" / path.name).returncode != 0


@pytest.mark.feature("D4")
@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_alert_has_a_runbook_with_all_its_sections(name: str) -> None:
    text = runbook(name)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert queries(text)
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_every_runbook_is_an_alerts_and_what_it_refers_to_exists() -> None:
    books = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert books == NAMES
    for name in books:
        assert set(re.findall(r"\]\((\w+)\.md\)", runbook(name))) <= NAMES


def test_every_query_of_a_runbook_can_be_read(tmp_path: Path) -> None:
    asked = [
        {"record": f"{name}:{number}", "expr": query}
        for name in sorted(NAMES)
        for number, query in enumerate(queries(runbook(name)))
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": asked}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> Iterator[tuple[str, str]]:
    """All PromQL of rules and runbooks, with where it stands; dashboards are asked of a running stack instead."""
    for rule in rules():
        yield str(rule.get("alert", rule.get("record"))), str(rule["expr"])
    for name in NAMES:
        for query in queries(runbook(name)):
            yield f"docs/runbooks/{name}.md", query


def test_nobody_asks_for_a_series_that_nobody_shows() -> None:
    known = EXPORTED | RECORDED
    assert {(where, name) for where, query in expressions() for name in series(query) - known} == set()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('sum by (service) (rate(a_total{b="c_total"}[5m])) > 0', {"a_total"}),
        ("x:y:rate5m > on (service) group_left (z) 14.4 * (1 - slo:objective)", {"x:y:rate5m", "slo:objective"}),
        ("max(a) < 1 or absent(b offset 5m) and c unless d", {"a", "b", "c", "d"}),
        ("time() - 1e3 > 5m", set()),
    ],
)
def test_the_series_of_a_query_are_found(query: str, names: set[str]) -> None:
    assert series(query) == names
