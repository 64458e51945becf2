"""The other region's control plane, asked over its operators' API with the secret that the two regions share."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx
from pydantic import ValidationError

from control_plane.errors import Refused, Unavailable
from control_plane.region import Side

PATH = "/v1/region/side"
SETTING = "MCP_REGION_SECRET_FILE"
LOOK_S = 2.0
COPY_S = 20.0
MOST_BYTES = 256 << 20
LEAST_SECRET = 32


def region_secret(path: Path | None) -> str:
    """The secret that the two regions share, read afresh: it may be put there while we run.

    Raises:
        Refused: There is none, it is short, or others may read it.
    """
    if path is None:
        raise Refused(f"{SETTING} is not set: name a file with a secret that both regions have")
    try:
        secret, mode = path.read_text().strip(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{SETTING}: {path} cannot be read ({error}); make it in one region, `openssl rand -hex 32`, and bring it"
            " to the other"
        ) from error
    if mode & 0o077:
        raise Refused(f"{SETTING}: {path} may be read by others; chmod 600 it")
    if len(secret) < LEAST_SECRET:
        raise Refused(f"{SETTING}: {path} holds fewer than {LEAST_SECRET} characters; `openssl rand -hex 32` makes one")
    return secret


class Neighbour:
    """Asks the other region.

    Args:
        secret_file: What proves us there, and it to us.
        ca_file: Whom to trust for its certificate; None: whom this machine trusts.
    """

    def __init__(self, secret_file: Path | None = None, ca_file: Path | None = None) -> None:
        self._secret_file = secret_file
        self._ca_file = ca_file

    def secret(self) -> str:
        """See :func:`region_secret`."""
        return region_secret(self._secret_file)

    async def look(self, peer: str) -> Side:
        """What the other region says of itself, without what is copied.

        Raises:
            Refused: The secret is not there, or not theirs.
            Unavailable: It does not answer, or nonsense.
        """
        return await self._ask(peer, {"look": "true"}, LOOK_S)

    async def copy(self, peer: str, stamp: str, after: int) -> Side:
        """The same, with all that was written there since a reading.

        Args:
            peer: Its address.
            stamp: Of that reading; nothing else is told as long as it is the same.
            after: Its index.
        """
        return await self._ask(peer, {"stamp": stamp, "after": str(after)}, COPY_S)

    async def _ask(self, peer: str, query: Mapping[str, str], timeout_s: float) -> Side:
        headers = {"Authorization": f"Bearer {self.secret()}"}
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, LOOK_S))
        try:
            async with (
                httpx.AsyncClient(
                    timeout=timeout, trust_env=False, verify=self._trust(), follow_redirects=False
                ) as http,
                http.stream("GET", peer.rstrip("/") + PATH, params=query, headers=headers) as answer,
            ):
                raw = bytearray()
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > MOST_BYTES:
                        raise Unavailable(f"the region at {peer} tells more than {MOST_BYTES >> 20} MiB")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unavailable(f"the region at {peer} does not answer: {str(error) or type(error).__name__}") from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise Refused(f"the region at {peer} does not know our secret; {SETTING} has to be the same in both")
        if not answer.is_success:
            said = raw[:200].decode(errors="replace")
            raise Unavailable(f"the region at {peer} answered {answer.status_code}: {said}")
        try:
            return Side.model_validate_json(bytes(raw))
        except ValidationError as error:
            raise Unavailable(f"what answers at {peer} is no region's control plane; see its address") from error

    def _trust(self) -> ssl.SSLContext | bool:
        if self._ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self._ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Refused(f"MCP_REGION_CA_FILE: {self._ca_file} is no certificate: {error}") from error
