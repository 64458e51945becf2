"""The CLI's side of the HTTP API: where it is, how to ask, and what its answers mean as exit codes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import httpx

from compose.local.errors import LocalError, NotRunning
from compose.local.exits import Exit
from compose.local.layout import Layout
from compose.local.ports import chosen_ports
from compose.local.settings import load, named_ports, replica_ports

TIMEOUT_S = 34.0
"""12 s for a leader to be elected, then 18 s for its answer; see `control_plane.api.forward`."""
CONNECT_S = 3.0
AGAIN_S = (0.5, 1.0, 2.0)
"""Pauses after which a change whose answer was lost is asked for again, under its Idempotency-Key."""
IDEMPOTENCY_KEY = "Idempotency-Key"
READ_S = 8.0
"""For a reading, where there is another replica to ask."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
Json = dict[str, object]


class ApiRefused(LocalError):
    """The API said no; nothing was changed."""

    exit_code = Exit.USAGE


class ApiFailed(LocalError):
    """The API could not do it now."""

    exit_code = Exit.FAILED


class Unknown(ApiFailed):
    """A change went out and no answer came back; nobody here knows whether it was carried out."""


class Api:
    """The control plane's API, at the first of its replicas that answers.

    Args:
        urls: Where they listen.
        token: The operator token.
    """

    def __init__(self, urls: Sequence[str], token: str) -> None:
        self._urls = urls
        self._http = httpx.Client(headers={"Authorization": f"Bearer {token}"})

    @classmethod
    def here(cls) -> Api:
        """The API named by ``MCP_CONTROL_PLANE_URL`` and ``MCP_OPERATOR_TOKEN_FILE``, else that of this directory.

        ``MCP_CONTROL_PLANE_URL`` may be several, with commas between.

        Raises:
            NotRunning: Neither is there.
        """
        layout = Layout(Path.cwd())
        given = os.environ.get("MCP_CONTROL_PLANE_URL", "")
        urls = [url.strip().rstrip("/") for url in given.split(",") if url.strip()]
        token_file = Path(os.environ.get("MCP_OPERATOR_TOKEN_FILE", "") or layout.operator_token)
        try:
            token = token_file.read_text().strip()
        except OSError as error:
            raise NotRunning(
                f"no operator token at {token_file}; run `tekup up` in this directory first, or name another"
                " control plane by MCP_CONTROL_PLANE_URL and MCP_OPERATOR_TOKEN_FILE"
            ) from error
        return cls(urls or _local_urls(layout), token)

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        params: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Json:
        """Send one request; a change whose answer is lost is asked for again, and never made twice.

        Returns:
            The answer's JSON object.

        Raises:
            NotRunning: Nobody listens.
            ApiRefused: It was wrong (4xx), with the API's reason.
            ApiFailed: It could not be done now (5xx), or nobody knows whether it was.
        """
        once = {} if method == "GET" else {IDEMPOTENCY_KEY: f'"{uuid.uuid4()}"'}
        lost: Unknown | None = None
        for pause_s in (*AGAIN_S, None):
            try:
                return self._asked(method, path, body, params, once, timeout_s)
            except Unknown as error:
                lost = error
            except NotRunning:
                if lost is None:
                    raise
            if pause_s is not None:
                time.sleep(pause_s)
        raise lost or AssertionError("an attempt returns or raises")

    def _asked(
        self,
        method: str,
        path: str,
        body: Json | None,
        params: dict[str, str] | None,
        headers: dict[str, str],
        timeout_s: float,
    ) -> Json:
        refusal, problem = None, None
        for url in self._urls:
            try:
                timeout = self._timeout(method, timeout_s)
                answer = self._http.request(
                    method, url + path, json=body, params=params, headers=headers, timeout=timeout
                )
            except httpx.TransportError as error:
                if method != "GET" and not isinstance(error, NOT_SENT):
                    raise _unknown(url, error) from error
                problem = error
                continue
            if not _ask_the_next(method, answer):
                return _told(answer)
            refusal = answer
        if refusal:
            return _told(refusal)
        where = ", ".join(self._urls)
        raise NotRunning(f"the control plane at {where} does not answer; see `tekup status`") from problem

    def _timeout(self, method: str, timeout_s: float) -> httpx.Timeout:
        again_elsewhere = method == "GET" and len(self._urls) > 1
        return httpx.Timeout(READ_S if again_elsewhere else timeout_s, connect=CONNECT_S)


def _ask_the_next(method: str, answer: httpx.Response) -> bool:
    """Whether a replica can do nothing for us and has done nothing: another may be better off, as with Consul away."""
    unavailable = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    # with this header it says that nothing was changed (docs/contracts.md)
    return unavailable and (method == "GET" or "Retry-After" in answer.headers)


def _told(answer: httpx.Response) -> Json:
    if answer.is_success:
        return cast("Json", answer.json())
    if answer.status_code == httpx.codes.BAD_GATEWAY or _under_way(answer):
        raise Unknown(_detail(answer))
    refused = answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS
    raise (ApiRefused if refused else ApiFailed)(_detail(answer))


def _under_way(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.CONFLICT and "Retry-After" in answer.headers


def _unknown(url: str, error: httpx.TransportError) -> Unknown:
    return Unknown(
        f"the control plane at {url} took the change and did not answer ({str(error) or type(error).__name__}): it may"
        " or may not have been carried out, and asking again under its Idempotency-Key did not tell. Read it again to"
        " see; to ask again is safe, but for a key, which would be made twice"
    )


def _local_urls(layout: Layout) -> list[str]:
    settings = load(layout).settings
    names = replica_ports(settings).values()
    ports = chosen_ports({**dict.fromkeys(names, 0), **named_ports(settings)}, layout.ports)
    return [f"http://127.0.0.1:{ports[name]}" for name in names]


def _detail(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the control plane answered {answer.status_code}: {answer.text[:200]}"
