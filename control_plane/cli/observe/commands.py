"""`tekup logs`, `tekup trace`, `tekup usage`: what happened to calls, for those without dashboards."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from compose.local import show
from compose.local.errors import BadInput, LocalError, NotRunning
from compose.local.exits import Exit
from compose.local.layout import Layout
from compose.local.levels import set_levels, shown_levels
from compose.local.logs import follow, log_file, tail
from compose.local.settings import load
from control_plane.cli.observe.files import Found
from control_plane.cli.observe.jaeger import Jaeger, JaegerFailed, Span
from control_plane.cli.observe.lines import Line, Wanted, trace_id_of
from control_plane.cli.observe.loki import LokiFailed
from control_plane.cli.observe.render import LineRows, tree_rows
from control_plane.cli.observe.sources import Files, address_of, log_source
from control_plane.cli.observe.usage import read_usage

LINES = 50
SEARCHED_LINES = 1000
TRACE_LINES = 500
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LENGTH = re.compile(r"(\d{1,6})([smhd])")
WHERE_JAEGER = "set MCP_JAEGER_URL, or start it here: `tekup up --with jaeger,collector`"
WHERE_PROMETHEUS = "set MCP_PROMETHEUS_URL, or start it here: `tekup up --with prometheus`"


class NothingFound(LocalError):
    """What was asked for is nowhere."""

    exit_code = Exit.FAILED


class _Logs(TyperGroup):
    """`tekup logs NAME` and `tekup logs --trace ID` mean `tekup logs show …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command where none is named."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


logs = typer.Typer(cls=_Logs, help="Log lines of one process or of all; and how much they log.")
Name = Annotated[str, typer.Argument(help="A process, as `tekup status` names it; or supervisor. Without: all.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]
Trace = Annotated[str, typer.Option(help="Lines of this trace: its id, or a traceparent.")]
Client = Annotated[str, typer.Option(help="Lines about calls of this client.")]
Tool = Annotated[str, typer.Option(help="Lines about calls of this tool.")]
Since = Annotated[str, typer.Option(help="Not older than this: 90s, 15m, 24h, 7d.")]
Level = Annotated[
    Literal["debug", "info", "warning", "error"] | None, typer.Option(help="So bad at least.", show_choices=True)
]
JsonLines = Annotated[bool, typer.Option("--json", help="The lines as they were written, sorted by time.")]
Most = Annotated[
    int | None, typer.Option("--lines", "-n", min=0, help="The newest so many; by default 50, of all 1000.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(logs, name="logs")
    for command in (trace, usage):
        app.command()(command)


def _here() -> Layout:
    return Layout(Path.cwd())


@logs.command("show")
def show_lines(
    name: Name = "",
    follow_it: Follow = False,
    trace: Trace = "",
    client: Client = "",
    tool: Tool = "",
    since: Since = "",
    level: Level = None,
    json: JsonLines = False,
    lines: Most = None,
) -> None:
    """Show log lines: a process's file as it is, or those of all processes that fit, in the order of time.

    From Loki, where MCP_LOKI_URL is set or it runs here; else from the files in .tekup/logs. `show` may be left out.

    Example: tekup logs -f control-plane

    Example: tekup logs --client dev --tool search_find --since 15m --level warning

    Example: tekup logs --trace 0af7651916cd43dd8448eb211c80319c --json
    """
    began = _ago(since) if since else 0.0
    wanted = Wanted(name, _trace_id(trace) if trace else "", client, tool, level or "", began)
    if name and not wanted.narrowed and not json:
        _file(name, LINES if lines is None else lines, follow_it)
        return
    rows = LineRows(with_trace=not wanted.trace)
    if not follow_it:
        most = lines or (SEARCHED_LINES if wanted.narrowed else LINES)
        found = _read(wanted, most)
        if not found.lines and wanted.narrowed:
            raise NothingFound(f"no log line fits in {found.source}")
        _print(found.lines, rows, json=json)
        if found.more:
            _note(f"older lines are left out; -n {most * 10} shows more, --since fewer")
        return
    for came in log_source(_here()).follow(wanted):
        _print(came, rows, json=json)


def _file(name: str, lines: int, follow_it: bool) -> None:
    path = log_file(_here(), name)
    if not follow_it:
        typer.echo(tail(path, lines), nl=False)
        return
    for text in follow(path, lines):
        typer.echo(text, nl=False)


def _read(wanted: Wanted, most: int) -> Found:
    layout = _here()
    try:
        return log_source(layout).read(wanted, most)
    except LokiFailed as error:
        if not layout.logs.is_dir():
            raise
        _note(f"{error}; these are from the files here")
        return Files(layout).read(wanted, most)


def _print(lines: Iterable[Line], rows: LineRows, *, json: bool) -> None:
    for text in (line.text for line in lines) if json else rows.rows(lines):
        typer.echo(text)
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"tekup: {text}\n")


def _ago(text: str) -> float:
    return time.time() - _seconds(text)


def _seconds(text: str) -> int:
    found = _LENGTH.fullmatch(text)
    if not found:
        raise BadInput(f"{text!r} is no length of time; it takes forms like 90s, 15m, 24h, 7d")
    return int(found[1]) * _UNITS[found[2]]


def _trace_id(text: str) -> str:
    found = trace_id_of(text)
    if not found:
        raise BadInput(
            f"{text!r} is no trace: its id has 32 hex digits, as trace_id in a log line and traceparent have it"
        )
    return found


@logs.command("level")
def level(
    name: Annotated[str, typer.Argument(help="A process, a group of them such as a service, or all.")] = "",
    levels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LEVEL]...", help="debug, info, warning, error; NAME=LEVEL for a logger or events; default."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how much processes log, or change it while they run; says when it has taken effect.

    Example: tekup logs level

    Example: tekup logs level search debug

    Example: tekup logs level control-plane warning control_plane.probing=debug

    Example: tekup logs level search default
    """
    layout = _here()
    found = set_levels(layout, name, levels) if levels else shown_levels(layout, name)
    if json:
        show.as_json([asdict(one) for one in found])
        return
    setting = load(layout).settings.log_level
    rows = [(one.process, one.level or setting, "its file" if one.level else "MCP_LOG_LEVEL") for one in found]
    show.table(("PROCESS", "LEVEL", "FROM"), rows)
    if levels:
        late = [one.process for one in found if not one.running]
        typer.echo("in force" + (f"; when it starts: {', '.join(late)}" if late else ""))


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace's id, or a traceparent.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what happened to one call: its spans as a tree, and below it the log lines of all processes.

    A tool call's log line, the access log and dashboards name its trace. Times: since the beginning, and how long.

    Example: tekup trace 0af7651916cd43dd8448eb211c80319c
    """
    which = _trace_id(trace_id)
    spans, without = _spans(which)
    found = _read(Wanted(trace=which), TRACE_LINES)
    if not spans and not found.lines:
        nowhere = found.source if without else f"Jaeger, nor in {found.source}"
        raise NothingFound(f"nothing is known of trace {which}: no span or log line of it is in {nowhere}")
    if json:
        show.as_json(
            {"trace": which, "spans": [asdict(span) for span in spans], "lines": [_data(line) for line in found.lines]}
        )
        return
    typer.echo(f"trace {which}\n")
    if spans:
        for row in tree_rows(spans):
            typer.echo(row)
    else:
        typer.echo(f"no spans: {without or 'Jaeger does not know of it'}")
    typer.echo("" if found.lines else f"\nno log line of it is in {found.source}")
    _print(found.lines, LineRows(with_trace=False), json=False)


def _spans(which: str) -> tuple[tuple[Span, ...], str]:
    """The spans of a trace, or none and why Jaeger cannot be asked."""
    url = address_of("jaeger", _here())
    if not url:
        return (), f"there is no Jaeger to ask; {WHERE_JAEGER}"
    try:
        return Jaeger(url).trace(which), ""
    except JaegerFailed as error:
        return (), str(error)


def _data(line: Line) -> dict[str, object]:
    return {"process": line.process, "at": line.at, "line": dict(line.fields) or line.text}


def usage(
    client: Annotated[str, typer.Option(help="Of this client and its users alone.")] = "",
    since: Since = "24h",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how many calls each client made, and how many of them the gates refused.

    Calls as they came to the public entrypoint. A client of "-" is whoever proved to be nobody.

    Example: tekup usage --client dev --since 7d
    """
    _seconds(since)
    url = address_of("prometheus", _here())
    if not url:
        raise NotRunning(f"usage is counted by Prometheus, and there is none to ask; {WHERE_PROMETHEUS}")
    found = read_usage(url, since, client)
    if json:
        show.as_json([asdict(one) for one in found])
        return
    if not found:
        raise NothingFound(f"no call{f' of {client}' if client else ''} was counted in the last {since}")
    rows = [(one.client or "-", one.service or "-", str(one.passed), str(one.refused)) for one in found]
    show.table(("CLIENT", "SERVICE", "PASSED", "REFUSED"), rows)
