"""Alerts that fire, from Alertmanager or else from Prometheus. Silences are the API's to tell."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

ANSWER_S = 3.0
MOST = 500
MOST_BYTES = 8 << 20
LONGEST_SILENCE_S = 30 * 86_400
ORDER = {"critical": 0, "page": 0, "warning": 1, "ticket": 1}
Json = dict[str, Any]


class AlertsAway(Exception):
    """Who knows of alerts does not answer, or said no."""


@dataclass(frozen=True)
class Alert:
    """One that fires or is about to.

    Attributes:
        since: In seconds since the epoch.
        silenced: Ids of the silences that keep it quiet.
        runbook: Where to read on; "" for nowhere.
    """

    labels: dict[str, str]
    state: str
    since: float
    summary: str
    description: str
    runbook: str
    silenced: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.labels.get("alertname", "alert")

    @property
    def severity(self) -> str:
        """How bad it is."""
        return self.labels.get("severity", "")

    @property
    def fires(self) -> bool:
        """Whether it is more than about to."""
        return self.state != "pending"


@dataclass(frozen=True)
class Found:
    """Everything there is to say.

    Attributes:
        problem: Why it is not known; "" if it is.
    """

    alerts: tuple[Alert, ...] = ()
    problem: str = ""

    def by_service(self) -> Counter[str]:
        """How many fire and are not silenced, by the service they are about."""
        loud = (one for one in self.alerts if one.fires and not one.silenced)
        return Counter(one.labels.get("service", "") for one in loud)


class Alerts:
    """Asks who knows.

    Args:
        http: Asks.
        alertmanager_url: Its base URL, "" for none.
        prometheus_url: The same of Prometheus, which is asked where there is no Alertmanager.
    """

    def __init__(self, http: httpx.AsyncClient, alertmanager_url: str = "", prometheus_url: str = "") -> None:
        self._http = http
        self._alertmanager = alertmanager_url.rstrip("/")
        self._prometheus = prometheus_url.rstrip("/")

    @property
    def known(self) -> bool:
        """Whether anybody can be asked."""
        return bool(self._alertmanager or self._prometheus)

    @property
    def can_silence(self) -> bool:
        """Whether there is an Alertmanager."""
        return bool(self._alertmanager)

    async def look(self) -> Found:
        """What fires now, the worst first; says why if that is not known, and never fails."""
        if not self.known:
            return Found()
        try:
            alerts = await self._alerts()
        except AlertsAway as error:
            return Found(problem=str(error))
        alerts.sort(key=lambda one: (bool(one.silenced), not one.fires, ORDER.get(one.severity, 2), -one.since))
        return Found(tuple(alerts[:MOST]))

    async def _alerts(self) -> list[Alert]:
        if self._alertmanager:
            return [_managed(one) for one in await self._get(f"{self._alertmanager}/api/v2/alerts")]
        answer = await self._get(f"{self._prometheus}/api/v1/alerts")
        return [_evaluated(one) for one in answer["data"]["alerts"]]

    async def _get(self, url: str) -> Any:
        try:
            answer = await self._http.get(url, timeout=ANSWER_S)
            if not answer.is_success or len(answer.content) > MOST_BYTES:
                raise AlertsAway(f"{url} answered {answer.status_code}: {answer.text[:200]}")
            return answer.json()
        except httpx.HTTPError as error:
            raise AlertsAway(f"{url} does not answer: {str(error) or type(error).__name__}") from error
        except ValueError as error:
            raise AlertsAway(f"{url} answered with something else than JSON") from error


def _managed(one: Json) -> Alert:
    status = one["status"]
    return _alert(one, status["state"], one["startsAt"], tuple(status["silencedBy"]))


def _evaluated(one: Json) -> Alert:
    return _alert(one, one["state"], one["activeAt"], ())


def _alert(one: Json, state: str, since: str, silenced: tuple[str, ...]) -> Alert:
    notes = {str(name): str(value) for name, value in one["annotations"].items()}
    labels = {str(name): str(value) for name, value in one["labels"].items()}
    summary = notes.get("summary", labels.get("alertname", ""))
    runbook = notes.get("runbook_url", notes.get("runbook", ""))
    return Alert(labels, state, _seconds(since), summary, notes.get("description", ""), runbook, silenced)


def _seconds(text: str) -> float:
    """Of RFC 3339, which Go writes with up to nine digits of a second."""
    whole, dot, rest = text.partition(".")
    fraction = rest.rstrip("Zz")
    for sign in "+-":
        fraction = fraction.partition(sign)[0]
    zone = rest[len(fraction) :] if dot else ""
    return dt.datetime.fromisoformat((whole + zone).replace("Z", "+00:00").replace("z", "+00:00")).timestamp()
