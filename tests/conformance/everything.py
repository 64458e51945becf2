"""The SDK's everything-server, which has every fixture the suite asks for.

It comes in the source distribution of the very SDK that is installed, checked against our lock file. It runs stateless,
on Hypercorn, as our services do, and answers `/ready` as well.

`python -m tests.conformance.everything SOURCE FD` serves it on an inherited listening socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import re
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from compose.local.cache import Entry, cached_or_built
from compose.local.progress import Silent
from compose.local.run import run_or_fail
from services.common.listen import Listener, listening

ROOT = Path(__file__).parents[2]
PACKAGE = "mcp_everything_server"
HOST = "127.0.0.1"
FETCH_S = 300.0
START_S = 60.0
STOP_S = 20.0


def source() -> Path:
    """The folder that holds its package, fetched once per user.

    Raises:
        SourceFailed: The source distribution is not to be had, or is another than the lock file says.
    """
    pinned = _locked("mcp")
    version = pinned.split()[0].partition("==")[2]
    entry = Entry("everything-server", version, hashlib.sha256(pinned.encode()).hexdigest(), f"{PACKAGE}/server.py")

    async def build(folder: Path) -> None:
        asked = folder / "requirement.txt"
        asked.write_text(f"{pinned}\n")
        # Its build tools are among our own pinned packages: nothing that is not locked runs.
        options = ("--no-deps", "--no-binary", "mcp", "--no-build-isolation", "--require-hashes")
        pip = (sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input")
        await run_or_fail([*pip, *options, "-r", str(asked), "-d", str(folder)], timeout_s=FETCH_S)
        _unpack(folder / f"mcp-{version}.tar.gz", folder / PACKAGE)

    return asyncio.run(cached_or_built(entry, build, Silent())).parents[1]


def _locked(package: str) -> str:
    """What the lock file says of a package: its version and the digests of its files."""
    lock = (ROOT / "requirements.lock").read_text()
    found = re.search(rf"^{package}==\S+(?: \\\n +--hash=\S+)+", lock, re.MULTILINE)
    assert found, f"requirements.lock does not pin {package}"
    return re.sub(r"\\\n +", "", found[0])


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(archive) as packed:
        for member in packed:
            parts = Path(member.name).parts
            if parts[1:-1] == ("examples", "servers", "everything-server", PACKAGE) and member.isfile():
                content = packed.extractfile(member)
                assert content, member.name
                (folder / parts[-1]).write_bytes(content.read())


@contextlib.contextmanager
def everything_server(folder: Path, log: Path) -> Iterator[int]:
    """Run one while the block lasts.

    Args:
        folder: From `source`.
        log: Where its output goes.

    Returns:
        Its port, on loopback.
    """
    with socket.create_server((HOST, 0)) as listener, log.open("ab") as output:
        port: int = listener.getsockname()[1]
        command = [sys.executable, "-m", __name__, str(folder), str(listener.fileno())]
        running = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, pass_fds=(listener.fileno(),))
    try:
        # The socket listens already, so this waits until somebody answers, or until nobody will.
        urllib.request.urlopen(f"http://{HOST}:{port}/ready", timeout=START_S).close()
        yield port
    finally:
        running.terminate()
        try:
            running.wait(STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def over_stdio(folder: Path) -> list[str]:
    """The command that runs one over standard input and output.

    Args:
        folder: From `source`.
    """
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; "
    main = f"from {__name__} import loaded; loaded({str(folder)!r}).run('stdio')"
    return [sys.executable, "-c", path + main]


def loaded(folder: str) -> Any:
    """The server itself."""
    sys.path.insert(0, folder)
    return importlib.import_module(f"{PACKAGE}.server").mcp


async def _serve(folder: str, descriptor: int) -> None:
    server = loaded(folder)

    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": True})

    server.custom_route("/ready", methods=["GET"])(ready)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    inherited = socket.socket(fileno=descriptor)
    app = server.streamable_http_app(stateless_http=True, host=HOST)
    async with listening(app, Listener(inherited, HOST, inherited.getsockname()[1])):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
