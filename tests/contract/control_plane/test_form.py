"""Versions of the control plane side by side over a real Consul, and a state that is newer than they are."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from control_plane.form import SCHEMA, Form
from control_plane.kept import SCHEMA_KEY
from control_plane.ports import Write
from tests.support.replicas import ROOT, Crew
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C12"), pytest.mark.timeout(180)]
BEFORE = "1f6c145"
"""The last version that told nothing of forms."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of an earlier version, out of this checkout's history."""
    done = subprocess.run(["git", "archive", BEFORE, "control_plane", "observability", "compose", "services"],
                          cwd=ROOT, capture_output=True, check=False)  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"the checkout's history does not go back to {BEFORE}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


async def add(crew: Crew, client: str, of: str) -> None:
    answer = await crew.ask("POST", "/v1/clients", {"id": client, "reason": "test"}, of=of)
    assert answer.is_success, answer.text


async def known(crew: Crew, of: str) -> set[str]:
    answer = await crew.ask("GET", "/v1/clients", of=of)
    return {one["id"] for one in answer.json()["clients"]}


async def newer(crew: Crew, version: int) -> None:
    form = Form(version=version, platform="9.9.9").model_dump_json().encode()
    await crew.consul.commit([Write(SCHEMA_KEY, form)])


async def test_the_version_before_and_this_one_lead_in_turn_and_read_what_the_other_wrote(
    three_replicas: Crew, before: Path
) -> None:
    crew = three_replicas
    for name in ("one", "two"):
        await crew.stop(name)
        crew.members[name].source = before
        crew.start(name)
    await crew.until_all_stand(60)
    seen: set[str] = set()
    for number in range(
        2
    ):  # the leader is stopped each time: both versions come to lead, or are asked by way of who does
        leader = await crew.until_led()
        for of in crew.members:
            await add(crew, f"client-{number}-{of}", of)
            seen.add(f"client-{number}-{of}")
        assert all([seen <= await known(crew, of) for of in crew.members])
        await crew.stop(leader)
        await crew.until_led(but=leader)
        crew.start(leader)
        await crew.until_all_stand(60)
    raised = await crew.ask("POST", "/v1/state/upgrade", {"reason": "test", "dry_run": True}, of="three")
    assert raised.status_code in (200, 404), (
        raised.text
    )  # 404 where the version before leads: it does not know the verb
    for name in ("one", "two"):  # and on to this version, one after the other
        await crew.stop(name)
        crew.members[name].source = ROOT
        crew.start(name)
        await crew.until_all_stand(60)
    assert all([seen <= await known(crew, of) for of in crew.members])
    answer = await crew.ask("POST", "/v1/state/upgrade", {"reason": "test"})
    assert answer.json() == {"before": SCHEMA, "after": SCHEMA, "steps": []}


async def test_a_state_newer_than_they_are_is_led_by_nobody_and_they_say_why_until_it_is_as_it_was(
    three_replicas: Crew,
) -> None:
    crew = three_replicas
    await newer(crew, SCHEMA + 1)
    leader = await crew.until_led()
    await crew.stop(leader)

    async def refused() -> bool:
        answer = await crew.ask("POST", "/v1/clients", {"id": "late", "reason": "test"}, of=other)
        return answer.status_code == 503 and "TekUp MCP 9.9.9" in answer.text

    other = next(name for name in crew.members if name != leader)
    await eventually(refused, "a refusal that says why", 30)
    assert await crew.leader() is None
    assert "run that version or a later one" in " ".join(crew.members[other].log.lower().split())
    await crew.consul.commit([Write(SCHEMA_KEY, None)])
    await crew.until_led()
    await add(crew, "later", other)
