"""The configuration that a client needs to reach this environment: `tekup connect`.

The key stands in it once at most; wherever the client can take it from its environment, or ask for it, it stands in no
file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compose.local.errors import BadInput, StepFailed
from compose.local.files import PRIVATE, write_atomically

VARIABLE = "TEKUP_KEY"
SERVER = "tekup"


@dataclass(frozen=True)
class Where:
    """What a client connects to.

    Attributes:
        url: the gate's endpoint.
        key: a key of the client's.
        ca: the authority to trust, "" where the machine does.
    """

    url: str
    key: str
    ca: str = ""


@dataclass(frozen=True)
class Setup:
    """How one client is connected.

    Attributes:
        text: what to put in place or to run.
        file: where it belongs, None if it is no configuration.
        merged: what is merged into that file.
        before: what its user does first, commands and words.
    """

    text: str
    file: Path | None = None
    merged: Mapping[str, Any] | None = None
    before: tuple[str, ...] = ()


def setup_for(client: str, where: Where, folder: Path, home: Path) -> Setup:
    """How a client is connected.

    Args:
        client: one of `CLIENTS`.
        where: to what.
        folder: its project's folder.
        home: its user's.

    Raises:
        BadInput: there is no such client.
    """
    if client not in CLIENTS:
        raise BadInput(f"there is no client {client[:40]!r}; there are: {', '.join(CLIENTS)}")
    return CLIENTS[client](where, folder, home)


def write_setup(setup: Setup) -> Path | None:
    """Merge a configuration into the client's file; what was there is kept beside it.

    Returns:
        The backup, None if there was no file.

    Raises:
        BadInput: the client has no file.
        StepFailed: the file there is no JSON, or cannot be written.
    """
    if setup.file is None or setup.merged is None:
        raise BadInput("this client has no file to write; run what is printed")
    path, backup = setup.file, None
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        content = json.loads(before) if before.strip() else {}
        merged = _merged(content, setup.merged)
        if merged == content:
            return None
        if before:
            backup = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.bak")
            write_atomically(backup, before, PRIVATE)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(merged, indent=2) + "\n", PRIVATE)
    except OSError as error:
        raise StepFailed(f"{path} cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise StepFailed(f"{path} is no plain JSON ({error}); put what is printed into it by hand") from error
    return backup


def _merged(there: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(there, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 (told as JSON that does not fit is)
    merged = dict(there)
    for name, value in more.items():
        if name == "inputs" and isinstance(merged.get(name), list):
            merged[name] = [one for one in merged[name] if one.get("id") != value[0]["id"]] + value
        elif isinstance(value, Mapping) and name != SERVER:
            merged[name] = _merged(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged


def _export(where: Where) -> tuple[str, ...]:
    trust = (f"export NODE_EXTRA_CA_CERTS={where.ca}",) if where.ca else ()
    return (f"export {VARIABLE}={where.key}", *trust)


def _configured(file: Path, merged: Mapping[str, Any], before: tuple[str, ...]) -> Setup:
    return Setup(json.dumps(merged, indent=2), file, merged, before)


def _claude_code(where: Where, folder: Path, home: Path) -> Setup:
    del home
    headers = {"Authorization": f"Bearer ${{{VARIABLE}}}"}
    server = {"type": "http", "url": where.url, "headers": headers}
    return _configured(folder / ".mcp.json", {"mcpServers": {SERVER: server}}, _export(where))


def _claude_desktop(where: Where, folder: Path, home: Path) -> Setup:
    """It starts servers over stdio only from its file, so a small program takes it to the gate."""
    del folder
    places = {"darwin": "Library/Application Support/Claude", "win32": "AppData/Roaming/Claude"}
    file = home / places.get(sys.platform, ".config/Claude") / "claude_desktop_config.json"
    env = {"TEKUP_AUTH": f"Bearer {where.key}"} | ({"NODE_EXTRA_CA_CERTS": where.ca} if where.ca else {})
    # without a blank after the colon: some systems split the argument there
    arguments = ["-y", "mcp-remote", where.url, "--header", "Authorization:${TEKUP_AUTH}"]
    server = {"command": "npx", "args": arguments, "env": env}
    return _configured(file, {"mcpServers": {SERVER: server}}, ())


def _vscode(where: Where, folder: Path, home: Path) -> Setup:
    del home
    asked = {"id": "tekup-key", "type": "promptString", "description": "Key of TekUp MCP", "password": True}
    server = {"type": "http", "url": where.url, "headers": {"Authorization": "Bearer ${input:tekup-key}"}}
    merged = {"inputs": [asked], "servers": {SERVER: server}}
    return _configured(folder / ".vscode" / "mcp.json", merged, (f"# when it asks for the key: {where.key}",))


def _cursor(where: Where, folder: Path, home: Path) -> Setup:
    del home
    server = {"url": where.url, "headers": {"Authorization": f"Bearer ${{env:{VARIABLE}}}"}}
    return _configured(folder / ".cursor" / "mcp.json", {"mcpServers": {SERVER: server}}, _export(where))


def _inspector(where: Where, folder: Path, home: Path) -> Setup:
    del folder, home
    run = (
        f"npx @modelcontextprotocol/inspector --cli {where.url} --protocol-era modern --method tools/list "
        f'--header "Authorization: Bearer ${VARIABLE}"'
    )
    return Setup(run, before=_export(where))


_PYTHON = """\
# pip install mcp
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    headers = {{"Authorization": f"Bearer {{os.environ['{variable}']}}"}}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client("{url}", http_client=http)) as client:
            print(*(tool.name for tool in (await client.list_tools()).tools), sep="\\n")


asyncio.run(main())"""


def _python(where: Where, folder: Path, home: Path) -> Setup:
    del folder, home
    trust = (f"export SSL_CERT_FILE={where.ca}",) if where.ca else ()
    return Setup(_PYTHON.format(url=where.url, variable=VARIABLE), before=(f"export {VARIABLE}={where.key}", *trust))


_TYPESCRIPT = """\
// npm install @modelcontextprotocol/client
import {{ Client, StreamableHTTPClientTransport }} from "@modelcontextprotocol/client";

const client = new Client(
  {{ name: "mine", version: "1.0.0" }},
  {{ versionNegotiation: {{ mode: "auto" }} }}, // the newest protocol that both speak
);
await client.connect(
  new StreamableHTTPClientTransport(new URL("{url}"), {{
    requestInit: {{ headers: {{ Authorization: `Bearer ${{process.env.{variable}}}` }} }},
  }}),
);
for (const tool of (await client.listTools()).tools) console.log(tool.name);
await client.close();"""


def _typescript(where: Where, folder: Path, home: Path) -> Setup:
    del folder, home
    return Setup(_TYPESCRIPT.format(url=where.url, variable=VARIABLE), before=_export(where))


CLIENTS: Mapping[str, Callable[[Where, Path, Path], Setup]] = {
    "claude-code": _claude_code,
    "claude-desktop": _claude_desktop,
    "vscode": _vscode,
    "cursor": _cursor,
    "inspector": _inspector,
    "python": _python,
    "typescript": _typescript,
}
