"""`tekup rollout` as people and pipelines use it: a start is seen through its preparation, a watch survives a fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from compose.local.errors import BadInput
from control_plane import steer
from control_plane.api.rollout_bodies import RolloutDone, RolloutShown
from control_plane.cli.main import app
from control_plane.course import turn
from control_plane.loop import Outcome
from control_plane.model import Revision
from control_plane.rollout import Rollout
from tests.support.course import begun, by, until, well

Tekup = Callable[..., Result]
PREPARING = begun()
REFUSED = turn(PREPARING, well(PREPARING, breaches=("tool search_find is gone",)), 1)
SHIFTING, _ = until(PREPARING, "shifting", 0)
BAKING, NOW_S = until(PREPARING, "baking", 0)
BACK, _ = until(steer.abort(BAKING, by(NOW_S), drain=False), "rolled_back", NOW_S)
AWAY = 503


class Script(ThreadingHTTPServer):
    """A control plane that answers readings of a rollout in turn, and verbs with the first of them.

    Attributes:
        readings: Rollouts, or statuses of failures; the last is repeated.
        asked: Methods and paths.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.readings: list[Rollout | int] = []
        self.changed = True
        self.asked: list[str] = []

    def read(self) -> Rollout | int:
        """The next reading."""
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


class Answering(BaseHTTPRequestHandler):
    """One request to it."""

    server: Script

    def do_GET(self) -> None:
        """A reading."""
        self._answer(self.server.read(), lambda held: RolloutShown.of(held, NOW_S).model_dump_json())

    def do_POST(self) -> None:
        """A verb."""
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        outcome = Outcome(
            Revision(epoch=1, number=7, tables={}), self.server.changed, (), 0.0, (), dry_run=wish["dry_run"]
        )
        self._answer(self.server.read(), lambda held: RolloutDone.after(held, outcome, NOW_S).model_dump_json())

    def _answer(self, reading: Rollout | int, shown: Callable[[Rollout], str]) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = b"" if isinstance(reading, int) else shown(reading).encode()
        self.send_response(reading if isinstance(reading, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def plane() -> Iterator[Script]:
    with Script() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tekup(tmp_path: Path, plane: Script) -> Tekup:
    token = tmp_path / "token"
    token.write_text("t")
    env = {"MCP_CONTROL_PLANE_URL": f"http://127.0.0.1:{plane.server_port}", "MCP_OPERATOR_TOKEN_FILE": str(token)}
    return lambda *args: CliRunner().invoke(app, ["rollout", *args], env=env)


def test_a_start_says_that_the_contract_refuses_the_version_and_ends_with_1(plane: Script, tekup: Tekup) -> None:
    plane.readings = [PREPARING, PREPARING, REFUSED]
    done = tekup("start", "search", "1.1.0")
    assert done.exit_code == 1
    assert "tool search_find is gone" in " ".join(done.output.split())
    assert max(map(len, done.output.splitlines())) <= 80


def test_a_start_that_gets_its_first_step_ends_with_0_and_says_how_to_follow_it(plane: Script, tekup: Tekup) -> None:
    plane.readings = [PREPARING, AWAY, SHIFTING]
    done = tekup("start", "search", "1.1.0")
    assert done.exit_code == 0
    assert "step 1 of 2, 1.1.0 gets 10 %" in " ".join(done.output.split())
    assert "`tekup rollout status search --watch` follows it" in done.output
    told = json.loads(tekup("start", "search", "1.1.0", "--json").stdout)
    assert told["rollout"]["phase"] == "shifting"


@pytest.mark.parametrize("step", ["nan", "inf", "1e999", "abc", "5:x", "5:1.5", "", ":5"])
def test_a_step_that_makes_no_sense_is_refused_unasked(plane: Script, tekup: Tekup, step: str) -> None:
    refused = tekup("start", "search", "1.1.0", "--step", step)
    assert isinstance(refused.exception, BadInput)
    assert "is no step; for example 5:60" in str(refused.exception)
    assert plane.asked == []


def test_a_start_that_shall_not_wait_or_is_a_dry_run_reads_nothing_after_it(plane: Script, tekup: Tekup) -> None:
    plane.readings = [PREPARING]
    assert tekup("start", "search", "1.1.0", "--no-wait").exit_code == 0
    dry = tekup("start", "search", "1.1.0", "--dry-run")
    assert dry.exit_code == 0
    assert "dry run, nothing was written" in dry.output
    assert "after contract and probes 1.1.0 would get 10 %; 50 %; then everything" in dry.output
    assert plane.asked == ["POST /v1/services/search/rollout"] * 2


def test_a_verb_says_what_the_rollout_says_and_whether_it_was_so_already(plane: Script, tekup: Tekup) -> None:
    plane.readings = [steer.pause(BAKING, by(NOW_S))]
    assert "1.1.0: paused by ada: her reasons" in tekup("pause", "search").output
    plane.changed = False
    assert "1.1.0: so already: paused by ada" in tekup("pause", "search").output


def test_a_watch_in_a_pipe_is_a_line_for_each_change_and_outlives_a_fault(plane: Script, tekup: Tekup) -> None:
    plane.readings = [SHIFTING, AWAY, SHIFTING, BACK]
    done = tekup("status", "search", "--watch", "--wait")
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    lines = [line for line in done.output.splitlines() if line.startswith(("shifting:", "rolled back:"))]
    assert [line.partition(":")[0] for line in lines] == ["shifting", "rolled back"]


def test_a_watch_with_json_prints_one_document(plane: Script, tekup: Tekup) -> None:
    plane.readings = [SHIFTING, BACK]
    assert json.loads(tekup("status", "search", "--watch", "--json").stdout)["phase"] == "rolled_back"


def test_a_control_plane_that_is_away_from_the_start_is_not_waited_for(plane: Script, tekup: Tekup) -> None:
    plane.readings = [AWAY]
    assert tekup("status", "search", "--wait").exit_code != 0
    assert len(plane.asked) == 1
