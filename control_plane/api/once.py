"""`Idempotency-Key` on changes: what one is, and what of a request is held against it.

After https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/: a structured string; the bare text
that many clients send is taken as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from control_plane.api.forward import IDEMPOTENCY_KEY, REPLAYED
from control_plane.once import ASKED, Answer, Call, Once
from control_plane.roles import Operator

KEY = re.compile(r'"([\x21\x23-\x5b\x5d-\x7e]{1,128})"|([\x21\x23-\x5b\x5d-\x7e]{1,128})')


def call_of(request: Request, raw: bytes, operator: Operator) -> Call | None:
    """The call that a request makes under a key; None where it has none.

    Raises:
        HTTPException: 400, the key is none.
    """
    given = request.headers.get(IDEMPOTENCY_KEY)
    if given is None:
        return None
    found = KEY.fullmatch(given.strip())
    if found is None:
        raise HTTPException(
            400,
            f"{IDEMPOTENCY_KEY}: {given[:40]!r} is none; send 1 to 128 signs without blanks in quotes, such as a UUID",
        )
    path = request.scope.get("raw_path") or request.url.path.encode()
    whole = [request.method, path.decode("latin-1"), request.scope["query_string"].decode("latin-1")]
    whole += [request.headers.get("if-match", ""), raw.decode("latin-1")]
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    return Call(operator.name, bearer, found[1] or found[2], json.dumps(whole).encode())


async def once(book: Once, call: Call | None, carried_out: Callable[[], Awaitable[Response]]) -> Response:
    """Carry a call out, or answer as it was answered before.

    Args:
        book: What is remembered.
        call: See :func:`call_of`; None: it is carried out whatever was before.
        carried_out: Does it; raises nothing that the caller wants answered.

    Raises:
        TekupError: See :meth:`control_plane.once.Once.begin`.
    """
    if call is None:
        return await carried_out()
    if before := await book.begin(call):
        return Response(before.body, before.status, {REPLAYED: "true"}, "application/json")
    token = ASKED.set(call.name)
    try:
        answer = await carried_out()
    except BaseException:
        book.leave(call)
        raise
    finally:
        ASKED.reset(token)
    if answer.status_code >= 500 and "Retry-After" not in answer.headers:
        book.leave(call)  # it may have been carried out
    else:
        await book.end(call, Answer(answer.status_code, bytes(answer.body)))
    return answer
