"""Asks this replica's own HTTP API, in this process, with the operator's token; a change takes the path of the API.

What was read last is kept: while Consul is away a page shows that and says how old it is, instead of nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
from starlette.types import ASGIApp

from control_plane.api.forward import IDEMPOTENCY_KEY

Json = dict[str, Any]
Query = Mapping[str, str] | None
ANSWER_S = 60.0
"""Of no effect in one process, where the API itself bounds what it waits for."""
MOST_KEPT = 200
MOST_KEPT_BYTES = 8 << 20
AWAY = (502, 503)
CONFLICT = 409
UNDER_WAY = "Under way"
WAIT_S, MOST_WAITS = 0.25, 140
"""A change is answered within half a minute; so often is it looked whether it is."""


class Refusal(Exception):
    """The API said no.

    Attributes:
        status: Of HTTP.
        title: In a few words.
        detail: In a sentence.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


@dataclass(frozen=True)
class Kept:
    """An answer from before."""

    answer: bytes
    at: float


class Backend:
    """The API as pages use it.

    Args:
        api: The application.
        now: Seconds since the epoch.
    """

    def __init__(self, api: ASGIApp, now: Callable[[], float] = time.time) -> None:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://console", timeout=ANSWER_S)
        self._now = now
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._kept_bytes = 0

    async def ask(
        self, token: str, method: str, path: str, body: Json | None = None, query: Query = None, once: str = ""
    ) -> Json:
        """An answer of the API.

        Args:
            token: The operator's.
            method: Of HTTP.
            path: What is asked.
            body: What is said.
            query: What is said in the address.
            once: The key under which a change is made once; what is under way is waited for.

        Raises:
            Refusal: It was none of success.
        """
        for _ in range(MOST_WAITS):
            try:
                return cast("Json", json.loads(await self._answer(token, method, path, body, query, once)))
            except Refusal as refusal:
                if not once or refusal.title != UNDER_WAY:
                    raise
            await asyncio.sleep(WAIT_S)
        raise Refusal(CONFLICT, UNDER_WAY, "the same form was sent before, and is not answered yet; look again")

    async def read(self, token: str, path: str, query: Query = None) -> tuple[Json, float]:
        """What a GET answers, or last answered if the API has nothing to answer with now.

        Returns:
            The answer, and since when it is old: 0 for one of now.

        Raises:
            Refusal: It was none of success, and there was none before.
        """
        asked = str(httpx.URL(path, params=query)) if query else path
        key = (hashlib.sha256(token.encode()).hexdigest(), asked)
        try:
            answer = await self._answer(token, "GET", path, None, query)
        except Refusal as refusal:
            if refusal.status in AWAY and (kept := self._kept.get(key)):
                return cast("Json", json.loads(kept.answer)), kept.at
            raise
        self._keep(key, answer)
        return cast("Json", json.loads(answer)), 0.0

    async def _answer(
        self, token: str, method: str, path: str, body: Json | None, query: Query, once: str = ""
    ) -> bytes:
        headers = {"Authorization": f"Bearer {token}", **({IDEMPOTENCY_KEY: f'"{once}"'} if once else {})}
        answer = await self._http.request(method, path, json=body, params=query, headers=headers)
        if answer.is_success:
            return answer.content
        raise _refusal(answer)

    def _keep(self, key: tuple[str, str], answer: bytes) -> None:
        if old := self._kept.pop(key, None):
            self._kept_bytes -= len(old.answer)
        self._kept[key] = Kept(answer, self._now())
        self._kept_bytes += len(answer)
        while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1].answer)


def _refusal(answer: httpx.Response) -> Refusal:
    try:
        problem = answer.json()
        return Refusal(answer.status_code, str(problem["title"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return Refusal(answer.status_code, "No answer", f"the API answered {answer.status_code} without saying why")
