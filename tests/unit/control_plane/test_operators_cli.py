"""`tekup operators`, `audit`, `rules` and `silence` on the screen, line by line; what is dangerous asks first."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from control_plane.cli.main import app
from tests.support.command_line import REPOSITORY

pytestmark = [pytest.mark.feature("C10"), pytest.mark.feature("G7")]
Tekup = Callable[..., Result]
NOW_S = 1_800_000_000
TOKEN = {"id": "5901f1f419", "created": NOW_S, "revoked": 0, "last_used": NOW_S - 60}
RECORD = {"at": 1_600_000_000.0, "target": "", "epoch": 1, "before": 6, "status": 0, "said": "", "why": "on call"}
DONE = {"epoch": 1, "revision": 8, "changed": True, "in_force": True, "waiting_for": [], "in_force_ms": 41.5,
        "dry_run": False, "changes": []}  # fmt: skip
WIDE = "PUT /v1/services/{service}/traffic needs the role operator, and vera is viewer; ask an admin for a token"
ANSWERS: dict[str, dict[str, Any]] = {
    "GET /v1/operators": {
        "operators": [
            {"name": "operator", "role": "admin", "services": [], "built_in": True, "tokens": []},
            {"name": "ada", "role": "operator", "services": ["filesystem", "search"], "built_in": False, "tokens": [
                {**TOKEN, "state": "expired", "expires": NOW_S - 9},
                {**TOKEN, "id": "b7d586a951", "state": "good", "expires": 0, "last_used": 0},
            ]},
        ]
    },
    "GET /v1/audit?limit=20": {
        "records": [
            {**RECORD, "number": 12, "who": "vera", "what": "set-traffic", "result": "refused", "status": 403,
             "said": WIDE, "after": 0},
            {**RECORD, "number": 11, "who": "ada", "what": "traffic.set", "result": "done", "after": 7},
            {**RECORD, "number": 10, "who": "", "what": "", "target": "POST /v1/init", "result": "refused",
             "status": 401, "said": "no operator's token was shown", "after": 0},
        ]
    },
    "GET /v1/audit/verify": {"good": False, "records": 12, "first": 1, "last": 12, "hash": "ab", "tampered": 3,
                             "problem": "record 3 is not what was written: record 4 knows it otherwise"},
    "GET /v1/rules": {
        "groups": [
            {"group": {"name": "night", "rules": [{"alert": "SearchSlow"}, {"alert": "QueueDeep"}]},
             "loaded": [{"prometheus": "http://a:9090", "health": "live", "why": ""},
                        {"prometheus": "http://b:9090", "health": "not asked", "why": "ConnectError"}]},
            {"group": {"name": "day", "rules": [{"alert": "Quiet"}]},
             "loaded": [{"prometheus": "http://a:9090", "health": "live", "why": ""}]},
        ]
    },
    "GET /v1/silences": {
        "silences": [{"id": "116209b0-0734-457d-8573-8168ea4e20f4", "author": "ada", "reason": "index is rebuilt",
                      "matchers": [{"name": "alertname", "value": "SearchSlow", "isRegex": False, "isEqual": True}],
                      "ends_s": 1_600_000_000.0}]
    },
    "DELETE /v1/operators/ada?reason=by+command+line": DONE,
}  # fmt: skip


class Answering(BaseHTTPRequestHandler):
    """One request, answered from the table."""

    asked: list[str] = []  # noqa: RUF012

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        text = json.dumps(ANSWERS[f"{self.command} {self.path}"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "token").write_text("t")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        Answering.asked.clear()
        yield {
            "MCP_CONTROL_PLANE_URL": f"http://127.0.0.1:{server.server_port}",
            "MCP_OPERATOR_TOKEN_FILE": str(tmp_path / "token"),
        }
        server.shutdown()
        thread.join()


@pytest.fixture
def tekup(settings: dict[str, str]) -> Tekup:
    return lambda *args: CliRunner(env=settings).invoke(app, list(args))


SCREENS: dict[tuple[str, ...], str] = {
    ("operators", "list"): """\
NAME      ROLE      SERVICES    TOKEN       STATE    EXPIRES      LAST USED
operator  admin     -           file        -        -            -
ada       operator  filesystem  5901f1f419  expired  2027-01-15   2027-01-15
                    search                           07:59Z       07:59Z
ada       operator  filesystem  b7d586a951  good     -            -
                    search
""",
    ("audit", "list"): """\
NO  UTC         WHO     WHAT           RESULT       WHY
12  2020-09-13  vera    set-traffic    refused 403  PUT
                                                    /v1/services/{service}/traff
                                                    ic needs the role operator,
                                                    and vera is viewer; ask an
                                                    admin for a token
11  2020-09-13  ada     traffic.set    revision 7   on call
10  2020-09-13  nobody  POST /v1/init  refused 401  no operator's token was
                                                    shown
""",
    ("audit", "verify"): """\
the audit trail was changed: record 3 is not what was written: record 4 knows it
  otherwise
""",
    ("rules", "list"): """\
GROUP  ALERTS                 PROMETHEUS
night  SearchSlow, QueueDeep  not asked at http://b:9090: ConnectError
day    Quiet                  live
""",
    ("silence", "list"): """\
SILENCE   ALERTS                UNTIL         WHO  WHY
116209b0  alertname=SearchSlow  09-13 12:26Z  ada  index is rebuilt
""",
}


@pytest.mark.parametrize("verb", SCREENS, ids=" ".join)
def test_the_screen(tekup: Tekup, verb: tuple[str, str]) -> None:
    shown = tekup(*verb).stdout
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown == SCREENS[verb]


def typed(settings: dict[str, str], answer: str, *arguments: str) -> tuple[int, str]:
    """Exit code and screen of a command on a terminal, where a person types an answer."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from control_plane.cli import main; main()", *arguments]
    env = {**os.environ, **settings, "PYTHONPATH": str(REPOSITORY), "TERM": "dumb"}
    running = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the terminal is closed when the command has ended
        pass
    os.close(ours)
    return running.wait(30), shown.decode()


REVOKE = "DELETE /v1/operators/ada?reason=by+command+line"
TRIED = f"{REVOKE}&dry_run=true"
ANSWERS[TRIED] = {**DONE, "dry_run": True, "changes": [
    {"kind": "Operator", "name": "ada", "action": "touched", "before": None, "after": None, "fields": []}
]}  # fmt: skip


def test_what_is_dangerous_is_shown_and_asked_on_a_terminal_and_done_at_once_by_a_script(
    settings: dict[str, str], tekup: Tekup
) -> None:
    code, shown = typed(settings, "n", "operators", "revoke", "ada")
    assert (code, Answering.asked) == (1, [TRIED])
    assert "~ Operator ada" in shown
    assert "Revoke every token of ada? [y/N]" in shown
    assert "nothing was changed" in shown
    Answering.asked.clear()
    assert typed(settings, "y", "operators", "revoke", "ada")[0] == 0
    assert Answering.asked == [TRIED, REVOKE]
    Answering.asked.clear()
    assert typed(settings, "", "operators", "revoke", "ada", "--yes")[0] == 0
    assert tekup("operators", "revoke", "ada").exit_code == 0
    assert Answering.asked == [REVOKE, REVOKE]
