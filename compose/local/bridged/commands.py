"""`tekup add | remove | import | connect`: servers of your own behind the gate, and clients before it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from compose.local import show
from compose.local.bridged.adding import Added, add_server, connection, remove_server
from compose.local.bridged.clients import CLIENTS, Where, setup_for, write_setup
from compose.local.bridged.declared import declared
from compose.local.bridged.foreign import Foreign, read_foreign
from compose.local.bridged.project import declaration_of, make_project
from compose.local.errors import BadInput, LocalError, NotRunning
from compose.local.exits import Exit
from compose.local.layout import Layout
from compose.local.progress import Reporter, reporter
from compose.local.typed import typed

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait at most; it may have to be fetched first.")]
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(add)
    app.command()(remove)
    app.command("import")(import_servers)
    app.command("new-service")(new_service)
    app.command()(connect)


def _here() -> Layout:
    layout = Layout(Path.cwd())
    if not layout.state.is_dir():
        raise NotRunning(f"there is no environment in {layout.directory}; make one with `tekup up`")
    return layout


def add(
    name: Annotated[str, typer.Argument(help="The service's name; its tools' names begin with it.")],
    command: Annotated[list[str] | None, typer.Argument(help="Program and arguments, after --.")] = None,
    url: Annotated[str, typer.Option(help="A remote server's address, in place of a command.")] = "",
    sse: Annotated[bool, typer.Option("--sse", help="The remote server speaks the older SSE transport.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=value for it; no secrets.")] = None,
    env_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, resolve_path=True, help="NAME=value lines; secrets.")
    ] = None,
    header_file: Annotated[
        list[str] | None, typer.Option("--header-file", help="HEADER=file that holds its value.")
    ] = None,
    project: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, resolve_path=True, help="A service of your own.")
    ] = None,
    version: Annotated[str, typer.Option(help="Its version; by default the platform's.")] = "",
    mode: Annotated[str, typer.Option(help="shared: one child for all; per-client: one for each client.")] = "shared",
    era: Annotated[str, typer.Option(help="Which era's protocol it is spoken to in: auto, legacy, modern.")] = "auto",
    cwd: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, resolve_path=True, help="Where it runs.")
    ] = None,
    timeout: Timeout = 180,
    json: JsonFlag = False,
) -> None:
    """Serve somebody else's MCP server behind the gate, and show its tools.

    It is kept: `tekup up` brings it back. Adding it again changes what is different.

    Example: tekup add time -- uvx mcp-server-time

    Example: tekup add memory --env MEMORY_FILE_PATH=/data/memory.json -- npx -y @modelcontextprotocol/server-memory

    Example: tekup add github --url https://api.example.com/mcp --header-file Authorization=/run/secrets/github

    Example: tekup add notes --project ./notes
    """
    content: dict[str, Any] = {"version": version} if version else {}
    content |= {"mode": mode} if mode != "shared" else {}
    content |= {"era": era} if era != "auto" else {}
    if sum(map(bool, (command, url, project))) != 1:
        raise BadInput(
            "give a command after --, or --url, or --project; for example: tekup add time -- uvx mcp-server-time"
        )
    if project:
        content |= declaration_of(name, project)
    elif url:
        content |= {
            "url": url,
            "transport": "sse" if sse else "http",
            "header_files": _pairs(header_file, "--header-file"),
        }
    else:
        content |= {"command": list(command or ()), "env": _pairs(env, "--env"), "cwd": str(cwd or "")}
        content |= {"env_file": str(env_file)} if env_file else {}
    with reporter() as report:
        added = add_server(_here(), name, {k: v for k, v in content.items() if v}, {}, report, timeout)
    if json:
        show.as_json(_data(added))
    else:
        _print_added(added)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name or (option == "--env" and not _VARIABLE.fullmatch(name)):
            raise BadInput(f"{option} {text.partition('=')[0][:40]!r} is not NAME=value")
        found[name] = str(Path(value).resolve()) if option == "--header-file" else value
    return found


def _data(added: Added) -> dict[str, object]:
    return {"name": added.name, "running": added.running, "tools": list(added.tools), "endpoint": added.endpoint}


def _print_added(added: Added) -> None:
    if not added.running:
        typer.echo(typed(f"{added.name} is declared; nothing runs here: `tekup up` serves it."))
        return
    typer.echo(f"{added.name} is served at {added.endpoint}, or alone at {added.own}:")
    for tool in added.tools:
        typer.echo(f"  {tool}")


def new_service(
    name: Annotated[str, typer.Argument(help="The service's name; its tools' names begin with it.")],
    folder: Annotated[Path | None, typer.Option(help="Where the project goes; by default ./NAME.")] = None,
    timeout: Timeout = 180,
    json: JsonFlag = False,
) -> None:
    """Make the project of a service of your own, with tools and tests, and serve it if an environment is here.

    Example: tekup new-service notes
    """
    where = (folder or Path.cwd() / name).resolve()
    files = make_project(name, where)
    layout = Layout(Path.cwd())
    added = Added(name, running=False)
    if layout.state.is_dir():
        with reporter() as report:
            added = add_server(layout, name, declaration_of(name, where), {}, report, timeout)
    if json:
        show.as_json({**_data(added), "folder": str(where), "files": [str(file) for file in files]})
        return
    for file in files:
        typer.echo(f"  {file.relative_to(where.parent)}")
    typer.echo(typed(f"Tests: python -m pytest {where}/tests"))
    if layout.state.is_dir():
        _print_added(added)
    else:
        typer.echo(typed(f"To serve it, where an environment is: tekup add {name} --project {where}"))


def remove(
    name: Annotated[str, typer.Argument(help="The service's name.")],
    timeout: Timeout = 90,
    json: JsonFlag = False,
) -> None:
    """Take an added server away: calls under way are finished first, its declaration and secrets are removed.

    Example: tekup remove time
    """
    with reporter() as report:
        ran = remove_server(_here(), name, report, timeout)
    if json:
        show.as_json({"name": name, "ran": ran, "left": [one.name for one in declared(_here())]})
    else:
        typer.echo(f"{name} is gone.")


def import_servers(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="mcp.json, claude_desktop_config.json, …")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Just this one, by its name there.")] = None,
    timeout: Timeout = 180,
    json: JsonFlag = False,
) -> None:
    """Serve all servers that another program's configuration lists.

    Reads the formats of Claude Desktop, Claude Code, VS Code and Cursor. Secrets in it go into private files.

    Example: tekup import ~/.cursor/mcp.json

    Example: tekup import .mcp.json --only github
    """
    found = [one for one in read_foreign(file) if not only or one.called in only]
    if missing := sorted(set(only or ()) - {one.called for one in found}):
        raise BadInput(f"{file} lists no {', '.join(missing)}")
    layout = _here()
    with reporter() as report:
        results = [_imported(layout, one, report, timeout) for one in found]
    if json:
        show.as_json([
            {"called": one.called, **(_data(added) if added else {"name": one.name}), "problem": problem}
            for one, added, problem in results
        ])  # fmt: skip
    else:
        for one, added, problem in results:
            if added is None:
                typer.echo(typed(f"{one.called} was not taken over: {problem}"))
            else:
                _print_added(added)
    if any(problem for _, _, problem in results):
        raise typer.Exit(Exit.FAILED)


def _imported(layout: Layout, one: Foreign, report: Reporter, timeout_s: float) -> tuple[Foreign, Added | None, str]:
    """One that fails holds up no other."""
    if one.problem:
        return one, None, one.problem
    try:
        return one, add_server(layout, one.name, one.content, one.secrets, report, timeout_s), ""
    except LocalError as error:
        return one, None, str(error)


def connect(
    client: Annotated[str, typer.Argument(help=f"One of {', '.join(CLIENTS)}.")],
    service: Annotated[str, typer.Option(help="Only this service's address.")] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Write it into the client's file; the old one is kept.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show the configuration by which a client reaches this environment, or write it.

    Example: tekup connect claude-code --write

    Example: tekup connect inspector
    """
    where = _where(service)
    setup = setup_for(client, where, Path.cwd(), Path.home())
    backup = write_setup(setup) if write else None
    if json:
        show.as_json({
            "client": client, "url": where.url, "file": str(setup.file or ""), "before": list(setup.before),
            "text": setup.text, "written": write, "backup": str(backup or ""),
        })  # fmt: skip
        return
    for line in setup.before:
        typer.echo(line, err=not write)  # standard output alone can be kept in a file
    if write:
        typer.echo(f"written to {setup.file}" + (f"; what was there is in {backup}" if backup else ""))
        return
    if setup.file is not None:
        typer.echo(f"# {setup.file}", err=True)
    typer.echo(setup.text)


def _where(service: str) -> Where:
    edge, key = connection(_here())
    path = f"/{service}/mcp" if service else "/mcp"
    return Where(f"{edge.url}{path}", key, str(edge.ca or ""))
