"""A real Consul with ACLs as an environment has them: our configuration's rules, our policies, a token per role."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Self

import httpx

from compose.local.consul_acl import NODE, ROLES, Role, lay_out, make_tokens, read_token, token_file, write_token
from compose.local.consul_api import TOKEN_HEADER, ConsulApi
from compose.local.consul_config import write_private_config
from compose.local.files import repository
from compose.local.layout import Layout
from tests.support.consul_process import ConsulProcess


class ConsulWithAcls(ConsulProcess):
    """One server that refuses whoever shows no token.

    Args:
        folder: Where everything lies; the tokens as in an environment.
        roles: Those it knows.
        more: Settings of Consul's besides.
    """

    def __init__(self, folder: Path, roles: tuple[Role, ...] = ROLES, **more: Any) -> None:
        self.layout = Layout(folder / "environment")
        self.layout.make_folders()
        self.roles = roles
        make_tokens(self.layout)
        for role in roles:
            if not token_file(self.layout, role.name).exists():
                write_token(token_file(self.layout, role.name), str(uuid.uuid4()))
        write_private_config(self.layout)
        private = json.loads((self.layout.consul_secrets / "agent.json").read_text())
        ours = json.loads((repository() / "consul" / "agent.json").read_text())
        acl = {**ours["acl"], "tokens": private["acl"]["tokens"]}
        (folder / "server").mkdir()
        settings: dict[str, Any] = {"node_name": NODE, "acl": acl, "encrypt": private["encrypt"]}
        settings |= {"telemetry": ours["telemetry"], **more}
        super().__init__(folder / "server", **settings)

    def start(self) -> None:
        """Start, wait for a leader, and introduce every role."""
        super().start()
        with ConsulApi(self.url) as api:
            lay_out(self.layout, api, self.roles)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def token(self, role: str) -> str:
        """A role's token."""
        return read_token(token_file(self.layout, role))

    def ask(self, role: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request as a role, "" for nobody."""
        headers = {TOKEN_HEADER: self.token(role)} if role else {}
        content = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        return httpx.request(method, f"{self.url}{path}", headers=headers, content=content, timeout=10, trust_env=False)
