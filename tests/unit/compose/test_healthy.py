"""The health check of the images, run as the engine runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import compose

CHECK = Path(compose.__file__).parent / "images" / "healthy.py"


@contextmanager
def answering(say: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of somebody who is asked once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as asked:
                asked.recv(4096)
                say(asked)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


def checked(port: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "MCP_ADMIN_PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-IS", CHECK], env=env, text=True, capture_output=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"phase":"serving"}', 0),
        (b'HTTP/1.1 200 OK\r\n\r\n{"phase":"starting"}', 1),
        (b"HTTP/1.1 503 no\r\n\r\n", 1),
        (b"", 1),
    ],
)
def test_a_program_is_healthy_when_it_says_so_and_is_past_its_start(answer: bytes, code: int) -> None:
    with answering(lambda asked: asked.sendall(answer)) as port:
        assert checked(port).returncode == code


def test_a_check_ends_by_itself_however_slowly_it_is_answered() -> None:
    """An engine that no longer waits for it does not end it."""

    def trickle(asked: socket.socket) -> None:
        try:
            while not gone.wait(0.2):
                asked.sendall(b"H")
        except OSError:
            return

    gone = threading.Event()
    with answering(trickle) as port:
        try:
            assert checked(port).returncode == -signal.SIGALRM
        finally:
            gone.set()
