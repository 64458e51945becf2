"""The engine behind its socket, asked about the containers of one project; it is never told to do anything.

Source: Docker Engine API v1.41, `GET /containers/json`, `/containers/{id}/json`, `/containers/{id}/stats`, `/events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Self

import httpx

__all__ = ["PROJECT", "SERVICE", "TOGETHER", "About", "Engine"]

API = "/v1.41"
ANSWER_S = 4.0
"""Less than Prometheus waits (5 s): late numbers would be none."""
TOGETHER = 8
SERVICE = "com.docker.compose.service"
PROJECT = "com.docker.compose.project"
About = Mapping[str, Any]


class Engine:
    """The engine; a context manager.

    Args:
        socket: Its path.
        project: The Compose project.
    """

    def __init__(self, socket: str, project: str) -> None:
        self._project = f"{PROJECT}={project}"
        transport = httpx.HTTPTransport(uds=socket, limits=httpx.Limits(max_connections=TOGETHER))
        self._http = httpx.Client(transport=transport, base_url=f"http://engine{API}", timeout=ANSWER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def running(self, *labels: str) -> list[About]:
        """The project's running containers that have all of these labels.

        Raises:
            httpx.HTTPError: The engine does not answer.
        """
        filters = json.dumps({"label": [self._project, *labels]})
        found: list[About] = self._http.get("/containers/json", params={"filters": filters}).raise_for_status().json()
        return found

    def stats(self, identifier: str) -> About:
        """What a container uses; empty if it has ended in between."""
        return self._told(f"/containers/{identifier}/stats", stream="false", **{"one-shot": "true"})

    def process(self, identifier: str) -> int:
        """The process a container began with, as the machine numbers it; 0 if it has ended in between."""
        return int(self._told(f"/containers/{identifier}/json").get("State", {}).get("Pid", 0))

    def starts(self) -> Iterator[None]:
        """Once at first, as soon as nothing can be missed any more, then whenever a container of the project starts.

        Raises:
            httpx.HTTPError: The engine does not answer, or has ended.
        """
        filters = json.dumps({"type": ["container"], "event": ["start"], "label": [self._project]})
        unhurried = httpx.Timeout(ANSWER_S, read=None)
        with self._http.stream("GET", "/events", params={"filters": filters}, timeout=unhurried) as events:
            events.raise_for_status()
            yield
            for _ in events.iter_lines():
                yield

    def _told(self, path: str, **asked: str) -> About:
        answer = self._http.get(path, params=asked)
        found: About = answer.json() if answer.is_success else {}
        return found
