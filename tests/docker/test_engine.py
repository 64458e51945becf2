"""The engine tests get, and the images of others they run."""

from __future__ import annotations

import json

import pytest

from compose.containers.third_party import THIRD_PARTIES
from compose.local.programs import PROGRAMS
from tests.support.engine import Engine
from tests.support.engine_install import NoEngine
from tests.support.leftovers import LABEL, left, removed, things
from tests.support.stand_ins import STAND_INS

pytestmark = pytest.mark.docker


def test_an_engine_answers_with_compose_and_buildx(engine: Engine) -> None:
    assert engine.docker("info", "--format", "{{.ServerVersion}}")
    assert engine.compose("version", "--short")
    assert "buildx" in engine.docker("buildx", "version")


def test_a_command_that_fails_says_which_and_what_it_wrote(engine: Engine) -> None:
    with pytest.raises(NoEngine, match=r"(?s)`docker image inspect no-such:image` ended with code 1.*no-such"):
        engine.docker("image", "inspect", "no-such:image")


def test_what_is_left_is_found_by_name_label_and_project(engine: Engine, run_prefix: str, base: str) -> None:
    before = things(engine)
    mine = f"{run_prefix}-leaves"
    engine.docker("network", "create", f"{mine}-net")
    engine.docker("volume", "create", "--label", f"{LABEL}={mine}")
    engine.docker("create", "--label", f"com.docker.compose.project={mine}", base, "true")
    found = left(engine, mine, before)
    assert [thing.kind for thing in found] == ["container", "network", "volume"]
    assert list(removed(engine, found)) == [str(thing) for thing in found]
    assert left(engine, mine, before) == []


@pytest.mark.parametrize("service", STAND_INS)
def test_an_image_of_a_third_party_runs_the_version_its_tag_names(
    engine: Engine, third_parties: list[str], service: str
) -> None:
    wanted = THIRD_PARTIES[service]
    assert wanted.image in third_parties
    argument = {"loki": "-version", "consul": "version", "jaeger": "version"}.get(service, "--version")
    said = engine.docker("run", "--rm", "--network", "none", wanted.image, argument)
    assert PROGRAMS[wanted.program].pinned in said


def test_the_stand_ins_are_not_root_where_the_official_images_are_not(engine: Engine, third_parties: list[str]) -> None:
    users = {}
    for image in third_parties:
        users[image.split(":")[0]] = json.loads(engine.docker("image", "inspect", image))[0]["Config"]["User"]
    assert users.pop("hashicorp/consul") == ""
    assert all(users.values()), users


def test_consul_s_image_runs_an_agent_as_its_own_user(
    engine: Engine, run_prefix: str, third_parties: list[str]
) -> None:
    name = f"{run_prefix}-consul"
    image = THIRD_PARTIES["consul"].image
    engine.docker("run", "--detach", "--name", name, image, "agent", "-dev", "-client", "0.0.0.0")
    try:
        engine.docker(
            "exec",
            name,
            "sh",
            "-c",
            "for i in $(seq 200); do consul members >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1",
        )
        assert "alive" in engine.docker("exec", name, "consul", "members")
        assert engine.docker("exec", name, "stat", "-c", "%U", "/proc/1").strip() == "consul"
        line = engine.docker("exec", name, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")
        assert line.startswith("consul agent -data-dir=/consul/data -config-dir=/consul/config -dev")
    finally:
        engine.docker("rm", "--force", "--volumes", name)
