"""Plan, apply, export, history, rollback and drift by the command line, against a full environment."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

pytestmark = [pytest.mark.local, pytest.mark.timeout(300), pytest.mark.feature("C9", "G7")]


@pytest.fixture
def exported(environment: Any, tmp_path: Path) -> Iterator[Path]:
    """A directory with what is there; the environment is put back to it."""
    folder = tmp_path / "desired"
    number = environment.tekup_json("history", "--limit", "1")["records"][0]["revision"]
    environment.tekup("export", str(folder))
    yield folder
    environment.tekup_json("rollback", "--to", str(number), "--reason", "test ends")


def well_shown(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.anywhere
def test_what_is_exported_is_there_already_and_fits_the_schema(environment: Any, exported: Path) -> None:
    planned = environment.tekup("plan", "-f", str(exported))
    assert (planned.returncode, planned.stdout) == (0, "nothing to change\n")
    applied = environment.tekup("apply", "-f", str(exported), "--reason", "again")
    assert applied.returncode == 0
    assert "state applied: so already, revision" in applied.stdout
    schema = json.loads(environment.tekup("schema").stdout)
    assert sorted(path.name for path in exported.iterdir()) == ["clients.yml", "services.yml"]
    for path in exported.iterdir():
        for value in yaml.safe_load_all(path.read_text()):
            jsonschema.validate(value, schema)
    together = environment.tekup("export").stdout
    assert together == (exported / "services.yml").read_text() + (exported / "clients.yml").read_text()


@pytest.mark.anywhere
def test_a_change_is_planned_applied_shown_and_rolled_back(environment: Any, exported: Path) -> None:
    (exported / "more").mkdir()
    (exported / "more" / "reader.yml").write_text(
        "kind: Client\nid: reader\nallow: ['search_*', 'filesystem_read_*']\n"
    )
    planned = environment.tekup("plan", "-f", str(exported))
    assert (planned.returncode, planned.stdout) == (7, "+ Client reader\n1 to add, 0 to change, 0 to remove\n")
    tried = environment.tekup("apply", "-f", str(exported), "--reason", "try", "--dry-run")
    assert "state applied: dry run, nothing was written" in tried.stdout

    applied = environment.tekup("apply", "-f", str(exported), "--reason", "a reader for CI")
    assert applied.returncode == 0
    assert "in force after" in applied.stdout
    assert environment.tekup("plan", "-f", str(exported)).returncode == 0
    last = environment.tekup_json("history", "--limit", "1")["records"][0]
    assert (last["verb"], last["reason"], last["documents"]) == ("state.apply", "a reader for CI", 1)

    shown = environment.tekup("history", str(last["revision"]))
    assert "+id: reader" in shown.stdout
    listed = environment.tekup("history")
    assert "a reader for CI" in listed.stdout
    assert well_shown(listed.stdout + shown.stdout + planned.stdout + tried.stdout)

    back = environment.tekup("rollback", "--to", str(last["revision"] - 1), "--reason", "not yet")
    assert back.returncode == 0
    assert "- Client reader" in back.stdout
    assert "in force after" in back.stdout
    assert "reader" not in {one["id"] for one in environment.tekup_json("clients", "list")["clients"]}
    unknown = environment.tekup("rollback", "--to", "99999", "--reason", "never was")
    assert unknown.returncode == 2
    assert "revision 99999 does not exist" in unknown.stderr


@pytest.mark.anywhere
def test_a_set_with_mistakes_is_refused_whole_and_each_is_named(environment: Any, exported: Path) -> None:
    services = exported / "services.yml"
    services.write_text(services.read_text().replace("version: ", "version: 9.", 1))
    (exported / "reader.yml").write_text("kind: Client\nid: reader\n")
    refused = environment.tekup("apply", "-f", str(exported), "--reason", "wrong")
    assert refused.returncode == 2
    assert "browser has no instance of version 9." in refused.stderr
    assert "reader" not in {one["id"] for one in environment.tekup_json("clients", "list")["clients"]}
    (exported / "reader.yml").write_text("kind: Client\nid: reader\nalow: []\n")
    refused = environment.tekup("plan", "-f", str(exported))
    assert refused.returncode == 2
    assert "reader.yml, document 1, Client reader: alow: Extra inputs" in " ".join(refused.stderr.split())
    assert well_shown(refused.stderr)


def test_what_another_hand_changes_is_drift_and_is_put_back(environment: Any) -> None:
    assert environment.tekup("drift").returncode == 0
    key = f"{environment.consul_url}/v1/kv/tekup/policy/clients/dev"
    hand = environment.consul_token("management")
    before = base64.b64decode(httpx.get(key, headers=hand).json()[0]["Value"])
    try:
        httpx.put(key, content=before.replace(b'"*"', b'"evil_*"'), headers=hand).raise_for_status()
        found = environment.tekup("drift")
        assert found.returncode == 7
        assert "+- evil_*" in found.stdout
        assert "another hand has changed it" in found.stdout
        assert well_shown(found.stdout)
        restored = environment.tekup("state", "restore", "--reason", "edited by mistake")
        assert restored.returncode == 0
        assert "in force after" in restored.stdout
        assert base64.b64decode(httpx.get(key, headers=hand).json()[0]["Value"]) == before
    finally:
        environment.tekup("state", "restore", "--reason", "test ends")
    assert environment.tekup("drift").returncode == 0


@pytest.mark.anywhere
@pytest.mark.parametrize(
    "verb",
    [
        ("clients", "add", "ci"),
        ("clients", "remove", "dev"),
        ("keys", "create", "dev"),
        ("traffic", "set", "filesystem", "{version}=100"),
    ],
)
def test_a_dry_run_says_what_would_change_and_changes_nothing(environment: Any, verb: tuple[str, ...]) -> None:
    version = environment.tekup_json("traffic", "show", "filesystem")["policy"]["stable"]
    before = environment.tekup_json("history", "--limit", "1")
    done = environment.tekup(*(part.format(version=version) for part in verb), "--dry-run")
    assert done.returncode == 0
    assert "dry run, nothing was written" in done.stdout + done.stderr
    assert "tk_" not in done.stdout
    assert environment.tekup_json("history", "--limit", "1") == before
