"""What operators do at night, by the command line on a full environment: tokens, audit, git, alert rules, silences."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Environment, make_environment
from tests.support.command_line import run_tekup
from tests.support.gate import wait_until

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900)]
RULES = """\
kind: AlertRules
name: night
interval_s: 1
rules:
  - alert: QueueDeep
    expr: vector(7) > 5
    labels: {severity: warning, service: search}
    annotations: {summary: "the queue is {{ $value }} deep"}
tests:
  - interval: 1m
    alert_rule_test:
      - eval_time: 1m
        alertname: QueueDeep
        exp_alerts:
          - exp_labels: {severity: warning, service: search}
            exp_annotations: {summary: the queue is 7 deep}
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    made = make_environment(tmp_path_factory.mktemp("night"))
    settings = made.directory / "tekup.toml"
    more = 'MCP_WITH = "prometheus,alertmanager"\nMCP_PROMETHEUS_PORT = 0\nMCP_ALERTMANAGER_PORT = 0\n'
    settings.write_text(f'{settings.read_text()}{more}MCP_GIT_MIRROR = "{made.directory}/mirror"\n')
    try:
        made.start()
        yield made
    finally:
        made.tekup("down")


def git(folder: Path, *arguments: str) -> str:
    """What git says."""
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.feature("C9")
def test_an_operator_steers_and_is_refused_what_is_an_admins_and_is_out_when_revoked(night: Environment) -> None:
    made = night.tekup("operators", "add", "ada", "--role", "operator", "--service", "search", "--reason", "on call")
    assert made.returncode == 0, made.stderr
    token = night.directory / "ada.token"
    token.write_text(made.stdout)
    token.chmod(0o600)

    def ada(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_tekup(*arguments, folder=night.directory, timeout_s=60, own={"MCP_OPERATOR_TOKEN_FILE": str(token)})

    assert ada("operators", "who").stdout == "ada: operator, bound to search\n"
    version = night.tekup_json("traffic", "show", "search")["policy"]["stable"]
    assert ada("traffic", "set", "search", f"{version}=100", "--reason", "as it is").returncode == 0
    for refused in (("clients", "add", "x"), ("traffic", "set", "filesystem", "1=1"), ("state", "repair", "-r", "x")):
        answer = ada(*refused)
        assert (answer.returncode, "ada" in answer.stderr) == (2, True), answer.stderr
    listed = night.tekup("operators", "list").stdout
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["operator", "admin", "-"],
        ["ada", "operator", "search"],
    ]
    assert night.tekup("operators", "revoke", "ada", "--reason", "laptop lost").returncode == 0
    out = ada("traffic", "show")
    assert (out.returncode, "an operator token is needed" in out.stderr) == (2, True)


@pytest.mark.feature("C10")
def test_the_trail_is_listed_exported_and_verified_and_a_changed_line_is_named(night: Environment) -> None:
    night.tekup_json("clients", "add", "trail", "--reason", "to be seen")
    wait_until(lambda: "to be seen" in night.tekup("audit", "list").stdout, "the change in the trail", 20)
    file = night.directory / "audit.jsonl"
    assert night.tekup("audit", "export", str(file)).returncode == 0
    good = night.tekup("audit", "verify", str(file))
    assert (good.returncode, "are as they were written" in good.stdout) == (0, True), good.stdout
    noted = good.stdout.rsplit(maxsplit=1)[-1]
    assert night.tekup("audit", "verify", "--hash", noted).returncode == 0
    assert night.tekup("audit", "verify", "--hash", "0" * 63 + "1").returncode == 1
    lines = file.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "who": "somebody"}, sort_keys=True, separators=(",", ":"))
    file.write_text("\n".join(lines))
    bad = night.tekup("audit", "verify", str(file))
    assert (bad.returncode, "record 3 is not what was written" in bad.stdout) == (1, True), bad.stdout


@pytest.mark.feature("C10")
def test_a_checkout_of_the_mirror_is_changed_and_applied_and_a_rewritten_mirror_is_named(night: Environment) -> None:
    mirror, checkout = night.directory / "mirror" / "control-plane", night.directory / "checkout"
    night.tekup_json("clients", "add", "mirrored", "--reason", "seen in git")
    wait_until(lambda: "seen in git" in git(mirror, "log", "-1", "--format=%s", "main"), "the commit", 20)
    subprocess.run(["git", "clone", "-q", str(mirror), str(checkout)], check=True)
    assert night.tekup("plan", "-f", str(checkout)).stdout == "nothing to change\n"
    clients = checkout / "clients.yml"
    clients.write_text(clients.read_text().replace("id: mirrored", "id: from-git"))
    applied = night.tekup("apply", "-f", str(checkout), "--prune", "--reason", "by checkout")
    assert applied.returncode == 0, applied.stderr
    wait_until(lambda: "by checkout" in git(mirror, "log", "-1", "--format=%s", "main"), "the next commit", 20)
    git(checkout, "checkout", "-q", "--", ".")
    git(checkout, "pull", "-q")
    assert night.tekup("plan", "-f", str(checkout)).stdout == "nothing to change\n"
    git(mirror, "update-ref", "refs/heads/main", git(mirror, "rev-parse", "main~1").strip())
    forged = git(
        mirror, "-c", "user.name=e", "-c", "user.email=e", "commit-tree", "main^{tree}", "-p", "main~1", "-m", "x"
    )
    git(mirror, "update-ref", "refs/heads/main", forged.strip())
    wait_until(lambda: "history was rewritten" in night.tekup("doctor").stdout, "the doctor to name it", 60)
    subprocess.run(["rm", "-r", str(mirror)], check=True)
    wait_until(lambda: "history was rewritten" not in night.tekup("doctor").stdout, "it to be made anew", 60)
    assert "by checkout" in git(mirror, "log", "-1", "--format=%s", "main")


@pytest.mark.feature("C13")
def test_a_rule_is_tried_added_live_fires_is_silenced_and_removed(night: Environment) -> None:
    file = night.directory / "night.yml"
    file.write_text(RULES.replace("vector(7) > 5", "vector(7 > 5"))
    broken = night.tekup("rules", "test", "-f", str(file))
    assert (broken.returncode, "night is refused" in broken.stdout) == (1, True)
    assert night.tekup("rules", "add", "-f", str(file)).returncode == 2
    file.write_text(RULES)
    tried = night.tekup("rules", "test", "-f", str(file), "--hours", "1")
    assert "night is sound, 1 tests passed" in tried.stdout
    added = night.tekup("rules", "add", "-f", str(file), "--reason", "searches queue")
    assert added.returncode == 0, added.stdout + added.stderr
    assert "live" in night.tekup("rules", "list").stdout
    alertmanager = night.up["alertmanager"]

    def told() -> list[str]:
        alerts = httpx.get(f"{alertmanager}/api/v2/alerts", trust_env=False, timeout=10).json()
        return [one["status"]["state"] for one in alerts if one["labels"]["alertname"] == "QueueDeep"]

    wait_until(lambda: told() == ["active"], "the alert at Alertmanager", 60)
    silence = night.tekup("silence", "add", "alertname=QueueDeep", "--for", "30m", "--reason", "known").stdout.strip()
    wait_until(lambda: told() == ["suppressed"], "the alert silenced", 30)
    assert silence[:8] in night.tekup("silence", "list").stdout
    assert night.tekup("silence", "expire", silence[:8]).returncode == 0
    assert night.tekup("rules", "remove", "night", "--reason", "mended").returncode == 0
    assert night.tekup("rules", "list").stdout.startswith("No rules yet")
