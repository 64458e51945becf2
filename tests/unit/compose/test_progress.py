"""What somebody who waits is shown, on a terminal and in a pipe."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.progress import PlainLines

pytestmark = pytest.mark.feature("G4")

REPOSITORY = Path(__file__).parents[3]
WORK = """
from compose.local.progress import LiveBars, reporter
with reporter() as report:
    report.update("consul", "compiling", 5, 10)
    if isinstance(report, LiveBars):
        report.progress.refresh()  # it draws ten times a second; this is sooner over
    report.finish("consul", "1.22.5 from a build")
"""


class Clock:
    """A clock that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pipe_gets_a_first_line_after_two_seconds_and_one_each_five(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = PlainLines(clock=clock)
    said = {}
    for after_s in (0, 1.9, 2.1, 4, 6.9, 7.2, 11, 12.3):
        clock.now_s = 100 + after_s
        lines.update("consul", "compiling", 3, 10)
        said[after_s] = capsys.readouterr().err
    assert {after_s: text for after_s, text in said.items() if text} == {
        2.1: "consul: compiling (3 of 10), 2 s\n",
        7.2: "consul: compiling (3 of 10), 7 s\n",
        12.3: "consul: compiling (3 of 10), 12 s\n",
    }
    lines.finish("consul", "built")
    assert capsys.readouterr().err == "consul: built (12 s)\n"


def test_a_task_that_was_over_at_once_says_nothing_of_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines()
    lines.finish("rg", "found")
    lines.update("first call", "calling")
    lines.over("first call")
    assert capsys.readouterr().err == "rg: found\n"


def test_a_terminal_gets_a_bar_and_a_pipe_gets_none() -> None:
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-c", WORK]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "80"}
        subprocess.run(command, env=env, stderr=theirs, timeout=60, check=True)
        terminal = os.read(ours, 1 << 16).decode()
        piped = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, timeout=60, check=True).stderr
    finally:
        os.close(ours)
        os.close(theirs)
    assert "━" in terminal
    assert "compiling" in terminal
    assert "consul: 1.22.5 from a build" in terminal
    assert piped.startswith("consul: 1.22.5 from a build")
    assert "\x1b" not in piped
