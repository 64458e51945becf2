"""The CLI's side of the HTTP API: where it is, how to ask, and what its answers mean as exit codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import httpx

from compose.local.errors import LocalError, NotRunning
from compose.local.exits import Exit
from compose.local.layout import Layout
from compose.local.ports import chosen_ports
from compose.local.settings import load, named_ports

TIMEOUT_S = 15.0
Json = dict[str, object]


class ApiRefused(LocalError):
    """The API said no; nothing was changed."""

    exit_code = Exit.USAGE


class ApiFailed(LocalError):
    """The API could not do it now."""

    exit_code = Exit.FAILED


class Api:
    """The control plane's API.

    Args:
        url: Where it listens.
        token: The operator token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {token}"})

    @classmethod
    def here(cls) -> Api:
        """The API named by ``MCP_CONTROL_PLANE_URL`` and ``MCP_OPERATOR_TOKEN_FILE``, else that of this directory.

        Raises:
            NotRunning: Neither is there.
        """
        layout = Layout(Path.cwd())
        url = os.environ.get("MCP_CONTROL_PLANE_URL", "")
        token_file = Path(os.environ.get("MCP_OPERATOR_TOKEN_FILE", "") or layout.operator_token)
        try:
            token = token_file.read_text().strip()
        except OSError as error:
            raise NotRunning(
                f"no operator token at {token_file}; run `tekup up` in this directory first, or name another"
                " control plane by MCP_CONTROL_PLANE_URL and MCP_OPERATOR_TOKEN_FILE"
            ) from error
        return cls(url or _local_url(layout), token)

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        params: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Json:
        """Send one request.

        Returns:
            The answer's JSON object.

        Raises:
            NotRunning: Nobody listens.
            ApiRefused: It was wrong (4xx), with the API's reason.
            ApiFailed: It could not be done now (5xx).
        """
        try:
            answer = self._http.request(method, path, json=body, params=params, timeout=timeout_s)
        except httpx.TransportError as error:
            raise NotRunning(f"the control plane at {self._url} does not answer; see `tekup status`") from error
        if answer.is_success:
            return cast("Json", answer.json())
        refused = answer.is_client_error
        raise (ApiRefused if refused else ApiFailed)(_detail(answer))


def _local_url(layout: Layout) -> str:
    ports = chosen_ports(named_ports(load(layout).settings), layout.ports)
    return f"http://127.0.0.1:{ports['MCP_CONTROL_PLANE_PORT']}"


def _detail(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the control plane answered {answer.status_code}: {answer.text[:200]}"
