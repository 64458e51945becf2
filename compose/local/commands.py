"""`tekup up | down | status | restart | scale | doctor | config show`: the command line of this package.

The commands work on the environment in the current directory. They raise `LocalError`; whoever owns the
application prints it and ends with its exit code.
"""

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from compose.backup.commands import backup
from compose.backup.replica_commands import replica

from . import doctor as examination
from . import show
from .deploy_command import deploy
from .errors import LocalError, NotRunning
from .exits import Exit
from .layout import Layout
from .link import Link
from .observability_settings import EXTRAS
from .operators_api import PlaneStatus, first_to_answer
from .ports import remembered_ports
from .progress import reporter
from .ready import wait_until_ready, wait_until_scaled
from .scale import read_wish
from .secrets_commands import secrets
from .settings import ALL, SERVICES, Settings, load, named_ports
from .status import ProcessStatus, Status
from .typed import typed
from .up import Up, bring_up, take_down

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Version = Annotated[str, typer.Option("--version", help="Any label; by default the platform's own version.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")]
STATUS_CALL_S = 2.0

config = typer.Typer(no_args_is_help=True, help="The settings in force.")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (up, down, status, restart, scale, doctor, deploy):
        app.command()(command)
    app.add_typer(config, name="config")
    app.add_typer(secrets, name="secrets")
    app.add_typer(backup, name="backup")
    app.add_typer(replica, name="replica")


def _here() -> Layout:
    return Layout(Path.cwd())


Issuers = Annotated[
    Path | None,
    typer.Option("--oauth-issuers", exists=True, dir_okay=False, resolve_path=True,
                 help="Let bearers of these authorization servers in. `MCP_OAUTH_ISSUERS_FILE` for good."),
]  # fmt: skip
With = Annotated[
    list[str] | None, typer.Option("--with", help=f"Run this besides: {', '.join(EXTRAS)}. `MCP_WITH` for good.")
]
Everything = Annotated[
    bool, typer.Option("--observability", help="Run all of these besides. `MCP_WITH=observability` for good.")
]
Tls = Annotated[bool, typer.Option("--tls", help="https, with a certificate made here. `MCP_TLS` for good.")]


Mtls = Annotated[
    bool, typer.Option("--mtls", help="Everybody inside proves itself by a certificate. `MCP_MTLS=on` for good.")
]


def up(
    timeout: Timeout = 180,
    also: With = None,
    observability: Everything = False,
    oauth_issuers: Issuers = None,
    tls: Tls = False,
    mtls: Mtls = False,
    json: JsonFlag = False,
) -> None:
    """Start everything here, wait until it is ready, make one tool call per service.

    A second run changes nothing and prints the same key. Programs that are missing are fetched first.

    Example: tekup up

    Example: MCP_GATEWAY_PORT=0 tekup up --json

    Example: tekup up --with prometheus

    Example: tekup up --observability

    Example: tekup up --tls --oauth-issuers issuers.json

    Example: tekup up --mtls
    """
    asked = [*(also or ()), *((ALL,) if observability else ())]
    given = {"MCP_WITH": ",".join(asked), "MCP_OAUTH_ISSUERS_FILE": str(oauth_issuers or "")}
    given |= {"MCP_TLS": "local"} if tls else {}
    given |= {"MCP_MTLS": "on"} if mtls else {}
    with reporter() as report:
        result = bring_up(_here(), timeout, report, {name: value for name, value in given.items() if value})
    if json:
        show.as_json(result.data())
    else:
        _print_up(result)
    if not result.ok:
        raise typer.Exit(Exit.FAILED)


def _print_up(result: Up) -> None:
    gateway = result.gateway.url
    paths = ", ".join(f"/{name}/mcp" for name in SERVICES if name != "hub")
    done = f"started in {result.seconds:.0f} s" if result.started else "was running already"
    typer.echo(f"TekUp MCP in {result.parts.layout.directory}: {done}\n")
    typer.echo(f"  endpoint   {gateway}/mcp\n             or of one service: {paths}")
    typer.echo(
        f"  key        {result.key}\n             (Authorization: Bearer …; development only, kept in .tekup/dev.key)"
    )
    if result.gateway.ca:
        typer.echo(TRUST.format(ca=result.gateway.ca))
    typer.echo(f"  operators  {result.operators}  (token in .tekup/operator.token)\n             {result.console}")
    for name, url in result.extras.items():
        typer.echo(f"  {name:<10} {url}  ({EXTRAS[name]})")
    typer.echo("")
    typer.echo("One tool call per service, through the gate:")
    for call in result.calls:
        mark = "ok    " if call.ok else "FAILED"
        typer.echo(f"  {mark} {call.tool:<21} {call.ms:5.0f} ms  {call.result}")
    for service in result.scaled_to_0:
        typer.echo(typed(f"  none   {service}: scaled to 0, {WITHOUT.get(service, 'nobody answers its calls')};\n"
                         f"         `tekup scale {service}=1` brings it back"))  # fmt: skip
    typer.echo("\nNext:")
    hints = [(typed(command), why) for command, why in (NEXT if result.ok else REPAIR)]
    width = max(len(command) for command, _ in hints)
    for command, why in hints:
        typer.echo(f"  {command:<{width}}  {typed(why)}")


TRUST = """\
  trust      {ca}
             (Python: SSL_CERT_FILE=…, Node: NODE_EXTRA_CA_CERTS=…, curl --cacert …)"""
"""How a client is told of the authority; each name takes the path of its file."""

WITHOUT = {"hub": "/mcp gives no lists and older clients get 503"}
"""What is missing without a service, if it is more than the service's own calls."""

NEXT = (
    ("tekup connect claude-code", "what a client needs; also vscode, cursor, python, …"),
    ("tekup status", "what runs"),
    ("tekup logs -f browser-…", "what it says"),
    ("tekup scale search=3", "more instances; they share the calls"),
    ("tekup traffic show", "which version gets how much"),
    ("tekup clients add NAME", "another client; then `tekup keys create NAME`"),
    ("tekup down", "stop everything"),
)
REPAIR = (
    ("tekup doctor", "what is wrong, and what to do"),
    ("tekup status", "what runs"),
    ("tekup logs NAME", "what it says"),
)


def down(timeout: Timeout = 90, json: JsonFlag = False) -> None:
    """Stop everything here; calls under way are finished first. Data, keys and logs stay in `.tekup/`.

    Example: tekup down
    """
    with reporter() as report:
        forced = take_down(_here(), timeout, report)
    if json:
        show.as_json({"stopped": True, "ended_by_force": forced})
        return
    for name in forced:
        typer.echo(f"ended by force: {name}")
    typer.echo("Nothing of this environment runs any more.")


def status(json: JsonFlag = False) -> None:
    """Show each process, asked now. Ends with 1 if one is not ready, with 3 if nothing runs.

    Example: tekup status --json
    """
    found = _status()
    plane = _plane(found)
    if json:
        led = plane.model_dump(mode="json", include={"leader", "replicas"}) if plane else None
        show.as_json({**found.model_dump(mode="json"), "control_plane": led})
    else:
        rows = [_row(process) for process in found.processes]
        show.table(("PROCESS", "STATE", "PID", "AGE", "RESTARTS", "WHERE"), rows)
        if plane:
            typer.echo(f"leader: {plane.leader or 'none now'}, of {', '.join(one.id for one in plane.replicas)}")
        for waiting in plane.waiting if plane else ():
            typer.echo(textwrap.fill(typed(waiting), show.WIDTH, subsequent_indent="  ", break_on_hyphens=False))
        for process in found.not_ready():
            typer.echo(typed(f"{process.name}: {process.problem or process.state}"))
    if found.not_ready():
        raise typer.Exit(Exit.FAILED)


def _plane(found: Status) -> PlaneStatus | None:
    """What the control plane says of itself, if any replica answers; why none does is in the table."""
    try:
        answer = first_to_answer(_here(), found.processes, STATUS_CALL_S)
    except (OSError, LocalError):
        return None
    return answer[1] if answer else None


def _status() -> Status:
    layout = _here()
    if not layout.state.is_dir():
        raise NotRunning(f"there is no environment in {layout.directory}; make one with `tekup up`")
    return Link(layout).status()


def _row(process: ProcessStatus) -> tuple[str, ...]:
    where = process.url.removeprefix("http://")  # https is worth showing
    pid, age = (str(process.pid), show.age(process.since)) if process.pid else ("-", "-")
    return process.name, process.state, pid, age, str(process.restarts), where


def restart(
    name: Annotated[str, typer.Argument(help="A process, as `tekup status` names it.")],
    timeout: Timeout = 90,
    json: JsonFlag = False,
) -> None:
    """Stop a process as gently as it allows, start it anew, wait until it is ready.

    Example: tekup restart agent
    """
    layout = _here()
    with reporter() as report:
        report.update(name, "waiting until it has stopped")
        Link(layout).restart(name)
        now = wait_until_ready(layout, report, timeout, only=lambda process: process.name == name)
    process = next(process for process in now.processes if process.name == name)
    if json:
        show.as_json(process.model_dump(mode="json"))
    else:
        typer.echo(f"{name} is ready again, pid {process.pid}")


def scale(
    wish: Annotated[str, typer.Argument(metavar="SERVICE=N", help="How many instances there should be.")],
    version: Version = "",
    timeout: Timeout = 120,
    json: JsonFlag = False,
) -> None:
    """Start or stop instances of a service until there are N of a version; remembered until changed.

    A version is only a label here: all run the same code. Put `.tekup/drills/<service>-<version>.json` beside it
    to make one behave differently.

    Example: tekup scale filesystem=3

    Example: tekup scale filesystem=1 --version 1.1.0
    """
    wanted, layout = read_wish(wish, version), _here()
    taken_up = Link(layout).scale(wanted)
    with reporter() as report:
        now = wait_until_scaled(layout, taken_up, report, timeout).scale[taken_up.service]
    if json:
        show.as_json(now)
        return
    for label, count in sorted(now.items()):
        typer.echo(f"{taken_up.service} {label}: {count}")


def doctor(json: JsonFlag = False) -> None:
    """Look for what is wrong, and say what to do about it; changes nothing. Ends with 1 if it found something.

    Example: tekup doctor
    """
    findings = examination.examine(_here())
    if json:
        show.as_json([finding.data() for finding in findings])
    else:
        show.table(("", "WHAT", "FOUND"), [("ok" if f.ok else "XX", f.what, f.said) for f in findings])
        for finding in findings:
            if not finding.ok:
                told = typed(f"{finding.what}: {finding.remedy}")
                typer.echo(textwrap.fill(told, show.WIDTH, subsequent_indent="  ", break_long_words=False,
                                         break_on_hyphens=False))  # fmt: skip
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.FAILED)


@config.command("show")
def config_show(json: JsonFlag = False) -> None:
    """Show each setting, its value, and whether it came from the environment, from tekup.toml or by default.

    Example: tekup config show --json
    """
    layout = _here()
    effective = load(layout)
    any_port = {name for name, port in named_ports(effective.settings).items() if not port}
    ports = {name: str(port) for name, port in remembered_ports(layout.ports).items() if name in any_port}
    rows = [(name, ports.get(name, value), origin) for name, value, origin in effective.rows()]
    if json:
        show.as_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    meanings = {str(field.alias): field.description or "" for field in Settings.model_fields.values()}
    show.table(("SETTING", "VALUE", "FROM", ""), [(n, v or "-", o, meanings.get(n, "")) for n, v, o in rows])
