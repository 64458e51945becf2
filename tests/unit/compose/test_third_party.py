"""The images of others: one table, the versions we run locally, and the Compose files that pin them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compose.containers.third_party import THIRD_PARTIES, ThirdParty
from compose.local.files import repository
from compose.local.programs import PROGRAMS
from tests.support.compose_files import compose_file
from tests.support.stand_ins import STAND_INS

FILES = sorted((repository() / "compose").glob("*.yml"))


def digits(version: str) -> str:
    return re.sub(r"\D", "", version).lstrip("0")


@pytest.mark.parametrize(
    "third", [each for each in THIRD_PARTIES.values() if each.program], ids=lambda each: each.service
)
def test_an_image_has_the_version_that_runs_locally(third: ThirdParty) -> None:
    # Prometheus's Go module calls 3.13.5 0.313.5
    assert digits(third.tag) == digits(PROGRAMS[third.program].pinned)


def test_every_image_that_can_be_had_as_a_program_has_a_stand_in() -> None:
    assert set(STAND_INS) == {name for name, third in THIRD_PARTIES.items() if third.program}
    assert all(name in PROGRAMS for each in STAND_INS.values() for name in each.programs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_compose_file_pins_what_the_table_pins(path: Path) -> None:
    services = compose_file(path).get("services", {})
    ours = {each.in_compose for each in THIRD_PARTIES.values()}
    foreign = {image for each in services.values() if (image := each.get("image", "")) and "tekup/mcp-" not in image}
    assert foreign <= ours, f"{path.name} runs {sorted(foreign - ours)}: add it to compose/containers/third_party.py"
