"""Reads how many instances the control plane wants, for the supervisor, which can start and stop them.

The last decision stands as long as nobody makes another: while Consul or the control plane is away nothing happens.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from .consul_api import token_header
from .log import log

KEY = "tekup/state/autoscale/"
WAIT_S = 30
AGAIN_S = 1.0
NOW_S = 3.0
Numbers = Mapping[tuple[str, str], int]
"""How many instances of a service and version there should be."""


class _Version(BaseModel):
    version: str
    wanted: int


class _Scaling(BaseModel):
    """One document, as far as it concerns whoever acts (docs/contracts.md, "Autoscaling", "Deployments")."""

    service: str
    dry_run: bool
    versions: tuple[_Version, ...]


class _Entry(BaseModel):
    Value: str | None


_ENTRIES = TypeAdapter(list[_Entry])


def numbers_of(raw: bytes) -> dict[tuple[str, str], int]:
    """What Consul's answer asks for; a document that makes no sense asks for nothing."""
    wanted: dict[tuple[str, str], int] = {}
    for entry in _ENTRIES.validate_json(raw):
        try:
            scaling = _Scaling.model_validate_json(base64.b64decode(entry.Value or ""))
        except (ValidationError, binascii.Error) as error:
            log("autoscaling ignored", problem=type(error).__name__)
            continue
        if not scaling.dry_run:
            wanted |= {(scaling.service, one.version): one.wanted for one in scaling.versions}
    return wanted


async def numbers_now(http: httpx.AsyncClient, url: str, token: Path) -> Numbers:
    """What is wanted now.

    Args:
        http: asks Consul.
        url: Consul's.
        token: the file of a token that may read it.

    Raises:
        httpx.HTTPError, OSError, ValueError: it is not known.
    """
    query = {"recurse": "true", "consistent": ""}
    answer = await http.get(f"{url}/v1/kv/{KEY}", params=query, headers=token_header(token), timeout=NOW_S)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return {}
    return numbers_of(answer.raise_for_status().content)


async def follow(
    http: httpx.AsyncClient, url: str, token: Path, act: Callable[[Numbers], None], key: str = KEY
) -> None:
    """Tell of each change of what is wanted, for ever.

    Args:
        http: asks Consul.
        url: Consul's.
        token: the file of a token that may read it.
        act: told all that is wanted, at first and after each change.
        key: where the documents lie.
    """
    index, before = 0, ""
    while True:
        query: dict[str, str | int] = {"recurse": "true", "index": index, "wait": f"{WAIT_S}s"}
        problem = ""
        try:
            answer = await http.get(f"{url}/v1/kv/{key}", params=query, headers=token_header(token), timeout=2 * WAIT_S)
            if answer.status_code not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
                problem = f"Consul answered {answer.status_code}"
            else:
                after = int(answer.headers.get("X-Consul-Index", "0"))
                index = after if after >= index else 0
                act(numbers_of(answer.content) if answer.is_success else {})
        except (httpx.HTTPError, ValidationError, ValueError, OSError) as error:
            problem = type(error).__name__
        if problem:
            index = 0
            await asyncio.sleep(AGAIN_S)
        if problem != before and problem:
            log("autoscaling not read", problem=problem)
        before = problem
