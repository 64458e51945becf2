"""Consul's API for access: tokens, policies and the gossip key, as the management token may use them.

Everything that goes wrong comes out as `ConsulAway` (ask again) or `ConsulRefuses` (asking again is in vain). No
message holds a secret: Consul's own name accessors, and requests are named by their path alone.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from .errors import LocalError

CALL_S = 5.0
TOKEN_HEADER = "X-Consul-Token"  # noqa: S105 (a header's name)
NO_LONGER = re.compile(r"bootstrap no longer allowed \(reset index: (\d+)\)")


def token_header(path: str | Path) -> dict[str, str]:
    """The header that shows Consul the token in a file; none where there is no file, or none is named."""
    try:
        token = Path(path).read_text(encoding="ascii").strip() if path else ""
    except OSError:
        token = ""
    return {TOKEN_HEADER: token} if token else {}


class ConsulAway(LocalError):
    """Consul does not answer, or cannot answer yet."""


class ConsulRefuses(LocalError):
    """Consul answered no."""


class BootstrapOver(ConsulRefuses):
    """Somebody has bootstrapped the ACLs with another token.

    Attributes:
        reset_index: what a reset file has to hold.
    """

    def __init__(self, reset_index: str) -> None:
        super().__init__(f"the ACLs were bootstrapped with another management token (reset index {reset_index})")
        self.reset_index = reset_index


class ConsulApi:
    """One Consul agent; a context manager.

    Args:
        url: its HTTP API.
        ca_file: whom to trust, for `https`; None for the machine's own authorities.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        # no proxy from the environment: tokens must not travel elsewhere
        verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=CALL_S, trust_env=False, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def bootstrap(self, secret: str) -> None:
        """Make this secret the first management token.

        Raises:
            BootstrapOver: there is another one already.
        """
        try:
            self.ask("PUT", "/v1/acl/bootstrap", "", {"BootstrapSecret": secret})
        except ConsulRefuses as error:
            over = NO_LONGER.search(str(error))
            if over:
                raise BootstrapOver(over.group(1)) from error
            raise

    def own(self, token: str) -> Mapping[str, Any] | None:
        """What Consul knows of a token, told by that token itself; None if it does not know it."""
        try:
            return self._mapping("GET", "/v1/acl/token/self", token)
        except ConsulRefuses:
            return None

    def policy(self, name: str, token: str) -> Mapping[str, Any] | None:
        """A policy by name, None if there is none."""
        found = self.ask("GET", f"/v1/acl/policy/name/{name}", token, missing=True)
        return found if isinstance(found, dict) else None

    def tokens(self, token: str) -> list[dict[str, Any]]:
        """All tokens."""
        found = self.ask("GET", "/v1/acl/tokens", token)
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def ask(self, method: str, path: str, token: str, body: object = None, *, missing: bool = False) -> object:
        """One request.

        Args:
            method: of HTTP.
            path: with its query.
            token: the secret to ask with, "" for none.
            body: sent as JSON.
            missing: answer None for what is not there, instead of an error.

        Returns:
            The answer's JSON; None if it has none.

        Raises:
            ConsulAway: no answer, or one that says to wait.
            ConsulRefuses: it said no.
        """
        headers = {TOKEN_HEADER: token} if token else {}
        try:
            answer = self._http.request(method, path, headers=headers, json=body)
        except httpx.TransportError as error:
            raise ConsulAway(f"Consul at {self._url} cannot be reached: {error or type(error).__name__}") from error
        if missing and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_success:
            return answer.json() if answer.content.strip() else None
        said = f"Consul at {self._url} answered {method} {path}: {answer.status_code} {answer.text.strip()[:300]}"
        raise (ConsulAway if answer.is_server_error else ConsulRefuses)(said)

    def _mapping(self, method: str, path: str, token: str) -> Mapping[str, Any]:
        found = self.ask(method, path, token)
        return found if isinstance(found, dict) else {}
