"""Settings of one instance: the kit's and its service's, read once from the environment, frozen.

Every problem of both, and of the secrets file, is reported together (docs/contracts.md, "Settings of an instance").
"""

import json
import os
import re
import secrets as random_secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import pydantic_settings
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from observability.telemetry.about import platform_version
from services.common.errors import SettingsError
from services.common.tokens import problem_of

__all__ = ["Folders", "KitSettings", "Loaded", "SecretsFile", "ServiceSettings", "Words", "load_settings"]

_VERSION = re.compile(r"[0-9A-Za-z.]{1,32}")
_INSTANCE = re.compile(r"[0-9a-f]{6}")
_PLATFORMS_OWN = ("PORT", "URL", "MEMORY", "CPUS")
"""What the platform says of a service under the service's prefix: `MCP_SEARCH_PORT` is no setting of an instance."""


def _split_folders(value: object) -> object:
    return [part for part in value.split(":") if part] if isinstance(value, str) else value


def _split_words(value: object) -> object:
    return (
        re.split(r"[\s,]+", value.strip(", \t\n")) if isinstance(value, str) and value.strip(", \t\n") else value or ()
    )


Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_folders)]
"""A setting of `:`-separated folders, as `MCP_FILESYSTEM_ROOTS`."""

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)]
"""A setting of words separated by commas or blanks, as `MCP_BROWSER_ALLOW_HOSTS`."""


def _matches(pattern: re.Pattern[str], meaning: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"must be {meaning}")
        return value

    return AfterValidator(check)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _url_text(value: str) -> str:
    if value:
        HttpUrl(value)
    return value.rstrip("/")


class KitSettings(BaseSettings):
    """What every instance is told, whichever service it is."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True, extra="ignore")

    env: Literal["development", "staging", "production"] = "development"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    log_level_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    admin_port: int = Field(default=0, ge=0, le=65535)
    consul_url: Annotated[str, AfterValidator(_url_text)] = ""
    consul_token_file: Path | None = None
    consul_ca_file: Path | None = None
    version: Annotated[str, _matches(_VERSION, "1-32 letters, digits and dots")] = Field(
        default_factory=platform_version
    )
    instance: Annotated[str, _matches(_INSTANCE, "6 hex digits")] = Field(
        default_factory=lambda: random_secrets.token_hex(3)
    )
    secrets_file: Path | None = None
    mtls: Annotated[Literal["off", "on"], BeforeValidator(_lower)] = "off"
    standalone: bool = False
    gate_internal_url: Annotated[str, AfterValidator(_url_text)] = ""
    otlp_url: Annotated[str, AfterValidator(_url_text)] = ""
    trace_sample: float = Field(default=1.0, ge=0, le=1)
    drill_file: Path | None = None
    tool_deadline_s: float = Field(default=60.0, gt=0)
    drain_quiet_s: float = Field(default=1.0, ge=0)
    drain_deadline_s: float = Field(default=30.0, ge=0)
    reload: bool = False


class ServiceSettings(BaseSettings):
    """Base of a service's own settings: give a subclass its `env_prefix` (`MCP_<SERVICE>_`)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")


class SecretsFile(BaseModel):
    """A service's keys as the environment writes them for its instances."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: str
    keys: tuple[Annotated[str, _matches(re.compile(r"[0-9a-fA-F]{64}"), "64 hex digits")], ...] = Field(min_length=1)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys, current first."""
        return tuple(bytes.fromhex(key) for key in self.keys)


S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Everything an instance was told.

    Args:
        kit: The kit's settings.
        service: The service's own.
        keys: The service's keys, current first; never shown.
    """

    kit: KitSettings
    service: S
    keys: tuple[bytes, ...] = field(repr=False)


def _variable(settings: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    prefix = str(settings.model_config.get("env_prefix", ""))
    name = str(location[0]).upper() if location else "*"
    return name if name.startswith("MCP_") else f"{prefix}{name}"  # a field with an alias names its variable itself


def _unknown(name: str, service: type[BaseSettings], environ: Mapping[str, str]) -> list[str]:
    """A problem for each variable that has the service's prefix and that nobody reads: a typo, most likely."""
    prefix = f"MCP_{name.upper()}_"
    own = {variable for variable in _variables(service) if variable.startswith(prefix)}
    known = own | _variables(KitSettings) | {f"{prefix}{word}" for word in _PLATFORMS_OWN}
    there_are = ", ".join(sorted(own)) or "none"
    return [
        f"{variable}: there is no such setting; those of {name} are: {there_are}"
        for variable in sorted(environ)
        if variable.upper().startswith(prefix) and variable.upper() not in known
    ]


def _variables(settings: type[BaseSettings]) -> set[str]:
    """All variables a class reads, in capitals."""
    by_name = bool(settings.model_config.get("populate_by_name"))  # then an alias is one name more
    names = set()
    for name, about in settings.model_fields.items():
        alias = about.validation_alias
        if isinstance(alias, str):
            names.add(_variable(settings, (alias,)))
        if by_name or not isinstance(alias, str):
            names.add(_variable(settings, (name,)))
    return names


def _read(settings: type[BaseSettings], problems: list[str]) -> BaseSettings | None:
    try:
        return settings()
    except ValidationError as error:
        for item in error.errors():
            said = "" if isinstance(item["input"], Mapping) else f" (it is {item['input']!r})"
            problems.append(f"{_variable(settings, item['loc'])}: {item['msg']}{said}")
    except pydantic_settings.SettingsError as error:
        problems.append(f"{_variable(settings, ())}: {error}")
    return None


def _read_keys(name: str, kit: KitSettings, problems: list[str]) -> tuple[bytes, ...]:
    if kit.secrets_file is None:
        if not kit.standalone:
            problems.append(
                "MCP_SECRETS_FILE: is not set, so the gate's proof could not be checked; "
                "set it, or start alone with MCP_STANDALONE=true"
            )
        return (random_secrets.token_bytes(32),)
    try:
        content = SecretsFile.model_validate(json.loads(kit.secrets_file.read_text()))
    except (OSError, ValueError) as error:
        # Only the kind of a validation error: its text would repeat a key.
        reason = "is not a secrets file" if isinstance(error, ValueError) else (error.strerror or "cannot be read")
        problems.append(f"MCP_SECRETS_FILE: {kit.secrets_file}: {reason}")
        return ()
    if content.service != name:
        problems.append(f"MCP_SECRETS_FILE: {kit.secrets_file} belongs to {content.service!r}, not to {name!r}")
    return content.secrets


def load_settings(name: str, service: type[S]) -> Loaded[S]:
    """Read the settings of an instance from its environment.

    Args:
        name: The service.
        service: Its settings class.

    Returns:
        Everything the instance was told.

    Raises:
        SettingsError: With every problem there is.
    """
    problems: list[str] = []
    kit = _read(KitSettings, problems)
    if isinstance(kit, KitSettings) and kit.env == "production" and kit.drill_file is not None:
        problems.append("MCP_DRILL_FILE: must not be set in production, where drills could hurt real callers")
    if isinstance(kit, KitSettings) and kit.consul_token_file and (problem := problem_of(kit.consul_token_file)):
        problems.append(f"MCP_CONSUL_TOKEN_FILE: {problem}")
    if isinstance(kit, KitSettings) and kit.mtls == "on" and not kit.consul_url:
        problems.append("MCP_MTLS: is on, which takes certificates from Consul; set MCP_CONSUL_URL")
    own = _read(service, problems)
    problems += _unknown(name, service, os.environ)
    keys = _read_keys(name, kit, problems) if isinstance(kit, KitSettings) else ()
    if problems or not isinstance(kit, KitSettings) or not isinstance(own, service):
        raise SettingsError(name, tuple(problems))
    return Loaded(kit, own, keys)
