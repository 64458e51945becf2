"""The supervisor of one environment: `python -m compose.local.supervisor DIRECTORY` (detaches itself).

It runs the process table of its directory, answers on a unix socket, and ends when told to, everything it
started before it. It is the only writer of `processes.json` and `scale.json`.

Order of stopping: what nobody depends on first, so services drain while gate and Consul are still there.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import httpx

from .autoscaled import Numbers, follow, numbers_now
from .child import Child, State, Surroundings
from .consul_acl import OPERATOR, token_file
from .control import serve
from .errors import BadInput, LocalError
from .files import try_lock
from .layout import Layout
from .leftovers import Started, end_leftovers, identity, started, write_record
from .log import bound, log
from .scale import checked, instances, read_scale, write_scale
from .status import ProcessStatus, Status, Wish
from .table import Service, Table, filled, read_table, write_table

SUPERVISOR = "supervisor"
BOUND_LOGS_EVERY_S = 5.0
GOODBYE_S = 3.0


class Supervisor:
    """Runs a table; all methods are for the one event loop it runs in."""

    def __init__(self, layout: Layout, table: Table, http: httpx.AsyncClient) -> None:
        """Args:
        layout: the environment.
        table: what to run.
        http: for ready conditions.
        """
        self._layout = layout
        self._table = table
        self._around = Surroundings(layout, identity(layout.identity), http, self._write_record)
        self._children: dict[str, Child] = {}
        self._instances: set[str] = set()
        self._retiring: set[str] = set()
        self._tasks = asyncio.TaskGroup()
        self._me = started(os.getpid())
        self._down = asyncio.Event()
        self._http = http
        self._autoscaled: Numbers = {}

    async def run(self) -> None:
        """Run everything until `ask_down`, then stop everything."""
        self._write_record()
        async with self._tasks:
            for process in self._table.processes:
                self._add(Child(process.name, process, self._around))
            self._apply_scale()
            housekeeping = [asyncio.create_task(self._bound_logs()), *self._following()]
            await self._down.wait()
            for task in housekeeping:
                task.cancel()
            await asyncio.gather(*(self._stop_in_order(child) for child in self._children.values()))
        log("all stopped")

    def ask_down(self) -> None:
        """Begin to stop everything."""
        self._down.set()

    async def status(self) -> Status:
        """What runs, asked of each process now."""
        children = sorted(self._children.values(), key=lambda child: (child.process.group, child.name))
        reasons = await asyncio.gather(*(child.why_not_ready() for child in children))
        return Status(
            directory=str(self._layout.directory),
            pid=os.getpid(),
            table=self._table.digest(),
            stopping=self._down.is_set(),
            scale=read_scale(self._layout.scale, self._table),
            processes=tuple(_status(child, reason) for child, reason in zip(children, reasons, strict=True)),
        )

    async def restart(self, name: str) -> None:
        """Stop and start one process.

        Raises:
            BadInput: there is none of this name.
        """
        child = self._children.get(name)
        if child is None:
            what = f"there is no process {name!r}" if name else "no process was named"
            raise BadInput(f"{what}; there are: {', '.join(sorted(self._children))}")
        await child.restart()

    async def scale(self, wish: Wish) -> Wish:
        """Wish for a number of instances of a version; they are started and stopped in the background.

        Returns:
            The wish with the version meant.

        Raises:
            BadInput: unknown service, impossible version or count.
        """
        wish = checked(self._table, wish)
        if (wish.service, wish.version) in self._autoscaled:
            await self._hear()  # it may have been taken back this moment
        if (wish.service, wish.version) in self._autoscaled:
            raise BadInput(
                f"{wish.service} {wish.version} is autoscaled; change its bounds with `tekup autoscale set "
                f"{wish.service} --min N --max N`, or take it back with `tekup autoscale off {wish.service}`"
            )
        self._wish(wish)
        return wish

    def _wish(self, wish: Wish) -> None:
        wanted = read_scale(self._layout.scale, self._table)
        wanted[wish.service][wish.version] = wish.count
        write_scale(self._layout.scale, wanted)
        self._apply_scale()

    def _following(self) -> list[asyncio.Task[None]]:
        """What the control plane wants, followed; only where there is a Consul that tells."""
        url = self._consul()
        token = token_file(self._layout, OPERATOR)
        return [asyncio.create_task(follow(self._http, url, token, self._autoscale))] if url else []

    def _consul(self) -> str:
        return next((one.url for one in self._table.processes if one.name == "consul"), "")

    async def _hear(self) -> None:
        """Learn what the control plane wants now; what was heard last stands where it cannot be asked."""
        with suppress(httpx.HTTPError, OSError, ValueError):
            self._autoscale(await numbers_now(self._http, self._consul(), token_file(self._layout, OPERATOR)))

    def _autoscale(self, wanted: Numbers) -> None:
        if self._down.is_set():
            return
        self._autoscaled = wanted
        scale = read_scale(self._layout.scale, self._table)
        for (service, version), count in wanted.items():
            if count == scale.get(service, {}).get(version):
                continue
            try:
                wish = checked(self._table, Wish(service=service, version=version, count=count))
            except BadInput as error:  # a service that runs elsewhere, say
                log("autoscaling not possible", service=service, version=version, problem=str(error))
                continue
            log("autoscaled", service=service, version=version, count=count)
            self._wish(wish)

    def put_service(self, service: Service) -> None:
        """Run one more service, or run one by another pattern: its instances drain and come anew."""
        others = tuple(one for one in self._table.services if one.name != service.name)
        before = self._table.service(service.name)
        if before == service:
            return
        count = 1
        if before is not None:
            count = max(1, sum(read_scale(self._layout.scale, self._table)[service.name].values()))
        self._change(Table(**{**dict(self._table), "services": (*others, service)}))
        wanted = read_scale(self._layout.scale, self._table)
        wanted[service.name] = {service.version: count}
        write_scale(self._layout.scale, wanted)
        self._apply_scale()
        for name in self._instances - self._retiring:
            child = self._children[name]
            if child.process.group == service.name and child.process != service.pattern:
                self._retire_soon(child)

    def drop_service(self, name: str) -> None:
        """Run a service no more; its instances drain.

        Raises:
            BadInput: there is none of this name.
        """
        if self._table.service(name) is None:
            raise BadInput(f"there is no service {name!r}")
        self._change(Table(**{**dict(self._table), "services": tuple(
            one for one in self._table.services if one.name != name)}))  # fmt: skip
        write_scale(self._layout.scale, read_scale(self._layout.scale, self._table))
        self._apply_scale()

    def _change(self, table: Table) -> None:
        self._table = table
        write_table(self._layout.table, table)

    def _apply_scale(self) -> None:
        if self._down.is_set():
            return
        wanted = {item.name: item for item in instances(self._table, read_scale(self._layout.scale, self._table))}
        for name, item in wanted.items():
            if name not in self._children:
                self._instances.add(name)
                self._add(Child(name, item.process, self._around, item.version, item.port))
        for name in self._instances - wanted.keys() - self._retiring:
            self._retire_soon(self._children[name])

    def _retire_soon(self, child: Child) -> None:
        self._retiring.add(child.name)
        self._tasks.create_task(self._retire(child))

    async def _retire(self, child: Child) -> None:
        await child.stop()
        self._retiring.remove(child.name)
        self._instances.remove(child.name)
        del self._children[child.name]
        self._apply_scale()  # it may have been wished back while it stopped

    def _add(self, child: Child) -> None:
        self._children[child.name] = child
        self._tasks.create_task(child.keep(lambda: self._ready(child.process.after)))

    async def _ready(self, groups: Iterable[str]) -> None:
        wanted = set(groups)
        for child in list(self._children.values()):
            if child.process.group in wanted:
                await child.was_ready.wait()

    async def _stop_in_order(self, child: Child) -> None:
        for other in list(self._children.values()):
            if child.process.group in other.process.after:
                await other.ended.wait()
        await child.stop()

    def _write_record(self) -> None:
        record: dict[str, Started] = {SUPERVISOR: self._me} if self._me else {}
        record |= {child.name: child.started for child in self._children.values() if child.started}
        try:
            write_record(self._layout.processes, record)
        except OSError as error:  # the marks in the processes' environments still tell whose they are
            log("processes not recorded", problem=str(error))

    async def _bound_logs(self) -> None:
        bounds = self._table.logs
        while True:
            await asyncio.sleep(BOUND_LOGS_EVERY_S)
            try:
                for name in await asyncio.to_thread(bound, self._layout.logs, bounds.largest_bytes, bounds.kept):
                    log("log file cut", file=name)
            except OSError as error:
                log("log files not looked after", problem=str(error))


def _status(child: Child, reason: str) -> ProcessStatus:
    ready = not reason and child.state in (State.STARTING, State.READY)
    state = "not ready" if child.state is State.READY and reason else str(child.state)
    return ProcessStatus(
        name=child.name,
        group=child.process.group,
        state=str(State.READY) if ready else state,
        ready=ready,
        problem="" if ready else child.problem or reason,
        pid=child.started.pid if child.started else None,
        since=child.since,
        restarts=child.restarts,
        refused=not ready and child.refused,
        version=child.version,
        instance=child.instance if child.version else "",
        url=filled(child.process.url, {"port": str(child.port)}) if child.port or not child.version else "",
    )


async def supervise(layout: Layout) -> None:
    """Run the environment's table until told to stop.

    Raises:
        LocalError: another supervisor runs here, or the table cannot be read.
    """
    with try_lock(layout.supervisor_lock) as mine:
        if not mine:
            raise LocalError(f"another supervisor runs in {layout.directory}")
        table = read_table(layout.table)
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                await _serve_and_run(layout, Supervisor(layout, table, http))
        finally:  # whatever went wrong, nothing may run on unwatched
            end_leftovers(layout.processes, identity(layout.identity), 0)


async def _serve_and_run(layout: Layout, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.ask_down)
    finished = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve(supervisor, layout.socket, finished))
        await supervisor.run()
        finished.set()
        # from Python 3.12 on a server waits for its clients for ever (pgjones/hypercorn#308)
        await asyncio.wait({server}, timeout=GOODBYE_S)
        server.cancel()


def main() -> None:
    """Supervise the directory named by the one argument, in a process apart whose pid is printed."""
    layout = Layout(Path(sys.argv[1]).resolve())
    _detach()
    log("supervisor started", directory=str(layout.directory), pid=os.getpid())
    asyncio.run(supervise(layout))
    log("supervisor ended")


def _detach() -> None:
    """Go on in a child that belongs to no terminal and no shell; standard error is its log."""
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)
    os.setsid()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
