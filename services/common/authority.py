"""Consul's CA and intentions, as an instance with mutual TLS needs them: its certificate, whom to trust, who may call.

Three blocking reads. Everything that can go wrong comes out as a `RegistryError`; nothing else knows their form.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any, Final, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.common.errors import RegistryError
from services.common.tokens import TokenFile

__all__ = ["Authority", "Intention", "Leaf", "Roots", "lets_in"]

# A watch that died silently must not go unnoticed for long.
WAIT_S: Final = 10.0
MARGIN_S: Final = 3.0


class Leaf(BaseModel):
    """A certificate with its key, as Consul's agent makes and renews it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    chain: str = Field(alias="CertPEM")
    key: str = Field(alias="PrivateKeyPEM", repr=False)
    uri: str = Field(alias="ServiceURI")
    ends: datetime = Field(alias="ValidBefore")


class _Root(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    pem: str = Field(alias="RootCert")


class Roots(BaseModel):
    """Whom to trust: the CA's root of now and, after it was changed, those before it for as long as Consul says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    domain: str = Field(alias="TrustDomain")
    roots: tuple[_Root, ...] = Field(alias="Roots", min_length=1)

    @property
    def pem(self) -> str:
        """All of them, one after another."""
        return "\n".join(root.pem for root in self.roots)


class Intention(BaseModel):
    """One line of who may call; `action` is "" where Consul looks at requests, which is no consent here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str = Field(alias="SourceName")
    action: str = Field("", alias="Action")


def lets_in(intentions: Iterable[Intention], name: str) -> bool:
    """Whether `name` may call: the first that fits decides, and if none does, it may not."""
    for one in intentions:
        if one.source in (name, "*"):
            return one.action == "allow"
    return False


@dataclass(frozen=True)
class Answer:
    """What a read brought, and the index to wait beyond next time."""

    index: int
    content: Any = field(repr=False)


_INTENTIONS: Final = TypeAdapter(dict[str, list[Intention] | None])


class Authority:
    """The Consul agent beside this instance; an async context manager.

    Args:
        url: Where the agent is.
        token_file: Holds the token to show it; read again when it is replaced.
        ca_file: Whom to trust besides the machine's own authorities, for `https`.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None) -> None:
        self._url = url
        self._token = TokenFile(token_file)
        self._http = httpx.AsyncClient(
            base_url=url, timeout=WAIT_S * 17 / 16 + MARGIN_S, trust_env=False, verify=_trusting(ca_file)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def leaf(self, name: str, after: int) -> tuple[int, Leaf]:
        """The certificate of `name`.

        Raises:
            RegistryError: It was not given.
        """
        answer = await self._read(f"/v1/agent/connect/ca/leaf/{name}", after)
        return answer.index, self._parsed(lambda: Leaf.model_validate(answer.content))

    async def roots(self, after: int) -> tuple[int, Roots]:
        """Whom to trust.

        Raises:
            RegistryError: Nobody knows.
        """
        answer = await self._read("/v1/agent/connect/ca/roots", after)
        return answer.index, self._parsed(lambda: Roots.model_validate(answer.content))

    async def intentions(self, name: str, after: int) -> tuple[int, tuple[Intention, ...]]:
        """Who may call `name`, the first that fits decides.

        Raises:
            RegistryError: Nobody knows.
        """
        answer = await self._read("/v1/connect/intentions/match", after, {"by": "destination", "name": name})
        found = self._parsed(lambda: _INTENTIONS.validate_python(answer.content))
        return answer.index, tuple(found.get(name) or ())

    async def _read(self, path: str, after: int, params: Mapping[str, str] | None = None) -> Answer:
        asked = {**(params or {}), **({"index": str(after), "wait": f"{WAIT_S:g}s"} if after else {})}
        try:
            answer = await self._http.get(path, params=asked, headers=self._shown())
            answer.raise_for_status()
            return Answer(int(answer.headers.get("x-consul-index", 0)), answer.json())
        except httpx.HTTPStatusError as error:
            said = error.response.text.strip()[:200]
            raise RegistryError(f"Consul at {self._url}{path}: {error.response.status_code} {said}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryError(f"Consul at {self._url}{path}: {type(error).__name__} {error}") from None

    def _shown(self) -> dict[str, str]:
        secret = self._token.current().secret
        return {"x-consul-token": secret} if secret else {}

    def _parsed(self, parse: Any) -> Any:
        try:
            return parse()
        except ValidationError:  # its text could hold a key
            raise RegistryError(f"Consul at {self._url} gave an answer of another form than expected") from None


def _trusting(ca_file: Path | None) -> SSLContext | bool:
    if ca_file is None:
        return True
    context = create_default_context()
    context.load_verify_locations(cafile=ca_file)
    return context
