"""A log that takes nothing holds up nobody, and what went missing is said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from observability.telemetry.output import LineHandler, Output
from tests.support.gate import wait_until

ROOT = Path(__file__).parents[3]
AT_ONCE_S = 5.0
"""Far above what a write takes on a busy machine, far below for ever."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def drained(descriptor: int) -> bytes:
    read = b""
    while True:
        try:
            part = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return read
        if not part:
            return read
        read += part


def lost(count: int) -> str:
    return f"lost {count}"


def test_a_pipe_nobody_reads_blocks_nobody_and_what_was_lost_is_said(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output = Output(writing, lost, most_waiting_bytes=100_000)
    lines = [f"{number:06d} {'x' * 993}" for number in range(2_000)]
    began = time.monotonic()
    for line in lines:
        output.write(line)
    assert time.monotonic() - began < AT_ONCE_S
    assert output.lost > 1_000
    said, read = f"lost {output.lost}", b""

    def came() -> bool:
        nonlocal read
        read += drained(reading)
        return said.encode() in read

    wait_until(came, "the helper to write what waited, without another line", 20)
    *kept, last = read.decode().splitlines()
    assert last == said
    assert kept == lines[: len(kept)]
    assert len(kept) == len(lines) - int(said.split()[1])
    output.write("after")
    assert drained(reading) == b"after\n"
    output.close()


def test_a_line_longer_than_a_pipe_takes_at_once_comes_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output, long, read = Output(writing, lost), "y" * 300_000, b""
    output.write(long)
    output.write("next")

    def came() -> bool:
        nonlocal read
        read += drained(reading)
        return read.endswith(b"next\n")

    wait_until(came, "both lines", 20)
    assert read.decode().split("\n") == [long, "next", ""]
    output.close()


def test_a_pipe_whose_reader_is_gone_breaks_nobody(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    output = Output(writing, lost, most_waiting_bytes=10_000)
    began = time.monotonic()
    for _ in range(1_000):
        output.write("x" * 100)
    assert output.lost > 800
    output.close()
    assert time.monotonic() - began < AT_ONCE_S


def test_a_closed_descriptor_breaks_nobody(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], lost)
    os.close(pipe[1])
    output.write("x")
    output.close()


FULL = """
import os, resource, signal, sys
from observability.telemetry.output import Output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit is an error, as on a full disk
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
output = Output(descriptor, lambda lost: f"lost {lost}", most_waiting_bytes=5_000)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_050, hard))
for number in range(100):
    output.write(f"{number:03d} {'x' * 995}")
print(output.lost)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
output.write("room again")
output.close()
"""


def test_on_a_full_disk_lines_are_lost_and_the_torn_one_is_finished_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "full.log"
    done = subprocess.run([sys.executable, "-c", FULL, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = path.read_text().splitlines()
    gone = int(done.stdout)
    assert gone > 80
    assert [line[:3] for line in lines[:-2]] == [f"{number:03d}" for number in range(100 - gone)]
    assert {len(line) for line in lines[:-2]} == {999}
    assert lines[-2:] == [f"lost {gone}", "room again"]


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    with (tmp_path / "x.log").open("ab") as file:
        output = Output(file.fileno(), lost)

        def write_many(sign: str) -> None:
            for _ in range(200):
                output.write(sign * 2_000)

        threads = [threading.Thread(target=write_many, args=(sign,)) for sign in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        output.close()
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert sorted(set(lines)) == [sign * 2_000 for sign in "abcd"]
    assert len(lines) == 800


class Broken(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise RuntimeError("no")


def test_a_formatter_that_breaks_breaks_no_call(pipe: tuple[int, int]) -> None:
    handler = LineHandler(Output(pipe[1], lost))
    handler.setFormatter(Broken())
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    handler.close()


BEGIN = """
import logging, sys, threading, warnings
from observability.telemetry.logs import configure_logging
configure_logging("info", {"service": "demo"})
logger = logging.getLogger("services.demo")
"""


def run(code: str, redirected: str = "") -> subprocess.CompletedProcess[str]:
    command = ("sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, BEGIN + textwrap.dedent(code))
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_what_nobody_has_caught_and_warnings_are_lines_too() -> None:
    done = run(
        """
        warnings.warn("careful")
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        thread.join()
        raise ValueError("password=hunter2")
        """
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert [line["event"] for line in lines[1:]] == ["thread.broken", "broken"]
    assert "careful" in lines[0]["event"]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "ValueError: password=(hidden)" in lines[2]["exception"]


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", "| true"])
def test_a_process_whose_standard_output_is_full_closed_or_left_goes_on(redirected: str) -> None:
    done = run(
        """
        for number in range(5_000):
            logger.info("call", extra={"number": number})
        sys.stderr.write("done")
        """,
        redirected,
    )
    assert (done.returncode, done.stderr) == (0, "done")


def test_what_is_said_without_a_record_is_the_same_line() -> None:
    done = run(
        """
        from observability.telemetry.logs import say
        class Unprintable:
            def __str__(self):
                raise RuntimeError("no")
        for fields in ({"tool": "x", "duration_ms": 0.5}, {"token": "s3cr3t"}, {"reason": "password=s3cr3t"},
                       {"service": "other", "client": "dev"}, {"odd": float("inf")}, {"odd": Unprintable()}):
            logger.info("call", extra=fields)
            say(logger, logging.INFO, "call", fields)
        logging.root.handlers[0].addFilter(lambda record: record.msg != "call")
        say(logger, logging.INFO, "call", {})
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3cr3t" not in done.stdout
    lines = [{**json.loads(line), "ts": "", "where": ""} for line in done.stdout.splitlines()]
    assert len(lines) == 12
    assert lines[::2] == lines[1::2]
    assert lines[-1]["event"] == "log.unprintable"
