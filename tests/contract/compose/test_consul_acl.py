"""Access to an environment's Consul is laid out by itself, whatever was there and whatever got lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from compose.local.consul_acl import MANAGEMENT, ROLES, lay_out, lost, make_tokens, read_token, token_file
from compose.local.consul_api import BootstrapOver, ConsulApi
from compose.local.errors import StepFailed
from compose.local.files import repository
from tests.support.consul_acls import ConsulWithAcls
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until

pytestmark = [pytest.mark.local, pytest.mark.feature("E7")]


def accepted(consul: ConsulWithAcls) -> list[str]:
    """The roles whose token Consul knows."""
    names = [MANAGEMENT, *(role.name for role in ROLES)]
    return [name for name in names if consul.ask(name, "GET", "/v1/acl/token/self").is_success]


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path) as consul, ConsulApi(consul.url) as api:
        before = consul.ask(MANAGEMENT, "GET", "/v1/acl/tokens").json()
        assert not lay_out(consul.layout, api)
        assert consul.ask(MANAGEMENT, "GET", "/v1/acl/tokens").json() == before
        assert len(accepted(consul)) == len(ROLES) + 1


def test_whoever_was_ended_half_way_is_carried_on(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path, ROLES[:2]) as consul, ConsulApi(consul.url) as api:
        assert len(accepted(consul)) == 3
        assert lay_out(consul.layout, api)
        assert len(accepted(consul)) == len(ROLES) + 1


def test_a_policy_that_has_changed_since_is_put_in_force(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path) as consul, ConsulApi(consul.url) as api:
        held = api.policy("tekup-operator", consul.token(MANAGEMENT))
        assert held
        wider = {"Name": "tekup-operator", "Rules": 'key_prefix "" { policy = "write" }'}
        consul.ask(MANAGEMENT, "PUT", f"/v1/acl/policy/{held['ID']}", wider).raise_for_status()
        assert lay_out(consul.layout, api)
        assert consul.ask("operator", "PUT", "/v1/kv/tekup/policy/x", "{}").status_code == httpx.codes.FORBIDDEN


def test_a_consul_that_lost_its_data_gets_the_same_tokens_again(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path) as consul:
        tokens = {role.name: consul.token(role.name) for role in ROLES}
        consul.kill()
        consul.lose_data()
        consul.start()
        assert {role.name: consul.token(role.name) for role in ROLES} == tokens
        assert len(accepted(consul)) == len(ROLES) + 1


def test_data_of_before_there_were_acls_is_kept(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    with ConsulProcess(old, node_name="tekup") as before:
        httpx.put(f"{before.url}/v1/kv/tekup/policy/services/search", content=b"of before").raise_for_status()
    consul = ConsulWithAcls(tmp_path)
    shutil.copytree(before.data, consul.data)
    with consul:
        assert consul.ask("operator", "GET", "/v1/kv/tekup/policy/services/search?raw").text == "of before"
        assert consul.ask("", "GET", "/v1/kv/tekup/policy/services/search").status_code == httpx.codes.FORBIDDEN


def keeper(consul: ConsulWithAcls) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "compose.local.consul_acl", str(consul.layout.directory), consul.url]
    env = {**os.environ, "PYTHONPATH": str(repository())}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_lost_management_token_is_said_with_its_remedy_and_the_remedy_works(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path) as consul, ConsulApi(consul.url) as api:
        consul.layout.consul.rmdir()
        consul.layout.consul.symlink_to(consul.data)
        token_file(consul.layout, MANAGEMENT).unlink()
        with pytest.raises(StepFailed, match=r"management.token cannot be read .*`tekup down` and `tekup up`"):
            lay_out(consul.layout, api)
        make_tokens(consul.layout)
        ended = keeper(consul)
        said = ended.communicate(timeout=30)[1]
        assert ended.returncode == os.EX_CONFIG
        with pytest.raises(BootstrapOver) as refused:
            lay_out(consul.layout, api)
        assert lost(consul.layout, refused.value) in said
        remedy = said.split("`")[1]
        assert remedy.startswith("printf ")
        subprocess.run(["sh", "-c", remedy], check=True)
        lay_out(consul.layout, api)
        assert len(accepted(consul)) == len(ROLES) + 1


def test_the_keeper_lays_out_a_consul_that_comes_back_empty(tmp_path: Path) -> None:
    with ConsulWithAcls(tmp_path) as consul:
        running = keeper(consul)
        try:
            consul.kill()
            consul.lose_data()
            ConsulProcess.start(consul)
            wait_until(lambda: len(accepted(consul)) == len(ROLES) + 1, "every role known again", 30)
        finally:
            running.terminate()
            out, err = running.communicate(timeout=20)
        for role in (MANAGEMENT, *(role.name for role in ROLES)):
            assert read_token(token_file(consul.layout, role)) not in out + err
