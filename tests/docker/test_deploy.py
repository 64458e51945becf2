"""`tekup deploy`: what was tested comes up and is waited for; what was not is refused before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.images.tested import ids_of, note
from tests.support.command_line import run_tekup
from tests.support.container_environment import ContainerEnvironment
from tests.support.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.feature("F3")]
DEPLOY_S = 400.0


@pytest.fixture
def fresh(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, tmp_path: Path
) -> Iterator[ContainerEnvironment]:
    """A development environment of which nothing is there yet."""
    made = ContainerEnvironment(engine.env, "dev", tmp_path, f"{run_prefix}-deploy")
    yield made
    made.stop()


def deploy(made: ContainerEnvironment, record: Path) -> tuple[int, str]:
    own = {**made.env, **made.settings, "COMPOSE_PROJECT_NAME": made.project}
    arguments = ("deploy", "dev", "--reason", "a test", "--tested", str(record))
    done = run_tekup(*arguments, folder=made.directory, timeout_s=DEPLOY_S, own=own)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def running(made: ContainerEnvironment) -> dict[str, str]:
    """The id of each container that runs, but for those that run once each time."""
    found = map(json.loads, made.said("ps", "--format", "json").splitlines())
    return {one["Service"]: one["ID"] for one in found if one["Service"] != "first-call"}


def test_only_what_was_tested_is_deployed_and_again_changes_nothing(
    fresh: ContainerEnvironment, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    record = tmp_path / "tested.json"
    ids = ids_of("latest")
    note(dict(list(ids.items())[1:]), record)
    code, said = deploy(fresh, record)
    assert code == 1
    assert f"not deployed: {next(iter(ids))} (" in said
    assert "not tested" in said
    assert running(fresh) == {}

    note(ids, record)
    code, said = deploy(fresh, record)
    assert code == 0, said
    assert "dev runs latest" in said
    assert "in the history of the control plane" in said
    before = running(fresh)
    assert {"mcp-gateway", "control-plane", "mcp-search"} <= before.keys()

    code, said = deploy(fresh, record)
    assert code == 0, said
    assert running(fresh) == before
