"""What a bridge is told of its server: one TOML or JSON file (docs/contracts.md, "A bridge's declaration").

Secrets are never in it: it names the files they are in, which are read at each start of a child or connection.
"""

import json
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = [
    "BadDeclaration",
    "Declaration",
    "Era",
    "Limits",
    "Mode",
    "OAuthClient",
    "Transport",
    "read_declaration",
    "read_text",
]

SECRET_WORDS: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "AUTHORIZATION")
_PLATFORMS: Final = ("MCP_", "TEKUP_")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class BadDeclaration(Exception):
    """A declaration cannot be used; all that is wrong with it in one message."""


class Mode(StrEnum):
    """Whose a child is."""

    SHARED = "shared"
    PER_CLIENT = "per-client"


class Transport(StrEnum):
    """How a server at a URL is spoken to."""

    HTTP = "http"
    SSE = "sse"


class Era(StrEnum):
    """Which era's protocol the server is spoken to in."""

    AUTO = "auto"
    LEGACY = "legacy"
    MODERN = "modern"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Data):
    """What a child, with all it starts, may use.

    Attributes:
        memory_mb: Memory in MiB; more, and it is ended.
        processes: Processes at one time.
        cpus: Processors' time, where there are control groups; 0 for no bound.
        cpu_s: Seconds of a processor that one process may use in its life; 0 for no bound.
        open_files: Open files of one process.
        file_mb: The largest file it may write, in MiB; 0 for no bound.
    """

    memory_mb: int = Field(default=1024, ge=16)
    processes: int = Field(default=128, ge=1)
    cpus: float = Field(default=0, ge=0)
    cpu_s: int = Field(default=0, ge=0)
    open_files: int = Field(default=1024, ge=16)
    file_mb: int = Field(default=0, ge=0)


class DeclaredProbe(_Data):
    """A call that has to work for the instance to be ready; its tool by the server's own name."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class OAuthClient(_Data):
    """Who the bridge is for the authorization server of a remote one.

    Attributes:
        issuer: Whose tokens the remote server takes; the credentials go nowhere else.
        client_id: The client's id there.
        secret_file: A file with its secret.
        scope: What to ask for; "" for what the remote server says.
        token_file: Somebody's tokens, as a token endpoint answered them, to be used and renewed in place; without, the
            client acts for itself.
    """

    issuer: str = Field(pattern=r"^https?://\S+$")
    client_id: str = Field(min_length=1)
    secret_file: Path | None = None
    scope: str = ""
    token_file: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> "OAuthClient":
        if self.secret_file is None and self.token_file is None:
            raise ValueError("name a secret_file, or a token_file with somebody's tokens")
        return self


class Declaration(_Data):
    """A bridged server.

    Attributes:
        name: The service's name, which all its tools' names begin with.
        version: The service's version; "" for the one the instance is started as.
        command: Program and arguments of a server over stdio. Either this or `url`.
        env: Its environment variables besides a few that every program needs.
        env_files: Variables whose values are in files.
        env_file: A file of `NAME=value` lines, for several at once; "" for none.
        cwd: Where it runs; "" for where the instance does.
        user: Whom it runs as, which takes root; "" for the instance's user.
        limits: What it may use.
        url: Where a remote server is.
        transport: How it is spoken to.
        headers: Headers of each request to it.
        header_files: Headers whose values are in files.
        oauth: Who the bridge is where a token is wanted.
        hosts: Whom it may reach, `host` or `host:port`, where the place it runs in bounds that; see `way_out`.
        era: Which era's protocol it is spoken to in; `auto` finds out.
        mode: Whether all clients share one child, or each has its own.
        children: The most children at one time, of clients of their own.
        spare: Children kept started for the next new client.
        idle_s: A client's child that was not called for so long is ended.
        start_s: The most a start may take.
        answer_s: The most a sign of life may take before the instance counts as not ready.
        hang_s: A child that has said nothing for so long although asked is ended and started anew.
        message_mb: The longest message it may send, in MiB.
        probe: A call that has to work for the instance to be ready.
        instructions: What a model should know first; "" for what the server says itself.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    version: str = Field(default="", pattern=r"^[0-9A-Za-z.]{0,32}$")
    command: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    env_files: dict[str, Path] = Field(default_factory=dict)
    env_file: str = ""
    cwd: str = ""
    user: str = ""
    limits: Limits = Limits()
    url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    transport: Transport = Transport.HTTP
    headers: dict[str, str] = Field(default_factory=dict)
    header_files: dict[str, Path] = Field(default_factory=dict)
    oauth: OAuthClient | None = None
    hosts: tuple[str, ...] = ()
    era: Era = Era.AUTO
    mode: Mode = Mode.SHARED
    children: int = Field(default=16, ge=1, le=1000)
    spare: int = Field(default=0, ge=0, le=100)
    idle_s: Seconds = 300.0
    start_s: Seconds = 60.0
    answer_s: Seconds = 3.0
    hang_s: Seconds = 60.0
    message_mb: int = Field(default=16, ge=1, le=64)
    probe: DeclaredProbe | None = None
    instructions: str = ""

    @model_validator(mode="after")
    def _whole(self) -> "Declaration":
        if bool(self.command) == bool(self.url):
            raise ValueError("give either a command or a url")
        if self.oauth is not None and not self.url:
            raise ValueError("oauth is for a server at a url")
        plain = [name for name in self.env if _is_secret(name)] + [name for name in self.headers if _is_secret(name)]
        if plain:
            raise ValueError(f"{', '.join(plain)} looks like a secret: name its file under env_files or header_files")
        own = [name for name in (*self.env, *self.env_files) if name.startswith(_PLATFORMS)]
        if own:
            raise ValueError(f"{', '.join(own)} is a name of the platform's, which a child gets none of")
        return self

    def environment(self) -> dict[str, str]:
        """The child's own variables, its secrets among them.

        Raises:
            BadDeclaration: A file cannot be read.
        """
        found = dict(self.env)
        if self.env_file:
            found |= _lines(read_text(Path(self.env_file)), self.env_file)
        return found | {name: read_text(path).rstrip("\r\n") for name, path in self.env_files.items()}

    def all_headers(self) -> dict[str, str]:
        """The headers of each request, secrets among them.

        Raises:
            BadDeclaration: A file cannot be read.
        """
        return self.headers | {name: read_text(path).strip() for name, path in self.header_files.items()}


def read_declaration(path: Path) -> Declaration:
    """Read a declaration.

    Raises:
        BadDeclaration: It cannot be read, or is none; with every problem there is.
    """
    text = read_text(path)
    try:
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return Declaration.model_validate(content)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors())
        raise BadDeclaration(f"{path} is no declaration of a bridge: {'; '.join(problems)}") from None
    except ValueError as error:
        raise BadDeclaration(f"{path} cannot be understood: {error}") from error


def _is_secret(name: str) -> bool:
    words = re.split(r"[_\-.]", name.upper())
    return any(word in SECRET_WORDS or word.endswith(("KEY", "TOKEN")) for word in words)


def read_text(path: Path) -> str:
    """A file that a declaration names.

    Raises:
        BadDeclaration: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadDeclaration(f"{path} cannot be read: {reason}") from error


def _lines(text: str, path: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip().removeprefix("export ").strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise BadDeclaration(f"{path}, line {number}: is not NAME=value")  # without the line: it may be a secret
        found[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    if own := [name for name in found if name.startswith(_PLATFORMS)]:
        raise BadDeclaration(f"{path}: {', '.join(own)} is a name of the platform's, which a child gets none of")
    return found
