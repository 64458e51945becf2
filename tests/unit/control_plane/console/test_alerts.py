"""Alerts as Alertmanager and Prometheus give them; whoever is away is named, and costs nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from control_plane.alertmanager import matcher_said
from control_plane.console.alerts import Alerts

pytestmark = pytest.mark.feature("C14")
Json = dict[str, Any]
SINCE = "2026-11-26T12:00:00.123456789Z"
PENDING: Json = {"labels": {"alertname": "Slow", "service": "search"}, "annotations": {"summary": "slow"},
                 "state": "pending", "activeAt": SINCE, "value": "1"}  # fmt: skip
FIRING: Json = {
    **PENDING,
    "state": "firing",
    "labels": {"alertname": "Down", "service": "ledger", "severity": "critical"},
}
MANAGED: Json = {"labels": FIRING["labels"], "annotations": {}, "startsAt": SINCE,
                 "status": {"state": "suppressed", "silencedBy": ["s1"], "inhibitedBy": []}}  # fmt: skip
SILENCE: Json = {"id": "s1", "status": {"state": "active"}, "createdBy": "ada", "comment": "known", "endsAt": SINCE,
                 "matchers": [{"name": "alertname", "value": "Down", "isRegex": False, "isEqual": True}]}  # fmt: skip


def asked(answers: dict[str, Any], **urls: str) -> Alerts:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        return httpx.Response(500, text="out of order") if found is None else httpx.Response(200, json=found)

    return Alerts(httpx.AsyncClient(transport=httpx.MockTransport(answer)), **urls)


async def test_of_prometheus_those_that_fire_stand_first_and_count() -> None:
    answers = {"/api/v1/alerts": {"status": "success", "data": {"alerts": [PENDING, FIRING]}}}
    found = await asked(answers, prometheus_url="http://prometheus.test").look()
    assert [(one.name, one.fires) for one in found.alerts] == [("Down", True), ("Slow", False)]
    assert dict(found.by_service()) == {"ledger": 1}


async def test_what_is_silenced_is_shown_and_does_not_count() -> None:
    answers = {"/api/v2/alerts": [MANAGED], "/api/v2/silences": [SILENCE]}
    found = await asked(answers, alertmanager_url="http://alertmanager.test/").look()
    assert [one.silenced for one in found.alerts] == [("s1",)]
    assert matcher_said(SILENCE["matchers"][0]) == "alertname=Down"
    assert not found.by_service()


async def test_who_does_not_answer_well_is_named() -> None:
    found = await asked({}, alertmanager_url="http://alertmanager.test").look()
    assert "http://alertmanager.test/api/v2/alerts answered 500: out of order" in found.problem


async def test_with_nobody_to_ask_nothing_is_known_and_nothing_wrong() -> None:
    alerts = asked({})
    assert not alerts.known
    assert (await alerts.look()).problem == ""
