"""Silences, by Alertmanager's own API (v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.errors import Forbidden, NotFound, Refused, Unavailable

TIMEOUT_S = 5.0


class Matcher(BaseModel):
    """What an alert's label has to be."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$")]
    value: Annotated[str, StringConstraints(max_length=500)]
    isRegex: bool = False
    isEqual: bool = True


SIGNS = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}


def matcher_said(one: Mapping[str, Any]) -> str:
    """A matcher as people write it.

    Args:
        one: As Alertmanager and our API show it.
    """
    return f"{one['name']}{SIGNS[one.get('isEqual', True), one['isRegex']]}{one['value']}"


class Silence(BaseModel):
    """A silence as Alertmanager shows it."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_s: float
    ends_s: float
    author: str
    reason: str
    state: Literal["active", "pending", "expired"]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Silence:
        """From Alertmanager's answer."""
        return cls(
            id=raw["id"],
            matchers=raw["matchers"],
            starts_s=datetime.fromisoformat(raw["startsAt"]).timestamp(),
            ends_s=datetime.fromisoformat(raw["endsAt"]).timestamp(),
            author=raw["createdBy"],
            reason=raw["comment"],
            state=raw["status"]["state"],
        )


class Wanted(BaseModel):
    """A silence to make."""

    matchers: Annotated[tuple[Matcher, ...], Field(min_length=1, max_length=20)]
    starts_s: float
    ends_s: float
    author: str
    reason: str


def refuse_others(services: Sequence[str], matchers: Sequence[Matcher]) -> None:
    """Refuse a silence that is not of some services' alerts alone.

    Args:
        services: Those; none = it may be about anything.
        matchers: The silence's.

    Raises:
        Forbidden: No matcher binds it to one of them.
    """
    own = (one for one in matchers if one.name == "service" and one.isEqual and not one.isRegex)
    if services and not any(one.value in services for one in own):
        raise Forbidden(f"your token is for {', '.join(services)} alone; name one of them: service={services[0]}")


class Alertmanager:
    """One Alertmanager; those of a cluster tell each other.

    Args:
        url: Its base URL, "" where there is none.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def silences(self) -> tuple[Silence, ...]:
        """All that are not over, those that end first at the top.

        Raises:
            Unavailable: It does not answer.
        """
        found = (Silence.of(raw) for raw in await self._ask("GET", "/silences"))
        return tuple(sorted((one for one in found if one.state != "expired"), key=lambda one: (one.ends_s, one.id)))

    async def one(self, silence: str) -> Silence:
        """One silence, by its id or how that begins.

        Raises:
            NotFound: There is none of that id.
            Refused: There are several.
        """
        found = [one for one in await self.silences() if one.id.startswith(silence)]
        if not found:
            raise NotFound(f"silence {silence} does not exist, or is over; see `tekup silence list`")
        if len(found) > 1:
            raise Refused(f"{len(found)} silences begin with {silence}; name more of its id: {found[0].id}")
        return found[0]

    async def add(self, wanted: Wanted) -> str:
        """Make a silence; returns its id.

        Raises:
            Refused: Alertmanager does not take it.
        """
        body = {
            "matchers": [one.model_dump() for one in wanted.matchers],
            "startsAt": _moment(wanted.starts_s),
            "endsAt": _moment(wanted.ends_s),
            "createdBy": wanted.author,
            "comment": wanted.reason,
        }
        return str((await self._ask("POST", "/silences", body))["silenceID"])

    async def expire(self, silence: str) -> None:
        """End a silence now."""
        await self._ask("DELETE", f"/silence/{silence}")

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        if not self._url:
            raise Refused("this control plane knows no Alertmanager; name it by MCP_ALERTMANAGER_URL")
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
                answer = await http.request(method, f"{self._url}/api/v2{path}", json=body)
            if answer.is_client_error:
                raise Refused(f"Alertmanager refuses it: {answer.text[:300]}")
            return answer.raise_for_status().json() if answer.content else None
        except (httpx.HTTPError, ValueError, ValidationError, LookupError) as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"Alertmanager at {self._url} does not answer: {why}") from error


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
