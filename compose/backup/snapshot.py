"""Consul's own snapshot: everything it holds, at one index of its log, with its access rules and its authority."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from compose.local.consul_acl import MANAGEMENT, read_token, token_file
from compose.local.consul_api import TOKEN_HEADER, BootstrapOver, ConsulApi, ConsulAway, ConsulRefuses
from compose.local.errors import StepFailed, WaitedTooLong

from .site import Site

CALL_S = 60.0
SETTLED_S = 30.0
AGAIN_S = 0.1


def _http(site: Site, url: str) -> httpx.Client:
    token = read_token(token_file(site.layout, MANAGEMENT))
    verify = ssl.create_default_context(cafile=site.ca) if site.ca else True
    return httpx.Client(base_url=url, headers={TOKEN_HEADER: token}, timeout=CALL_S, trust_env=False, verify=verify)


def save(site: Site, url: str, to: Path) -> None:
    """Take a snapshot.

    Raises:
        StepFailed: Consul does not give one.
    """
    try:
        with _http(site, url) as http, http.stream("GET", "/v1/snapshot") as answer, to.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                file.write(chunk)
    except httpx.HTTPError as error:
        raise StepFailed(f"Consul at {url} gave no snapshot: {error or type(error).__name__}") from error


def put_back(site: Site, url: str, snapshot: Path) -> None:
    """Have a new Consul take over a snapshot, access rules and tokens included.

    Raises:
        StepFailed: It does not take it.
        WaitedTooLong: It does not settle.
    """
    management = read_token(token_file(site.layout, MANAGEMENT))
    end = time.monotonic() + SETTLED_S
    with ConsulApi(url, site.ca) as api:
        while True:  # a server that has just begun to lead cannot be bootstrapped yet
            try:
                api.bootstrap(management)
                break
            except BootstrapOver:
                break
            except (ConsulAway, ConsulRefuses) as error:
                if time.monotonic() > end:
                    raise WaitedTooLong(f"the new Consul does not take its management token: {error}") from error
                time.sleep(AGAIN_S)
        try:
            with _http(site, url) as http, snapshot.open("rb") as file:
                http.put("/v1/snapshot", content=file.read()).raise_for_status()
        except httpx.HTTPError as error:
            raise StepFailed(f"Consul at {url} does not take the snapshot: {error or type(error).__name__}") from error
        while not _settled(api, management):
            if time.monotonic() > end:
                raise WaitedTooLong(f"Consul at {url} did not come back after it took the snapshot")
            time.sleep(AGAIN_S)


def _settled(api: ConsulApi, management: str) -> bool:
    try:
        leader = api.ask("GET", "/v1/status/leader", management)
        return bool(leader) and api.own(management) is not None
    except (ConsulAway, ConsulRefuses):
        return False


def revision(site: Site, url: str) -> tuple[int, int]:
    """Epoch and number of the policy that Consul holds.

    Raises:
        StepFailed: It holds none, or does not answer.
    """
    try:
        with _http(site, url) as http:
            answer = http.get("/v1/kv/tekup/policy/revision", params={"raw": "true"})
            answer.raise_for_status()
            found: dict[str, Any] = json.loads(answer.content)
            return int(found["epoch"]), int(found["number"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StepFailed(
            f"Consul at {url} holds no policy that can be read: {error or type(error).__name__}"
        ) from error


def datacenter(site: Site, url: str) -> str:
    """Consul's datacenter.

    Raises:
        StepFailed: It does not answer.
    """
    try:
        with _http(site, url) as http:
            found = http.get("/v1/agent/self").raise_for_status().json()
            return str(found["Config"]["Datacenter"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"Consul at {url} does not say its datacenter: {type(error).__name__}") from error
