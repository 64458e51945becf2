"""Which secret each process of a running environment uses: asked of the processes themselves, never guessed.

Instances and replicas say so on `/metrics` (`tekup_secret_file_seconds`, when the file in use was written), a gate's
agent in its registration, which it makes with the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .bridged.declared import declared, names
from .consul_acl import GATE, MANAGEMENT, read_token, service_role, token_file
from .consul_api import ConsulApi
from .layout import Layout
from .settings import CONTROL_PLANE, SERVICES
from .status import Status

CALL_S = 3.0
TOLERANCE_S = 0.002
"""Of a time that was written with three decimals."""
TOKEN, KEYS = "consul_token", "keys"


@dataclass(frozen=True)
class Users:
    """Who uses secrets in an environment.

    Args:
        layout: the environment.
        status: what runs there.
        api: its Consul.
    """

    layout: Layout
    status: Status
    api: ConsulApi

    def behind_with_token(self, role: str, path: Path) -> list[str]:
        """Processes of a role that do not use the token in the file yet."""
        since_s = path.stat().st_mtime - TOLERANCE_S
        if role == GATE:
            return [] if self._gate_token_s() >= since_s else ["agent"]
        return [name for name, used_s in self._used(role, TOKEN) if used_s < since_s]

    def behind_with_keys(self, service: str, path: Path) -> list[str]:
        """Processes of a service, or of the control plane, that do not use the keys in the file yet."""
        since_s = path.stat().st_mtime - TOLERANCE_S
        role = CONTROL_PLANE if service == CONTROL_PLANE else service_role(service).name
        return [name for name, used_s in self._used(role, KEYS) if used_s < since_s]

    def _used(self, role: str, secret: str) -> Iterator[tuple[str, float]]:
        services = (*SERVICES, *names(declared(self.layout)))
        group = next((name for name in services if service_role(name).name == role), role)
        running = [process for process in self.status.processes if process.group == group and process.pid]
        if group == CONTROL_PLANE:
            yield from ((process.name, _said(f"{process.url}/metrics", secret)) for process in running)
        elif group in services:
            admin = self._admin_urls(group) if running else {}
            for process in running:
                url = admin.get(process.instance, "")
                yield process.name, _said(f"{url}/metrics", secret) if url else 0.0

    def _admin_urls(self, service: str) -> dict[str, str]:
        return {
            str(one["ServiceMeta"].get("instance")): f"http://{one['ServiceAddress']}:{one['ServiceMeta'].get('admin')}"
            for one in self._catalog(f"mcp-{service}")
        }

    def _gate_token_s(self) -> float:
        shown = [str(one["ServiceMeta"].get("token", "")) for one in self._catalog("tekup-gate")]
        return min((float(text) if re.fullmatch(r"\d+\.\d+", text) else 0.0 for text in shown), default=0.0)

    def _catalog(self, service: str) -> list[dict[str, Any]]:
        management = read_token(token_file(self.layout, MANAGEMENT))
        found = self.api.ask("GET", f"/v1/catalog/service/{service}", management)
        return found if isinstance(found, list) else []


def _said(url: str, secret: str) -> float:
    """When the file of the secret in use was written, as a process says; 0 if it does not."""
    try:
        text = httpx.get(url, timeout=CALL_S, trust_env=False).text
    except httpx.HTTPError:
        return 0.0
    found = re.search(rf'^tekup_secret_file_seconds{{secret="{secret}"}} (\S+)$', text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0
