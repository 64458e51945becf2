"""Every setting, from the models that read them."""

from __future__ import annotations

import inspect
import typing
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compose.containers.settings import ContainerSettings
from compose.local.settings import Settings
from control_plane.oauth.settings import OAuthSettings
from control_plane.rule_keeper import KeeperSettings
from control_plane.settings import AgentSettings, ControlPlaneSettings
from services.bridge.service import BridgeSettings
from services.browser.settings import BrowserSettings
from services.common.egress.process import EgressSettings
from services.common.settings import KitSettings
from services.filesystem.service import FilesystemSettings
from services.hub.service import HubSettings
from services.search.service import SearchSettings
from tests.reference.table import code, heading, table

PROCESSES: dict[str, type[BaseModel]] = {
    "every instance": KitSettings,
    "browser": BrowserSettings,
    "the browser's way out": EgressSettings,
    "filesystem": FilesystemSettings,
    "search": SearchSettings,
    "hub": HubSettings,
    "bridge": BridgeSettings,
    "control plane": ControlPlaneSettings,
    "gate agent": AgentSettings,
    "authorization servers": OAuthSettings,
    "keeper of alert rules": KeeperSettings,
}
WORDS = {"str": "text", "int": "number", "float": "number", "bool": "true, false", "Path": "path", "HttpUrl": "URL"}


def page() -> str:
    """The page of settings."""
    lines = heading(
        "Settings",
        "Variables of the environment, or lines of `tekup.toml`; the environment goes first. `tekup config show` "
        "prints what is in force and where it came from. A wrong one stops the start with a message that names it.",
    )
    lines += ["## Of an environment of local processes", ""]
    lines += table(("setting", "value", "by default", "what it says"), [_row(Settings, *one) for one in _of(Settings)])
    further = [one for one in _of(ContainerSettings) if one[0] not in Settings.model_fields]
    lines += [
        "## Of an environment of containers, besides",
        "",
        "[Containers](../containers.md) has how they are used.",
        "",
    ]
    lines += table(
        ("setting", "value", "by default", "what it says"), [_row(ContainerSettings, *one) for one in further]
    )
    lines += [
        "## Of each process", "",
        "What `tekup up` and the Compose files tell a process, and what you may tell it besides. What they mean: "
        "[instances](../contracts.md#settings-of-an-instance), "
        "[control plane](../contracts.md#settings-of-the-control-plane), "
        "[edge](../contracts.md#settings-of-the-edge).", "",
    ]  # fmt: skip
    for who, model in PROCESSES.items():
        rows = [_row(model, *one)[:3] for one in _of(model)]
        if rows:
            lines += [f"### {who[0].upper()}{who[1:]}", "", *table(("setting", "value", "by default"), rows)]
    return "\n".join(lines)


def _of(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return list(model.model_fields.items())


def _row(model: type[BaseModel], name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    alias = field.validation_alias or field.alias
    variable = str(alias) if alias else f"{model.model_config.get('env_prefix', '')}{name}".upper()
    return code(variable), _kind(field.annotation), code(_default(field)), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return ""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return "" if value is None or value == () else str(value)


def _kind(annotation: Any) -> str:
    """What can be written there, in a word or two."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _kind(inside[0])
    if origin is Literal:
        return ", ".join(str(one) for one in inside)
    if origin in (typing.Union, UnionType):
        return _kind(next(one for one in inside if one is not type(None)))
    if origin is tuple:
        return f"{_kind(inside[0])} …"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(str(one.value) for one in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, Path):
        return "path"
    return WORDS.get(getattr(annotation, "__name__", ""), "text")
