"""Changes that meet a standby go on to the leader, once; nothing here ever repeats a change that may have been made."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import httpx
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.errors import NotLeader, Unanswered
from control_plane.loop import IN_FORCE_TIMEOUT_S, ControlPlane
from control_plane.model import Replica
from control_plane.replicas import LEADER_WAIT_S, LOOK_S
from observability.telemetry.traces import outgoing

FORWARDED = "X-Tekup-Forwarded"
"""On a call that a standby sends on: the standby's id. Such a call goes no further."""
REPLICA = "X-Tekup-Replica"
"""On every answer: the id of the replica it comes from."""
IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""On an answer that was given before, to the same call."""
CONNECT_S = 2.0
ANSWER_S = IN_FORCE_TIMEOUT_S + 8.0
"""A verb waits for the gates, and before it for Consul (twice, 3 s at most) and for the verb before it."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
PASSED_ON = ("Authorization", "Content-Type", "If-Match", IDEMPOTENCY_KEY)
PASSED_BACK = ("Content-Type", "Retry-After", "WWW-Authenticate", REPLICA, REPLAYED)
UNKNOWN = (
    "it may or may not have been carried out. To ask again with the same Idempotency-Key tells, and makes nothing"
    " twice. Without one, read it again to see: what is so already is left as it is; only a key would be made twice:"
    " revoke the one whose text nobody has"
)


def leader_client() -> httpx.AsyncClient:
    """A client for calls to leaders.

    It keeps no connection: one that the leader has closed meanwhile would leave it open whether the call arrived.
    """
    return httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=False,
    )


class Forward:
    """Sends on what only the leader may do.

    Args:
        plane: This replica.
        http: See :func:`leader_client`.
        wait_s: How long a change waits for a leader.
    """

    def __init__(self, plane: ControlPlane, http: httpx.AsyncClient, *, wait_s: float = LEADER_WAIT_S) -> None:
        self._plane = plane
        self._http = http
        self._wait_s = wait_s

    async def answer(self, request: Request, body: bytes) -> Response | None:
        """The leader's answer, unchanged.

        Returns:
            None if this replica is the leader, or has become it while looking for one.

        Raises:
            NotLeader: There was no leader in time, or the call was sent on already. Nothing was changed.
            Unanswered: The leader got the call and gave no answer.
        """
        mine = self._plane.leadership.me
        if FORWARDED in request.headers and not self._plane.leadership.elected:
            raise NotLeader(
                f"{mine.replica} is not the leader any more; nothing was changed, ask again in some seconds"
            )
        if (problem := self._plane.leadership.problem) and await self._plane.replicas.leader() is None:
            raise NotLeader(f"nobody leads, and {mine.replica} may not: {problem}. Nothing was changed")
        until_s = time.monotonic() + self._wait_s
        while True:
            leader = await self._plane.replicas.to_ask(until_s)
            if leader == mine:
                return None
            theirs, out_of_time = await self._try(leader, request, body), time.monotonic() > until_s
            if theirs and (out_of_time or not _nothing_done(theirs)):
                return theirs
            if out_of_time:
                raise NotLeader(
                    f"the leader, {leader.replica} at {leader.url}, cannot be reached; nothing was changed, ask again"
                    " in some seconds"
                )
            await asyncio.sleep(LOOK_S)

    async def _try(self, leader: Replica, request: Request, body: bytes) -> Response | None:
        """The leader's answer; None if it takes no connection, so that nothing was sent."""
        try:
            return await self._ask(leader, request, body)
        except NEVER_SENT:
            return None

    async def _ask(self, leader: Replica, request: Request, body: bytes) -> Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        headers |= outgoing() | {FORWARDED: self._plane.leadership.me.replica, "Accept-Encoding": "identity"}
        try:
            async with asyncio.timeout(CONNECT_S + ANSWER_S):
                answer = await self._http.request(
                    request.method, leader.url.rstrip("/") + _as_asked(request), content=body, headers=headers
                )
        except NEVER_SENT:
            raise
        except (httpx.TransportError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise Unanswered(
                f"the leader, {leader.replica} at {leader.url}, took the change and did not answer ({why}): {UNKNOWN}"
            ) from error
        back = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        return Response(answer.content, answer.status_code, headers=back)


def _nothing_done(answer: Response) -> bool:
    """Whether the leader leads no more, as one that was restarted while its former session still stands."""
    return answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers


def _as_asked(request: Request) -> str:
    """Path and query as they came: an id may hold an encoded slash."""
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("ascii")


class Named:
    """Puts the replica's id on each answer that does not carry another's.

    Args:
        app: What answers.
        replica: The id.
    """

    def __init__(self, app: ASGIApp, replica: str) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with one header more."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(REPLICA, self._replica)
            await send(message)

        await self._app(scope, receive, named)
