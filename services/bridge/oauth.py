"""Who a bridge is for a remote server that wants an OAuth token: a client by itself, or somebody whose tokens it keeps.

The SDK's client finds the authorization server, asks and renews; here is where secrets come from and where tokens stay.
Credentials go to the declared issuer alone: where the remote server names another, the connection fails.
"""

import json
import logging
import os
import tempfile
from pathlib import Path

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthTokenError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.utils import issuers_match
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import ValidationError

from services.bridge.declaration import BadDeclaration, Declaration, OAuthClient, read_text

__all__ = ["authorization"]

# It logs each failure with where it was raised; why is said with the connection's end.
logging.getLogger("mcp.client.auth.oauth2").setLevel(logging.CRITICAL)


def authorization(declaration: Declaration) -> httpx2.Auth | None:
    """What puts a token on each request to a remote server; None where none is declared.

    Raises:
        BadDeclaration: The secret or the tokens cannot be read.
    """
    asked = declaration.oauth
    if asked is None:
        return None
    secret = read_text(asked.secret_file).strip() if asked.secret_file else None
    if asked.token_file is not None:
        kept = _Kept(asked.token_file)
        kept.read()
        return _Renewing(declaration.url, asked, secret, kept)
    return ClientCredentialsOAuthProvider(
        declaration.url, _Held(), asked.client_id, secret or "", scope=asked.scope or None, issuer=asked.issuer
    )


class _Held:
    """Tokens of one connection, in memory."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """The client is declared, not registered."""


class _Kept(_Held):
    """Tokens in a file, whose form is the answer of a token endpoint; what is renewed is written back."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def read(self) -> OAuthToken:
        """What the file holds now.

        Raises:
            BadDeclaration: It cannot be read, or holds no tokens.
        """
        try:
            return OAuthToken.model_validate_json(read_text(self._path))
        except ValidationError:  # without its text, which would repeat a token
            raise BadDeclaration(f"{self._path} holds no tokens: it must be what a token endpoint answers") from None

    async def get_tokens(self) -> OAuthToken | None:
        return self.read()

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.write(tokens)

    def write(self, tokens: OAuthToken) -> None:
        """Put tokens into the file; whoever reads it meanwhile finds the old ones, whole."""
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=".", delete=False) as written:
            json.dump(tokens.model_dump(mode="json", exclude_none=True), written)
            written.flush()
            os.fsync(written.fileno())
        Path(written.name).replace(self._path)


class _Renewing(OAuthClientProvider):
    """Somebody's tokens: there is nobody here who could sign in again, so they are renewed or the connection fails."""

    def __init__(self, url: str, asked: OAuthClient, secret: str | None, kept: _Kept) -> None:
        method = "client_secret_basic" if secret else "none"
        metadata = OAuthClientMetadata(
            redirect_uris=None, grant_types=["refresh_token"], token_endpoint_auth_method=method,
            scope=asked.scope or None,
        )  # fmt: skip
        super().__init__(url, metadata, kept, None, None)
        self._kept, self._token_file = kept, asked.token_file
        self._client = OAuthClientInformationFull(
            redirect_uris=None, client_id=asked.client_id, client_secret=secret, grant_types=["refresh_token"],
            token_endpoint_auth_method=method, issuer=asked.issuer,
        )  # fmt: skip

    async def _initialize(self) -> None:
        await super()._initialize()
        self.context.client_info = self._client

    def _select_authorization_server(self, advertised: list[str]) -> str:
        ours = str(self._client.issuer)
        return next((server for server in advertised if issuers_match(server, ours)), advertised[0])

    def _expected_issuer(self) -> str:
        expected, ours = super()._expected_issuer(), str(self._client.issuer)
        if not issuers_match(expected, ours):
            raise OAuthFlowError(f"the remote server names {expected} for authorization, and {ours} is declared")
        return expected

    async def _perform_authorization(self) -> httpx2.Request:
        """Renew: by now the authorization server is found."""
        self.context.current_tokens = self._kept.read()  # another instance may have renewed them
        if self.context.current_tokens.refresh_token is None:
            raise OAuthTokenError(f"the tokens in {self._token_file} are refused, and there is none to renew them by")
        return await self._refresh_token()

    async def _handle_token_response(self, response: httpx2.Response) -> None:
        if not await self._handle_refresh_response(response):
            raise OAuthTokenError(f"the tokens in {self._token_file} cannot be renewed (HTTP {response.status_code})")
