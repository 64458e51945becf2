"""The command line: what it refuses before asking, which path it asks for, how its errors look."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from compose.local.errors import BadInput, LocalError, NotRunning
from control_plane.cli.main import app

ROOT = Path(__file__).parents[3]
Tekup = Callable[..., Result]


class Listener(ThreadingHTTPServer):
    """Answers every request with 404 and keeps its method and path as they came over the wire.

    Args:
        status: Answered instead; 0 hangs up without an answer.
        headers: Of the answers.
    """

    def __init__(self, status: int = 404, headers: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Refusing)
        self.status = status
        self.headers = headers or {}
        self.asked: list[str] = []
        self.keys: set[str] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Refusing(BaseHTTPRequestHandler):
    """One request to the listener."""

    server: Listener

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.keys.add(self.headers.get("Idempotency-Key", ""))
        self.server.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        if not self.server.status:
            self.close_connection = True
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _refuse

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def listening(server: Listener) -> Iterator[Listener]:
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening(Listener()) as server:
        yield server


def at(tmp_path: Path, *urls: str) -> Tekup:
    """`tekup` for a control plane whose replicas are there."""
    token = tmp_path / "operator.token"
    token.write_text("secret-token")
    env = {"MCP_CONTROL_PLANE_URL": ", ".join(urls), "MCP_OPERATOR_TOKEN_FILE": str(token)}
    return lambda *arguments: CliRunner().invoke(app, arguments, env=env)


@pytest.fixture
def tekup(listener: Listener, tmp_path: Path) -> Tekup:
    return at(tmp_path, listener.url)


@pytest.mark.parametrize("share", ["nan", "inf", "-inf", "nan%", "1e999", "", "ten"])
def test_a_share_that_is_no_finite_number_is_refused_unasked(tekup: Tekup, listener: Listener, share: str) -> None:
    result = tekup("traffic", "set", "filesystem", f"0.1.0={share}")
    assert isinstance(result.exception, BadInput)
    assert "is not VERSION=PCT" in str(result.exception)
    assert listener.asked == []


def test_a_version_named_twice_is_refused_unasked(tekup: Tekup, listener: Listener) -> None:
    result = tekup("traffic", "set", "filesystem", "0.1.0=10", "0.1.0=90")
    assert isinstance(result.exception, BadInput)
    assert "0.1.0 is named twice" in str(result.exception)
    assert listener.asked == []


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "1e13"])
def test_a_key_for_no_number_of_days_is_refused_unasked(tekup: Tekup, listener: Listener, days: str) -> None:
    assert tekup("keys", "create", "ci", "--days", days).exit_code == 2
    assert listener.asked == []


@pytest.mark.parametrize(
    "verb", [("traffic", "forget"), ("clients", "remove"), ("keys", "list"), ("keys", "revoke"), ("gates", "forget")]
)
def test_an_empty_name_is_refused_unasked(tekup: Tekup, listener: Listener, verb: tuple[str, str]) -> None:
    result = tekup(*verb, "")
    assert isinstance(result.exception, BadInput)
    assert "an empty name" in str(result.exception)
    assert listener.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("clients set ci", "nothing is named to change of client ci"),
        ("clients set ci --no-roots --root /srv", "--no-roots empties the list that another option fills"),
        ("clients limit ci a --class dear --per-s 1", "there is no class 'dear' of tools"),
        ("keys rotate ci --overlap 7", "'7' is no length of time; for example 30m, 12h, 7d or 2w"),
        ("keys rotate ci --overlap 99999w", "is no length of time"),
        ("keys rotate ci --days 3 --expires 2030-01-01", "--days and --expires both say when it ends"),
        ("keys create ci --expires soon", "'soon' is no date; for example 2027-01-31"),
        ("keys expire k1", "say when the key ends, once"),
        ("keys expire k1 --in 1d --never", "say when the key ends, once"),
        ("keys expire k1 --in 0d", "to end it at once, revoke it: tekup keys revoke k1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_unasked(
    tekup: Tekup, listener: Listener, arguments: str, said: str
) -> None:
    result = tekup(*arguments.split())
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
    assert listener.asked == []


def test_a_whole_key_stands_for_its_id(tekup: Tekup, listener: Listener) -> None:
    tekup("keys", "expire", "tk_4f2a81c09d_secret", "--in", "1d")
    assert listener.asked == ["PATCH /v1/keys/4f2a81c09d"]


@pytest.mark.parametrize("verb", [("plan",), ("diff",), ("apply", "--reason", "x")])
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no .yml or .yaml file"),
        ({"notes.txt": "kind: Client"}, "holds no .yml or .yaml file"),
        ({".hidden.yml": "kind: Client\nid: ci"}, "holds no .yml or .yaml file"),
        ({"a.yml": "kind: Client\nid: ci\nalow: []"}, "a.yml, document 1, Client ci: alow"),
        (
            {"a.yml": "kind: Client\nid: ci", "b/c.yaml": "kind: Client\nid: ci"},
            "ci stands in a.yml, document 1 already",
        ),
        ({"a.yml": b"\xff\xfe"}, "cannot be read"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused_unasked(
    tekup: Tekup, listener: Listener, tmp_path: Path, verb: tuple[str, ...], files: dict[str, str | bytes], said: str
) -> None:
    folder = tmp_path / "desired"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = tekup(*verb, "-f", str(folder))
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
    assert listener.asked == []


def test_a_schema_is_printed_without_a_control_plane() -> None:
    printed = CliRunner().invoke(app, ["schema", "Client"])
    assert json.loads(printed.stdout)["title"] == "Client"
    assert isinstance(CliRunner().invoke(app, ["schema", "Nope"]).exception, BadInput)


@pytest.mark.parametrize(
    ("arguments", "method", "pattern"),
    [
        (("traffic", "show", "{}"), "GET", "/v1/services/{}"),
        (("traffic", "set", "{}", "0.1.0=10"), "PUT", "/v1/services/{}/traffic"),
        (("traffic", "forget", "{}"), "DELETE", "/v1/services/{}"),
        (("clients", "remove", "{}"), "DELETE", "/v1/clients/{}"),
        (("clients", "show", "{}"), "GET", "/v1/clients/{}"),
        (("clients", "can", "{}", "search_code"), "GET", "/v1/clients/{}"),
        (("clients", "set", "{}", "--no-roots"), "PATCH", "/v1/clients/{}"),
        (("clients", "limit", "{}", "a", "--per-s", "1"), "PUT", "/v1/clients/{}/limits/a"),
        (("clients", "limit", "ci", "{}", "--per-s", "1"), "PUT", "/v1/clients/ci/limits/{}"),
        (("clients", "unlimit", "ci", "{}"), "DELETE", "/v1/clients/ci/limits/{}"),
        (("keys", "rotate", "{}"), "POST", "/v1/keys/{}/rotate"),
        (("keys", "expire", "{}", "--never"), "PATCH", "/v1/keys/{}"),
        (("keys", "create", "{}"), "POST", "/v1/clients/{}/keys"),
        (("keys", "list", "{}"), "GET", "/v1/clients/{}/keys"),
        (("keys", "revoke", "{}"), "DELETE", "/v1/keys/{}"),
        (("gates", "forget", "{}"), "DELETE", "/v1/gates/{}"),
    ],
)
@pytest.mark.parametrize(
    ("given", "quoted"),
    [("plain-1", "plain-1"), ("zz/../y", "zz%2F%2E%2E%2Fy"), ("..", "%2E%2E"), ("a?b#c", "a%3Fb%23c")],
)
def test_an_id_stays_one_part_of_the_path(
    tekup: Tekup, listener: Listener, arguments: tuple[str, ...], method: str, pattern: str, given: str, quoted: str
) -> None:
    tekup(*(argument.format(given) for argument in arguments))
    assert listener.asked == [f"{method} {pattern.format(quoted)}"]


@pytest.mark.parametrize(
    ("command", "code"), [("traffic show", 3), ("scale nonsense=3", 3), ("traffic set filesystem 0.1.0=nan", 2)]
)
def test_an_error_is_one_message_of_at_most_80_columns(tmp_path: Path, command: str, code: int) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "control_plane.cli", *command.split()],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == code
    assert lines[0].startswith("tekup: ")
    assert all(line.startswith("  ") for line in lines[1:])
    # a path is one word and stays whole, however long the folder's name is
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)


READ = ("clients", "list")
CHANGE = ("clients", "add", "ci")
Answer = tuple[int, dict[str, str]]
FALLS_SILENT: Answer = (0, {})
NOTHING_DONE: Answer = (503, {"Retry-After": "1"})
UNSURE: Answer = (503, {})


@pytest.mark.feature("C12")
@pytest.mark.parametrize("command", [READ, CHANGE])
def test_a_replica_that_does_not_listen_is_passed_over(listener: Listener, tmp_path: Path, command: list[str]) -> None:
    with Listener() as gone:
        nobody = gone.url
    at(tmp_path, nobody, listener.url)(*command)
    assert len(listener.asked) == 1


@pytest.mark.feature("C12")
@pytest.mark.parametrize(
    ("command", "first", "asks_the_next"),
    [
        (READ, FALLS_SILENT, True),
        (READ, UNSURE, True),
        (CHANGE, NOTHING_DONE, True),
        (CHANGE, UNSURE, False),
        (CHANGE, FALLS_SILENT, False),
        (READ, (404, {}), False),
        (CHANGE, (502, {}), False),
    ],
)
def test_the_next_replica_is_asked_only_where_nothing_can_be_done_twice(
    listener: Listener, tmp_path: Path, command: list[str], first: Answer, asks_the_next: bool
) -> None:
    with listening(Listener(*first)) as one:
        at(tmp_path, one.url, listener.url)(*command)
    assert len(set(one.asked)) == len(one.keys) == 1
    changes = tuple(command) == CHANGE
    assert (len(one.asked) > 1) is (first in (FALLS_SILENT, (502, {})) and changes)
    assert bool(one.keys - {""}) is changes
    assert bool(listener.asked) is asks_the_next


@pytest.mark.feature("C12")
def test_a_change_without_an_answer_is_told_as_open(tmp_path: Path) -> None:
    with listening(Listener(0)) as one:
        result = at(tmp_path, one.url)(*CHANGE)
    assert isinstance(result.exception, LocalError)
    assert result.exception.exit_code == 1
    assert "may or may not have been carried out" in str(result.exception)


@pytest.mark.feature("C12")
def test_when_nobody_listens_all_are_named(tmp_path: Path) -> None:
    with Listener() as one, Listener() as two:
        urls = one.url, two.url
    result = at(tmp_path, *urls)(*CHANGE)
    assert isinstance(result.exception, NotRunning)
    assert ", ".join(urls) in str(result.exception)
