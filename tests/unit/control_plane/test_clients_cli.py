"""`tekup clients` and `tekup keys` on the screen: everything is told, in 80 columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from control_plane.api.client_bodies import Clients, ClientShown, KeyCounts, KeyRotated, KeyShown
from control_plane.cli.main import app
from control_plane.keys import Uses
from control_plane.model import Access, ClientPolicy, Key, Limit

Tekup = Callable[..., Result]
NOW_S = 1_800_000_000
CI = ClientPolicy(
    id="ci",
    allow=("search_*", "filesystem_read_*", "filesystem://projects/quarterly-reports/*"),
    access=Access.READ_ONLY,
    cohort="beta",
    roots=("/srv/data/projects/quarterly-reports/2026",),
    hosts=("intranet.example:8443",),
    limits=(Limit(name="search", tools=("search_*",), per_s=2.5, burst=10), Limit(name="all", concurrent=8)),
    oauth=("https://login.example.org/realms/main/with/a/rather/long/path/to/it#ci",),
)
OLD = Key(
    id="5901f1f419", client="ci", hash="0" * 64, created=NOW_S - 9_000_000, expires=NOW_S + 90_000, label="laptop"
)
NEW = Key(id="b7d586a951", client="ci", hash="0" * 64, created=NOW_S, label="laptop")
USES = Uses(
    {OLD.id: NOW_S - 60},
    {OLD.id: ("gate-eu-1", "gate-eu-2")},
    ("gate gate-us-1 does not answer: http://10.1.2.3:3006/metrics: ConnectTimeout",),
    NOW_S - 100,
)
SHOWN = ClientShown(
    revision=7,
    client=CI,
    keys=tuple(KeyShown.of(key, NEW, USES, NOW_S) for key in (OLD, NEW)),
    used_since=USES.since,
    silent=USES.silent,
)
ROTATED = KeyRotated(
    epoch=1, revision=8, changed=True, in_force=True, waiting_for=(), in_force_ms=41.5, id=NEW.id,
    key="tk_b7d586a951_x", client="ci", old=OLD.id, old_expires=NOW_S + 600, old_ended=NOW_S + 90_000,
)  # fmt: skip
LISTED = Clients(revision=7, clients=(CI,), keys={"ci": KeyCounts(good=2, ended=1)})
ANSWERS = {
    "GET /v1/clients/ci": SHOWN,
    "GET /v1/clients": LISTED,
    "GET /v1/keys": SHOWN,
    "POST /v1/keys/ci/rotate": ROTATED,
}


class Answering(BaseHTTPRequestHandler):
    """One request, answered from the table."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = ANSWERS[f"{self.command} {self.path}"].model_dump_json().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def tekup(tmp_path: Path) -> Iterator[Tekup]:
    token = tmp_path / "operator.token"
    token.write_text("secret-token")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        env = {"MCP_CONTROL_PLANE_URL": url, "MCP_OPERATOR_TOKEN_FILE": str(token)}
        yield lambda *arguments: CliRunner().invoke(app, arguments, env=env)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", ["clients show ci", "clients list", "keys list", "clients can ci search_x a_b"])
def test_a_screen_has_at_most_80_columns(tekup: Tekup, command: str) -> None:
    lines = tekup(*command.split()).stdout.splitlines()
    assert lines
    assert [line for line in lines if len(line) > 80] == []


def test_everything_of_a_client_is_shown(tekup: Tekup) -> None:
    said = "".join(tekup("clients", "show", "ci").stdout.split())
    parts = [
        *CI.allow,
        "read-only",
        "beta",
        *CI.roots,
        *CI.hosts,
        *CI.oauth,
        "2.5",
        "everythingitsends",
        OLD.id,
        NEW.id,
    ]
    parts += ["gate-eu-1,", "gate-eu-2", "2027-01-15", "endsin1day;itsclienthasayoungerone,b7d586a951"]
    parts += ["gategate-us-1doesnotanswer", "usestherearenotcounted"]
    assert [part for part in parts if part not in said] == []


@pytest.mark.parametrize(("names", "code"), [(["search_x"], 0), (["search_x", "browser_open"], 1)])
def test_what_a_client_can_is_told_by_the_exit_code_too(tekup: Tekup, names: list[str], code: int) -> None:
    result = tekup("clients", "can", "ci", *names, "--json")
    assert result.exit_code == code
    assert [one["allowed"] for one in json.loads(result.stdout)] == [name == "search_x" for name in names]


def test_a_rotation_prints_the_key_alone_and_how_to_undo_it_aside(tekup: Tekup) -> None:
    result = tekup("keys", "rotate", "ci", "--overlap", "10m")
    assert result.stdout == "tk_b7d586a951_x\n"
    aside = " ".join(result.stderr.split())
    assert "key 5901f1f419 is good until 2027-01-15 08:10Z" in aside
    assert (
        "to undo it: tekup keys expire 5901f1f419 --at 2027-01-16T09:00:00Z, and tekup keys revoke b7d586a951" in aside
    )
