"""Hot reload in development: an edit under `services/` starts the service anew.

Importing the libraries takes two seconds, reloading must take less. So the first process imports them once, serves
nothing, and forks a child that imports the services' own source and serves; after an edit it ends the child and forks
the next. A broken edit ends its child with a traceback and is waited out.
"""

import ctypes
import logging
import os
import runpy
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from watchfiles import PythonFilter, watch

from services.common.listen import bind

__all__ = ["serve_reloading"]

logger = logging.getLogger(__name__)

_SERVICES: Final = Path(__file__).parents[1]
_DEBOUNCE_MS: Final = 60
_WAKE_MS: Final = 200
_PDEATHSIG: Final = 1  # prctl(2)


def serve_reloading(host: str, ports: dict[str, int]) -> NoReturn:
    """Serve through child processes, a new one after each edit; ends with the last one's exit code.

    Args:
        host: Where the children listen.
        ports: Their port settings by variable; a free one is chosen here once, so that it stays over reloads.
    """
    # Whoever edits waits for the reload, not for calls that still run.
    os.environ.update(MCP_RELOAD="false", MCP_DRAIN_QUIET_S="0", MCP_DRAIN_DEADLINE_S="0.2")
    for variable, port in ports.items():
        listener = bind(host, port)
        listener.sock.close()
        os.environ[variable] = str(listener.port)
    # Bytecode is recognised by its source's second and size: two quick edits can look the same.
    sys.dont_write_bytecode = True
    child = _Child()
    with _stop_signals() as stop:
        child.start()
        for changes in watch(
            _SERVICES,
            *_elsewhere(),
            watch_filter=PythonFilter(),
            debounce=_DEBOUNCE_MS,
            step=20,
            rust_timeout=_WAKE_MS,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        ):
            child.reap()
            if changes:
                logger.info("reload", extra={"files": sorted(name for _, name in changes)})
                child.end()
                child.start()
        child.end()
    sys.exit(child.exit_code)


def _elsewhere() -> list[Path]:
    """Where the started service lies, if that is not here."""
    folder = Path(str(sys.modules["__main__"].__file__)).resolve().parent
    return [] if folder.is_relative_to(_SERVICES) else [folder]


def _is_ours(module: str) -> bool:
    """Whether a module is imported anew: the services' own, and those of a service that lies elsewhere."""
    main = sys.modules["__main__"].__spec__
    return module.partition(".")[0] in {"services", main.name.partition(".")[0] if main else "services"}


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    yield stop


class _Child:
    """The process that serves."""

    def __init__(self) -> None:
        self._pid = 0
        self.exit_code = 0

    def start(self) -> None:
        parent = os.getpid()
        with warnings.catch_warnings():
            # The watcher's own thread is the only other one, and the child never uses it.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _serve_in_child(parent)

    def reap(self) -> None:
        """Note that the child has ended by itself; the next edit starts another."""
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid, self.exit_code = 0, os.waitstatus_to_exitcode(status)
                logger.warning("reload.waiting", extra={"exit_code": self.exit_code, "for": "the next edit"})

    def end(self) -> None:
        self.reap()
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)
            _, status = os.waitpid(self._pid, 0)
            self._pid, self.exit_code = 0, os.waitstatus_to_exitcode(status)


def _serve_in_child(parent: int) -> NoReturn:
    """Run the started module again in this process, our own source imported anew."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)  # a killed parent must not leave us behind
    if os.getppid() != parent:
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    main = sys.modules["__main__"]
    for name in [name for name in sys.modules if _is_ours(name)]:
        del sys.modules[name]
    code = 1
    try:
        if main.__spec__ is not None:
            runpy.run_module(main.__spec__.name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(main.__file__), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # the outermost place of this process; a broken edit must show its traceback
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(code)
