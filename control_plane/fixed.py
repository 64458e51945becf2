"""Instances that stand in no catalog: `MCP_SERVICES_<NAME>_URL` names one, which is then as good as registered.

For a server of ours that cannot reach Consul, such as one on another machine. Control plane and agents have to be told
the same. It has the version `fixed`, and is as live as the gate's own health checks find it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from control_plane.errors import Refused
from control_plane.model import Instance

VERSION = "fixed"
_NAME = re.compile(r"MCP_SERVICES_([A-Z][A-Z0-9_]*)_URL")


def fixed_instances(environ: Mapping[str, str]) -> tuple[Instance, ...]:
    """The instances that variables name.

    Args:
        environ: Environment variables; an empty one names none.

    Raises:
        Refused: One is no `http://host:port`; every such one is named.
    """
    asked = {found[1]: url for name, url in sorted(environ.items()) if url and (found := _NAME.fullmatch(name))}
    problems = [f"  MCP_SERVICES_{name}_URL = {url!r}: it must be http://host:port" for name, url in asked.items()
                if not _is_address(url)]  # fmt: skip
    if problems:
        raise Refused("settings:\n" + "\n".join(problems))
    return tuple(_instance(name.lower().replace("_", "-"), url) for name, url in asked.items())


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/")
                    and not parts.query and not parts.username)  # fmt: skip
    except ValueError:
        return False


def _instance(service: str, url: str) -> Instance:
    parts = urlsplit(url)
    name = hashlib.sha256(url.encode()).hexdigest()[:6]
    return Instance(service, VERSION, name, str(parts.hostname), int(parts.port or 0))
