"""A real authorization server (`tests/oauth`), and people who sign in there by the official SDK's own flow."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import mcp
from jwt.algorithms import get_default_algorithms
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from tests.support.gate import wait_until
from tests.support.mint import Mint
from tests.support.ports import free_port
from tests.support.programs import program

REDIRECT = "http://127.0.0.1:1/back"
MACHINE = {"client_id": "machine", "client_secret": "for tests only"}


class AuthorizationServer:
    """One server, on a port of its own that it keeps over a restart.

    Args:
        folder: Where its configuration and log lie.
        scopes: What it may grant.
        ttl_s: How long its tokens live.
    """

    def __init__(self, folder: Path, scopes: list[str], ttl_s: int = 600) -> None:
        self._folder = folder
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._settings = {"port": self.port, "issuer": self.issuer, "scopes": scopes, "ttl_s": ttl_s}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *mints: Mint) -> None:
        """Start it with these keys, of which it signs with the first, and wait until it answers."""
        keys = [_private(mint) for mint in mints or (Mint(),)]
        grants = {"grant_types": ["client_credentials"], "response_types": [], "redirect_uris": []}
        config = {**self._settings, "jwks": {"keys": keys}, "clients": [{**MACHINE, **grants}]}
        path = self._folder / "authorization.json"
        path.write_text(json.dumps(config))
        with (self._folder / "authorization.log").open("ab") as log:
            command = [program("oidc-provider"), str(path)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, f"authorization server up; see {self._folder}/authorization.log", 30)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.issuer}/jwks", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def deny(self, *scopes: str) -> None:
        """From now on the people who are asked leave these scopes out."""
        url = f"{self.issuer}/test/deny"
        httpx.put(url, json={"scopes": scopes}, timeout=5, trust_env=False).raise_for_status()

    def machine_token(self, resource: str, scope: str = "mcp:ledger") -> str:
        """A token of the client that acts for nobody."""
        asked = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        auth = (MACHINE["client_id"], MACHINE["client_secret"])
        answer = httpx.post(f"{self.issuer}/token", data=asked, auth=auth, timeout=5, trust_env=False)
        assert answer.is_success, answer.text
        return str(answer.json()["access_token"])


def _private(mint: Mint) -> dict[str, object]:
    jwk: dict[str, object] = json.loads(get_default_algorithms()[mint.alg].to_jwk(mint.key))
    return {**{name: jwk[name] for name in jwk if name != "key_ops"}, "kid": mint.kid, "alg": mint.alg, "use": "sig"}


@dataclass
class Person:
    """Somebody at a client that nobody registered beforehand; signs in without a page.

    Attributes:
        name: Their account.
        asked: The scopes of each time they were asked.
    """

    name: str = "alice"
    asked: list[str] = field(default_factory=list)
    tokens: OAuthToken | None = None
    registered: OAuthClientInformationFull | None = None
    _came_back: str = ""

    async def get_tokens(self) -> OAuthToken | None:
        """See the SDK's `TokenStorage`."""
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """See the SDK's `TokenStorage`."""
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """See the SDK's `TokenStorage`."""
        return self.registered

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """See the SDK's `TokenStorage`."""
        self.registered = client_info

    async def visit(self, url: str) -> None:
        """Follow the authorization server's redirects until it sends the browser back to the client."""
        self.asked.append(parse_qs(urlsplit(url).query).get("scope", [""])[0])
        where = f"{url}&login_hint={self.name}"
        async with httpx.AsyncClient(timeout=10, trust_env=False) as browser:
            for _ in range(10):
                answer = await browser.get(where)
                assert answer.is_redirect, f"{where}: {answer.status_code} {answer.text}"
                where = str(answer.next_request.url) if answer.next_request else ""
                if where.startswith(REDIRECT):
                    self._came_back = where
                    return
        raise AssertionError(f"{self.name} was sent about without end; last to {where}")

    async def back(self) -> AuthorizationCodeResult:
        """What the browser brought back."""
        said = {name: values[0] for name, values in parse_qs(urlsplit(self._came_back).query).items()}
        assert "code" in said, said
        return AuthorizationCodeResult(code=said["code"], state=said.get("state"), iss=said.get("iss"))

    def auth(self, url: str) -> OAuthClientProvider:
        """The SDK's OAuth client for an endpoint."""
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(REDIRECT)],
            client_name="desktop",
            token_endpoint_auth_method="none",
        )
        return OAuthClientProvider(url, metadata, self, redirect_handler=self.visit, callback_handler=self.back)

    @property
    def token(self) -> str:
        """The access token they have."""
        assert self.tokens
        return self.tokens.access_token


@asynccontextmanager
async def signed_in(url: str, person: Person, mode: str) -> AsyncIterator[mcp.Client]:
    """A connected client of the SDK's whose person signs in when asked to.

    Args:
        url: The endpoint.
        person: Who.
        mode: An era, as in `tests.support.sdk.ERAS`.
    """
    async with (
        httpx2.AsyncClient(auth=person.auth(url), timeout=60, follow_redirects=True) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client
