"""What other programs keep of servers: `mcp.json` and its kin, read into declarations.

Formats: `mcpServers` (Claude Desktop, Claude Code, Cursor, and most others) and `servers` (VS Code). Values that look
like secrets, and all values of headers, go into private files; `${env:NAME}` and `${NAME}` are taken from this
process's environment, and what only its user could type (`${input:…}`) is refused by name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.local.bridged.declared import NAME, RESERVED
from compose.local.errors import BadInput

_SECRET = re.compile(r"(?i)key|token|secret|passw|credential|auth")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
_ASKED = re.compile(r"\$\{input:([^}]*)\}")
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True)
class Foreign:
    """One server of another program's list.

    Attributes:
        called: its name there.
        name: its name here.
        content: its declaration.
        secrets: `env/NAME` or `header/NAME` → value.
        problem: why it cannot be taken over, "" if it can.
    """

    called: str
    name: str
    content: Mapping[str, Any]
    secrets: Mapping[str, str]
    problem: str = ""


def read_foreign(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Foreign, ...]:
    """Read another program's list of servers.

    Raises:
        BadInput: the file cannot be read, or holds no such list.
    """
    try:
        content = json.loads(_plain(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no JSON: {error}") from error
    servers = _servers(content)
    if servers is None:
        raise BadInput(f"{path} lists no servers: there is neither `mcpServers` nor `servers` in it")
    taken: set[str] = set()
    found = []
    for called, server in servers.items():
        name = _name(called, taken)
        taken.add(name)
        found.append(_read(called, name, server, path, environ))
    return tuple(found)


def _plain(text: str) -> str:
    """JSON without the comments and last commas that editors allow."""
    bare = _COMMENT.sub(lambda found: found.group(1) or " ", text)
    return _COMMA.sub(lambda found: found.group(1) or "", bare)


def _servers(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, dict):
        return None
    for place in (content, content.get("mcp")):  # VS Code's own settings have it one level deeper
        for member in ("mcpServers", "servers"):
            if isinstance(place, dict) and isinstance(place.get(member), dict):
                found: dict[str, Any] = place[member]
                return found
    return None


def _name(called: str, taken: set[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")[:28] or "server"
    plain = plain if plain[0].isalpha() else f"s-{plain}"
    plain = f"my-{plain}" if plain in RESERVED else plain
    number, name = 1, plain
    while name in taken or not NAME.fullmatch(name):
        number += 1
        name = f"{plain}-{number}"
    return name


def _read(called: str, name: str, server: Any, path: Path, environ: Mapping[str, str]) -> Foreign:
    problems: list[str] = []

    def filled(text: object) -> str:
        return _filled(str(text), path, environ, problems)

    if not isinstance(server, dict):
        return Foreign(called, name, {}, {}, "it is no object")
    if server.get("disabled") is True:
        return Foreign(called, name, {}, {}, "it is switched off there")
    secrets: dict[str, str] = {}
    content = _command(server, filled, secrets) if server.get("command") else _remote(server, filled, secrets)
    if content is None:
        return Foreign(called, name, {}, {}, "it has neither a command nor a url")
    return Foreign(called, name, content, secrets, "; ".join(dict.fromkeys(problems)))


def _command(server: Mapping[str, Any], filled: Any, secrets: dict[str, str]) -> dict[str, Any]:
    arguments = server.get("args")
    content: dict[str, Any] = {
        "command": [filled(server["command"]), *map(filled, arguments if isinstance(arguments, list) else ())]
    }
    env = server.get("env")
    for variable, value in env.items() if isinstance(env, dict) else ():
        if _SECRET.search(variable):
            secrets[f"env/{variable}"] = filled(value)
        else:
            content.setdefault("env", {})[variable] = filled(value)
    if server.get("envFile"):
        content["env_file"] = filled(server["envFile"])
    if server.get("cwd"):
        content["cwd"] = filled(server["cwd"])
    return content


def _remote(server: Mapping[str, Any], filled: Any, secrets: dict[str, str]) -> dict[str, Any] | None:
    url = server.get("url") or server.get("serverUrl")
    if not url:
        return None
    headers = server.get("headers")
    for header, value in headers.items() if isinstance(headers, dict) else ():
        secrets[f"header/{header}"] = filled(value)
    return {"url": filled(url), "transport": "sse" if server.get("type") == "sse" else "http"}


def _filled(text: str, path: Path, environ: Mapping[str, str], problems: list[str]) -> str:
    for asked in _ASKED.findall(text):
        problems.append(f"it asks its user for {asked}: put the value into the file, or add the server by hand")
    text = text.replace("${workspaceFolder}", str(path.resolve().parent)).replace("${userHome}", str(Path.home()))

    def value(found: re.Match[str]) -> str:
        name, otherwise = found.group(1), found.group(2)
        if name not in environ and otherwise is None:
            problems.append(f"{name} is not set in the environment")
        return environ.get(name, otherwise or "")

    return _VARIABLE.sub(value, text)
