"""Our side of a supervisor's socket, and starting and stopping a supervisor."""

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from .errors import BadInput, LocalError, NotRunning, StepFailed, WaitedTooLong
from .files import repository
from .layout import Layout
from .leftovers import MARK, Started, end_leftovers, identity, read_record, started
from .logs import last_lines
from .progress import Reporter, wait_for
from .status import Status, Wish
from .table import Service

ANSWER_S = 10.0
RESTART_S = 120.0
START_S = 30.0


class Link:
    """Talks to the supervisor of an environment."""

    def __init__(self, layout: Layout) -> None:
        """Args:
        layout: the environment.
        """
        self._layout = layout

    def status(self) -> Status:
        """What runs, asked now.

        Raises:
            NotRunning: no supervisor runs here.
        """
        return Status.model_validate_json(self._send("GET", "/status"))

    def status_if_running(self) -> Status | None:
        """Like `status`, but None if nothing runs."""
        try:
            return self.status()
        except NotRunning:
            return None

    def restart(self, name: str) -> None:
        """Stop and start a process; returns when the new one has been started.

        Raises:
            NotRunning: no supervisor runs here.
            BadInput: there is no such process.
        """
        self._send("POST", "/restart", {"name": name}, timeout_s=RESTART_S)

    def scale(self, wish: Wish) -> Wish:
        """Wish for a number of instances; they come and go in the background.

        Returns:
            The wish with the version meant.

        Raises:
            NotRunning: no supervisor runs here.
            BadInput: unknown service, impossible version or count.
        """
        return Wish.model_validate_json(self._send("PUT", "/scale", wish.model_dump()))

    def put_service(self, service: Service) -> None:
        """Have one more service run, or one by another pattern; its instances come in the background.

        Raises:
            NotRunning: no supervisor runs here.
        """
        self._send("PUT", "/services", service.model_dump(mode="json"))

    def drop_service(self, name: str) -> None:
        """Have a service run no more; its instances drain in the background.

        Raises:
            NotRunning: no supervisor runs here.
            BadInput: there is no such service.
        """
        self._send("DELETE", "/services", {"name": name})

    def ask_down(self) -> None:
        """Begin to stop everything.

        Raises:
            NotRunning: no supervisor runs here.
        """
        self._send("POST", "/down")

    def _send(self, method: str, path: str, body: object = None, timeout_s: float = ANSWER_S) -> bytes:
        connection = _UnixConnection(self._layout.socket, timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            raise WaitedTooLong(f"the supervisor did not answer {method} {path} within {timeout_s:.0f} s; "
                                f"see {self._layout.log('supervisor')}") from error  # fmt: skip
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(
                f"no supervisor runs in {self._layout.directory}; start one with `tekup up` "
                "(`tekup down` ends what an earlier one may have left)"
            ) from error
        finally:
            connection.close()
        if response.status == http.client.BAD_REQUEST:
            raise BadInput(str(json.loads(answer)["error"]))
        if response.status >= http.client.BAD_REQUEST:
            raise LocalError(f"the supervisor answered {response.status} to {method} {path}; "
                             f"see {self._layout.log('supervisor')}")  # fmt: skip
        return answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    Not httpx: it leaves its socket open when it cannot connect, which is our usual way to find that nothing runs.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("supervisor", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def end_earlier(layout: Layout, report: Reporter) -> None:
    """End what an earlier supervisor that is gone or dead to us left running."""
    for name in end_leftovers(layout.processes, identity(layout.identity), grace_s=2):
        report.note(f"ended what an earlier run left: {name}")


def start_supervisor(layout: Layout, report: Reporter) -> Status:
    """Start a supervisor for the table that lies in the environment, apart from this process.

    Returns:
        Its first status.

    Raises:
        StepFailed: it ended at once.
        WaitedTooLong: it does not answer.
    """
    path = os.pathsep.join(filter(None, (str(repository()), os.environ.get("PYTHONPATH", ""))))
    environ = {
        **os.environ,
        MARK: identity(layout.identity),
        "TEKUP_DIRECTORY": str(layout.directory),
        "PYTHONPATH": path,
    }
    supervisor = _launch(layout, environ)
    link = Link(layout)

    def answering() -> Status | None:
        if supervisor is None or supervisor.process() is None:
            raise StepFailed(f"the supervisor ended at once:\n{last_lines(layout, 'supervisor')}")
        status = link.status_if_running()
        return status if status and status.pid == supervisor.pid else None

    return wait_for(answering, "the supervisor to answer", START_S, report, "supervisor")


def _launch(layout: Layout, environ: dict[str, str]) -> Started | None:
    argv = [sys.executable, "-m", "compose.local.supervisor", str(layout.directory)]
    try:
        with layout.log("supervisor").open("ab") as output:
            # it prints the pid of the process that stays, and ends
            launched = subprocess.run(
                argv,
                cwd=layout.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                timeout=START_S,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise WaitedTooLong(f"the supervisor did not start within {START_S:.0f} s") from error
    return started(int(launched.stdout)) if launched.returncode == 0 else None


def stop_supervisor(layout: Layout, report: Reporter, timeout_s: float) -> list[str]:
    """Stop everything in an environment, whoever started it and whatever became of its supervisor.

    Returns:
        What had to be ended by force.

    Raises:
        LocalError: something could not be ended.
    """
    link = Link(layout)
    supervisor = read_record(layout.processes).get("supervisor")
    try:
        link.ask_down()
    except (NotRunning, WaitedTooLong):
        supervisor = None

    def gone() -> bool | None:
        if supervisor is None or supervisor.process() is None:
            return True
        status = link.status_if_running()
        left = [process.name for process in status.processes if process.pid] if status else []
        report.update("down", f"waiting for {', '.join(left) or 'the supervisor'} to end")
        return None

    try:
        wait_for(gone, "everything to stop", timeout_s, report, "down")
    except WaitedTooLong as error:
        report.note(f"{error}; ending what is left by force")
    return end_leftovers(layout.processes, identity(layout.identity), grace_s=2)
