"""Passes: who a connection is made for, and which private hosts that client may reach. Pure.

The browser service signs one for each connection with the service's current key, the egress process checks it with all
of them. `<payload>.<tag>`, base64url without padding: the payload is JSON, the tag HMAC-SHA256 of `egress.<payload>`.
"""

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.addresses import HostRule, Policy

__all__ = ["LIFE_S", "Pass", "PassError", "made_pass", "read_pass"]

LIFE_S: Final = 60
_SKEW_S: Final = 30
_VERSION: Final = 1
_PASS_CHARS: Final = 32 << 10


class PassError(ValueError):
    """A pass that does not count; the text says why."""


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    v: int
    client: str
    hosts: list[str]
    expires: int


@dataclass(frozen=True)
class Pass:
    """Who asks.

    Args:
        client: The client's id.
        policy: What it may reach.
    """

    client: str
    policy: Policy


def made_pass(key: bytes, client: str, policy: Policy, now_s: float) -> str:
    """A pass that lasts a minute.

    Args:
        key: The service's current one.
        client: Whom the connection is for.
        policy: What it may reach.
        now_s: Unix seconds.
    """
    hosts = sorted(map(str, policy.allowed))
    payload = _Payload(v=_VERSION, client=client, hosts=hosts, expires=int(now_s) + LIFE_S)
    text = _b64(payload.model_dump_json().encode())
    return f"{text}.{_tag(key, text)}"


def read_pass(keys: tuple[bytes, ...], text: str, now_s: float) -> Pass:
    """What a pass says.

    Raises:
        PassError: None of the keys made it, or it is over.
    """
    payload, _, tag = text.partition(".")
    if len(text) > _PASS_CHARS or not text.isascii():
        raise PassError("it is no pass")
    if not any(hmac.compare_digest(_tag(key, payload).encode(), tag.encode()) for key in keys):
        raise PassError("no key of the service made it")
    try:
        said = _Payload.model_validate(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        hosts = frozenset(map(HostRule.of, said.hosts))
    except (ValidationError, ValueError, binascii.Error) as error:
        raise PassError("it is no pass") from error
    if said.v != _VERSION:
        raise PassError(f"it is of version {said.v}, and {_VERSION} is known here")
    if not now_s - _SKEW_S <= said.expires <= now_s + LIFE_S + _SKEW_S:
        raise PassError("it is over, or the clocks of the browser and the proxy differ")
    return Pass(said.client, Policy(hosts))


def _tag(key: bytes, payload: str) -> str:
    return _b64(hmac.digest(key, f"egress.{payload}".encode(), "sha256"))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
