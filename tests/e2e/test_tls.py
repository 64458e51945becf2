"""`tekup up --tls`: https from one command, trusted by the client that is told what is printed."""

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from compose.local.authority import LEAF_LIFE, issue
from compose.local.certificates import Shelf
from tests.e2e.conftest import Environment, make_environment
from tests.support.gate import wait_until
from tests.support.wire import self_signed, served

pytestmark = [pytest.mark.local, pytest.mark.feature("A8"), pytest.mark.timeout(300)]
PYTHON = """
import asyncio, sys
import httpx2, mcp
from mcp.client.streamable_http import streamable_http_client
async def main(url, key):
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
        async with mcp.Client(streamable_http_client(url, http_client=http)) as client:
            print(len((await client.list_tools()).tools), "tools")
asyncio.run(main(*sys.argv[1:]))
"""
NODE = "const r = await fetch(process.argv[1], {method: 'POST'}); console.log(r.status);"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment that was started with `--tls`."""
    made = make_environment(tmp_path_factory.mktemp("encrypted"))
    try:
        made.up = made.tekup_json("up", "--tls")
        yield made
    finally:
        made.tekup("down")


def ran(*command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
    return subprocess.run(command, env={**inherited, **env}, capture_output=True, text=True, timeout=60, check=False)


def tls_faults(environment: Environment) -> list[str]:
    done = environment.tekup("doctor", "--json")
    return [one["said"] for one in json.loads(done.stdout) if one["what"] == "TLS" and not one["ok"]]


def test_every_endpoint_is_https_and_the_first_calls_were_made_over_it(encrypted: Environment) -> None:
    assert encrypted.up["ok"] is True
    urls = [encrypted.up["endpoint"], *encrypted.up["endpoints"].values()]
    assert all(url.startswith("https://") for url in urls)
    assert Path(encrypted.up["ca"]).is_file()


@pytest.mark.feature("G1")
def test_the_official_client_trusts_what_is_printed_and_nothing_without_it(encrypted: Environment) -> None:
    client = (sys.executable, "-c", PYTHON, str(encrypted.up["endpoint"]), encrypted.key)
    told = ran(*client, SSL_CERT_FILE=encrypted.up["ca"])
    assert told.returncode == 0, told.stderr
    assert "tools" in told.stdout
    untold = ran(*client)
    assert untold.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in untold.stderr


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node here")
def test_node_trusts_what_is_printed(encrypted: Environment) -> None:
    node = ("node", "--input-type=module", "-e", NODE, encrypted.up["endpoint"])
    told = ran(*node, NODE_EXTRA_CA_CERTS=encrypted.up["ca"])
    assert (told.returncode, told.stdout.strip()) == (0, "401"), told.stderr
    assert ran(*node).returncode != 0


def test_operators_have_an_entrypoint_of_their_own_and_the_public_one_leads_nowhere_near(
    encrypted: Environment,
) -> None:
    token = {"Authorization": f"Bearer {(encrypted.state / 'operator.token').read_text().strip()}"}
    trust = ssl.create_default_context(cafile=encrypted.up["ca"])
    with httpx.Client(verify=trust, trust_env=False, timeout=20) as http:
        operators = encrypted.up["operators"]
        assert http.get(f"{operators}/v1/status").status_code == 401
        answer = http.get(f"{operators}/v1/status", headers={**token, "X-Tekup-Forwarded": "forged"})
        assert (answer.status_code, answer.json()["initialised"]) == (200, True)
        noted = {"what": "by tls", "reason": "test"}
        changed = http.post(f"{operators}/v1/state/notes", headers={**token, "X-Tekup-Forwarded": "x"}, json=noted)
        assert changed.status_code == 200, changed.text
        assert http.get(operators).headers["location"] == f"{operators}/console/"
        page = http.get(f"{operators}/console/login")
        assert (page.status_code, "came without TLS" in page.text) == (200, False)
        origin = {"Origin": operators}
        entered = http.post(
            f"{operators}/console/login", data={"token": token["Authorization"].split()[1]}, headers=origin
        )
        cookies = entered.headers.get_list("set-cookie")
        assert entered.status_code == 303, entered.text
        assert all("Secure" in cookie for cookie in cookies)
        assert http.get(f"{operators}/console/").status_code == 200
        assert http.get(f"{operators}/metrics").status_code == 404
        with http.stream("GET", f"{operators}/v1/events", headers=token) as told:
            assert next(told.iter_lines()).startswith("retry:")
        for path in ("/v1/status", "/v1/events", "/console", "/console/login", "/metrics", "/search/mcp/../../console"):
            public = http.get(f"{encrypted.gateway_url}{path}", headers=token)
            assert "X-Tekup-Replica" not in public.headers
            assert public.status_code in (401, 404, 405), (path, public.status_code)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{operators}/v1/status", trust_env=False)


def test_a_second_up_without_the_flag_finds_it_running_as_it_is(encrypted: Environment) -> None:
    again = encrypted.tekup("up")
    assert again.returncode == 0, again.stderr
    assert "was running already" in again.stdout
    assert "have changed" not in again.stderr
    assert f"{encrypted.gateway_url}/mcp" in again.stdout
    assert encrypted.up["ca"] in again.stdout


def test_a_leaf_that_ends_soon_is_replaced_while_everything_runs(encrypted: Environment) -> None:
    before = encrypted.process("traefik").pid
    aged = issue(encrypted.state / "tls", datetime.now(UTC) - LEAF_LIFE * 3 / 4)
    Shelf(encrypted.state / "gate").put(aged, aged.leaf())
    fresh = datetime.now(UTC) + LEAF_LIFE - timedelta(hours=1)
    wait_until(
        lambda: served(encrypted.gateway_url).not_valid_after_utc > fresh, "a fresh leaf to be served", within_s=30
    )
    assert encrypted.process("traefik").pid == before
    assert tls_faults(encrypted) == []


def test_the_doctor_says_when_the_authority_cannot_be_read(encrypted: Environment) -> None:
    ca = Path(encrypted.up["ca"])
    good = ca.read_text()
    ca.write_text("nonsense")
    try:
        (fault,) = tls_faults(encrypted)
        assert "cannot be read" in fault
    finally:
        ca.write_text(good)
    assert tls_faults(encrypted) == []


def test_files_of_ones_own_are_served_under_their_name_and_broken_ones_are_not(
    encrypted: Environment, tmp_path: Path
) -> None:
    assert encrypted.tekup("down").returncode == 0
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    good, other = self_signed("gate.example"), self_signed("gate.example")
    certificate.write_text(good.chain)
    key.write_text(other.key)
    settings: dict[str, Any] = {
        "TLS": "files",
        "TLS_CERT_FILE": certificate,
        "TLS_KEY_FILE": key,
        "TLS_CA_FILE": certificate,
    }
    with (encrypted.directory / "tekup.toml").open("a") as file:
        file.writelines(f'MCP_{name} = "{value}"\n' for name, value in settings.items())
    shutil.rmtree(encrypted.state / "gate" / "certificates")
    refused = encrypted.tekup("up")
    assert refused.returncode == 1
    assert "the key does not belong to the certificate" in refused.stderr
    key.write_text(good.key)
    encrypted.start()
    assert encrypted.up["ok"] is True
    assert encrypted.gateway_url.startswith("https://gate.example:")
    direct = f"https://127.0.0.1:{encrypted.ports['MCP_GATEWAY_PORT']}"
    certificate.write_text("nonsense")
    wait_until(
        lambda: "the gate goes on with the last good one" in "".join(tls_faults(encrypted)), "the fault", within_s=30
    )
    assert served(direct, "gate.example") == good.leaf()
    certificate.write_text(other.chain)
    key.write_text(other.key)
    wait_until(lambda: served(direct, "gate.example") == other.leaf(), "the new certificate", within_s=30)
