"""Who is logged in, in an encrypted cookie: any replica reads it, none keeps a table of sessions.

The cookie holds the operator's token, sealed with a key that follows from a secret all replicas have, so a token that
ends ends its sessions at the next click. A session ends by itself after `IDLE_S` without a click and after `LONGEST_S`
in any case. Who has logged out is known to every replica (:mod:`control_plane.console.ended`); a copy of the cookie is
worth nothing from then on.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from control_plane.console.ended import Ended

COOKIE = "tekup_console"
TOLD = "tekup_console_told"
"""What the next page says of the change just made, sealed as well: nobody else may put words there."""
PATH = "/console"
IDLE_S = 30 * 60
LONGEST_S = 12 * 3600
TOLD_S = 60
RENEW_S = 60
"""A cookie is made anew at a click after so long."""
LONGEST_COOKIE = 4000


@dataclass(frozen=True)
class Session:
    """A login.

    Attributes:
        id: Random; names it among those that were logged out.
        token: The operator's.
        csrf: What each form of it carries.
        began: When, in seconds since the epoch.
        seen: Its last click.
    """

    id: str
    token: str
    csrf: str
    began: float
    seen: float

    def owns(self, csrf: str) -> bool:
        """Whether a form was made for it."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


SESSION = TypeAdapter(Session)


class Sessions:
    """Makes and reads sessions.

    Args:
        secret: What all replicas have, and nobody else.
        now: Seconds since the epoch.
        ended: Who has logged out.
    """

    def __init__(self, secret: str, now: Callable[[], float] = time.time, ended: Ended | None = None) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"tekup console session 1").derive(secret.encode())
        self._box = Fernet(base64.urlsafe_b64encode(derived))
        self._now = now
        self._ended = ended or Ended(now=now)

    def begin(self, token: str) -> Session:
        """A new login."""
        now_s = self._now()
        return Session(secrets.token_urlsafe(16), token, secrets.token_urlsafe(24), now_s, now_s)

    def read(self, request: Request) -> Session | None:
        """The session of a request; None if it has none that is still good."""
        held = self._opened(request.cookies.get(COOKIE, ""), LONGEST_S)
        try:
            session = SESSION.validate_python(held) if held else None
        except ValidationError:  # sealed by another version of us
            return None
        now_s = self._now()
        if session is None or self._ended.has(session.id):
            return None
        return session if now_s - session.seen < IDLE_S and now_s - session.began < LONGEST_S else None

    async def end(self, session: Session) -> None:
        """Log it out, on every replica."""
        # The browser's cookie may be newer than this one, so as long as any of it could be good.
        await self._ended.add(session.id, session.began + LONGEST_S)

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Give the browser the session, with this click as its last."""
        now_s = self._now()
        if now_s - session.seen >= RENEW_S or COOKIE not in request.cookies:
            session = replace(session, seen=now_s)
            self._set(request, response, COOKIE, self._sealed(asdict(session)), IDLE_S)

    def begun(self, request: Request, response: Response, session: Session) -> None:
        """Give the browser a session that has just begun, whatever it had before."""
        self._set(request, response, COOKIE, self._sealed(asdict(session)), IDLE_S)

    def forget(self, response: Response) -> None:
        """Have the browser forget the session."""
        response.delete_cookie(COOKIE, path=PATH)

    def tell(self, request: Request, response: Response, said: str) -> None:
        """Have the next page say something."""
        self._set(request, response, TOLD, self._sealed({"said": said[:1000]}), TOLD_S)

    def told(self, request: Request) -> str:
        """What the last page wanted said; "" for nothing."""
        return str((self._opened(request.cookies.get(TOLD, ""), TOLD_S) or {}).get("said", ""))

    def _sealed(self, what: dict[str, object]) -> str:
        return self._box.encrypt_at_time(json.dumps(what).encode(), int(self._now())).decode()

    def _opened(self, sealed: str, longest_s: int) -> dict[str, object] | None:
        if not sealed or len(sealed) > LONGEST_COOKIE:
            return None
        try:
            held = json.loads(self._box.decrypt_at_time(sealed.encode(), longest_s, int(self._now())))
        except (InvalidToken, ValueError):
            return None
        return held if isinstance(held, dict) else None

    def _set(self, request: Request, response: Response, name: str, value: str, lives_s: int) -> None:
        response.set_cookie(
            name, value, max_age=lives_s, path=PATH, secure=secure(request), httponly=True, samesite="strict"
        )


def secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to the gate before us."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
