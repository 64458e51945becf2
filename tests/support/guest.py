"""Services of a test's own in a running local environment: introduced to its gate, registered in its Consul.

The environment's supervisor knows nothing of a guest; whoever starts one ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

import pytest

from compose.local.consul_acl import lay_out, service_role, token_file, write_token
from compose.local.consul_api import ConsulApi, token_header
from compose.local.layout import Layout
from control_plane.files import write_whole

REPOSITORY = Path(__file__).resolve().parents[2]
PRIVATE = 0o600
STOP_S = 30.0


def introduce(state: Path, service: str) -> Path:
    """Give a service a key, as the environment does for its own: the gate serves none without. And a token for Consul.

    Args:
        state: The environment's `.tekup`.
        service: The service.

    Returns:
        The secrets file of its instances.
    """
    path = state / "gate" / "tables" / "secrets.json"
    known = json.loads(path.read_text())
    keys = known["services"].setdefault(service, [secrets.token_hex(32)])
    write_whole(path, json.dumps(known).encode(), mode=PRIVATE)
    own = state / "secrets" / f"{service}.json"
    write_whole(own, json.dumps({"service": service, "keys": keys}).encode(), mode=PRIVATE)
    layout, role = Layout(state.parent), service_role(service)
    if not layout.consul_secrets.exists():
        return own  # a Consul without ACLs
    if not token_of(state, service).exists():
        write_token(token_of(state, service), str(uuid.uuid4()))
    port = json.loads(layout.ports.read_text())["MCP_CONSUL_PORT"]
    with ConsulApi(f"http://127.0.0.1:{port}") as consul:
        lay_out(layout, consul, [role])
    return own


def token_of(state: Path, service: str) -> Path:
    """Where the token for Consul lies that `introduce` has given a service."""
    return token_file(Layout(state.parent), service_role(service).name)


def register(consul_url: str, service: str, instance: str, version: str, port: int, token: Path | None = None) -> None:
    """Show what listens on a loopback port in the catalog as an instance; it must answer `/ready`.

    Args:
        consul_url: The Consul.
        service: Whose instance.
        instance: Its id.
        version: Its version.
        port: Where it listens.
        token: From `token_of`, where Consul asks for one.
    """
    entry = {
        "Name": f"mcp-{service}",
        "ID": f"mcp-{service}-{instance}",
        "Address": "127.0.0.1",
        "Port": port,
        "Meta": {"version": version, "instance": instance, "state": "serving", "admin": str(port)},
        "Check": {"HTTP": f"http://127.0.0.1:{port}/ready", "Interval": "1s", "Status": "passing"},
    }
    _put(f"{consul_url}/v1/agent/service/register", entry, token=token)


def deregister(consul_url: str, service: str, instance: str, token: Path | None = None) -> None:
    """Take an instance that `register` has shown out of the catalog."""
    _put(f"{consul_url}/v1/agent/service/deregister/mcp-{service}-{instance}", token=token)


def forget(api_url: str, token: str, service: str) -> None:
    """Have a service whose instances are all gone taken out of the policy, so that nobody misses it.

    Args:
        api_url: The environment's operators' API.
        token: The operator's token.
        service: The service; one that never came to the policy is no fault.

    Fails the test if that is not done in time, and says why.
    """
    url = f"{api_url}/v1/services/{service}?reason=the+test+ends"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method="DELETE")
    deadline_s = time.monotonic() + STOP_S
    while True:
        try:
            urllib.request.urlopen(asked, timeout=STOP_S).close()
        except urllib.error.HTTPError as refused:
            if refused.code != HTTPStatus.NOT_FOUND:
                if time.monotonic() > deadline_s:
                    pytest.fail(f"{service} is not forgotten: {refused.read().decode()}")
                time.sleep(0.1)
                continue
        return


@contextlib.contextmanager
def kit_instance(
    command: Sequence[str | Path], *, secrets_file: Path, consul_url: str, log: Path, version: str = "1.0.0",
    **variables: str,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """An instance of a service on the kit, which registers itself once it is ready; ended after the block.

    Args:
        command: What runs it.
        secrets_file: From `introduce`.
        consul_url: The environment's Consul.
        log: Where its output goes.
        version: Its version.
        variables: More environment variables.
    """
    given = {
        "MCP_SECRETS_FILE": str(secrets_file),
        "MCP_CONSUL_URL": consul_url,
        "MCP_VERSION": version,
        "MCP_DRAIN_QUIET_S": "0.5",
        "PYTHONPATH": str(REPOSITORY),
        "PATH": os.environ["PATH"],
        **_shown(secrets_file),
        **variables,
    }
    with log.open("ab") as output:
        running = subprocess.Popen(command, env=given, cwd=REPOSITORY, stdout=output, stderr=output,
                                   start_new_session=True)  # fmt: skip
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
        try:
            running.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def _shown(secrets_file: Path) -> dict[str, str]:
    """The setting that names the token beside a secrets file; none on a Consul without ACLs."""
    path = secrets_file.parent / "consul" / f"{service_role(secrets_file.stem).name}.token"
    return {"MCP_CONSUL_TOKEN_FILE": str(path)} if path.exists() else {}


def _put(url: str, entry: object = None, token: Path | None = None) -> None:
    data = b"" if entry is None else json.dumps(entry).encode()
    asked = urllib.request.Request(url, data, token_header(token or ""), method="PUT")
    urllib.request.urlopen(asked, timeout=5).close()
