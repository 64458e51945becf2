"""Receivers as documents, and as Alertmanager's configuration has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from control_plane.errors import Refused
from control_plane.receivers import Receiver, merged

pytestmark = pytest.mark.feature("C10")
HOOK = {"name": "night", "by": "webhook", "url": "http://pager:8080/"}
MAIL = {"name": "mail", "by": "email", "to": "a@b.example", "sender": "c@d.example", "smarthost": "m.example:587"}
TEMPLATE = (Path(__file__).parents[3] / "observability/alertmanager/alertmanager.yml.tmpl").read_text()
BASE = re.sub(r"\$\{\w+\}", "", TEMPLATE)


def receiver(**fields: object) -> Receiver:
    return Receiver.parse(json.dumps(fields), "receiver")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({**HOOK, "url": ""}, "url or url_secret: say one of them"),
        ({**HOOK, "url_secret": "pager"}, "url or url_secret: say one of them"),
        ({**HOOK, "url": "http://user:word@pager/"}, "url: String should match"),
        ({**HOOK, "url": "file:///etc/passwd"}, "url: String should match"),
        ({**HOOK, "url_secret": "../../etc/passwd", "url": ""}, "url_secret: String should match"),
        ({**HOOK, "channel": "#x"}, "channel: not of a receiver by webhook"),
        ({**HOOK, "by": "pigeon"}, "by: Input should be"),
        ({**HOOK, "severities": ["none"]}, "severities.0: Input should be"),
        ({**MAIL, "to": ""}, "to: a receiver by email needs it"),
        ({**MAIL, "to": "a@b.example, x@y.example"}, "to: String should match"),
        ({**MAIL, "user": "u"}, "one is nothing without the other"),
        ({**MAIL, "url": "http://x/"}, "url: not of a receiver by email"),
        ({"name": "c", "by": "slack", "url_secret": "s", "channel": "{{ .X }}"}, "channel: String should match"),
    ],
)
def test_a_receiver_that_makes_no_sense_is_refused_by_the_field(fields: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said.replace(".", r"\.")):
        receiver(**fields)


def test_secrets_are_named_and_never_held() -> None:
    one = receiver(**{**MAIL, "user": "u", "password_secret": "mail"})
    told = one.value("/secrets")["email_configs"][0]
    assert (told["auth_password_file"], one.secrets) == ("/secrets/mail", ("mail",))


def test_another_version_has_another_name_at_alertmanager() -> None:
    assert receiver(**HOOK).called != receiver(**{**HOOK, "services": ["search"]}).called
    assert receiver(**HOOK).called.startswith("operators/night@")


def test_routes_of_operators_stand_below_the_deadmans_switch_and_let_the_platforms_own_hear_all() -> None:
    one = receiver(**{**HOOK, "severities": ["critical"], "services": ["search", "hub"]})
    found = yaml.safe_load(merged(BASE, [one], "/secrets"))
    routes = found["route"]["routes"]
    assert routes[0]["matchers"] == ['alertname="Watchdog"']
    assert [one.get("continue", False) for one in routes] == [False, False, False, True, False]
    assert routes[3]["matchers"] == ['severity=~"critical"', 'service=~"search|hub"']
    assert routes[4]["receiver"] == "pages"
    assert "inhibit_rules" in found


def test_a_test_alert_of_a_receiver_that_is_gone_reaches_nobody() -> None:
    routes = yaml.safe_load(merged(BASE, [], "/secrets"))["route"]["routes"]
    assert [one["receiver"] for one in routes] == ["watchdog", "operators/nobody", "pages"]


def test_a_configuration_that_makes_no_sense_is_named() -> None:
    with pytest.raises(Refused, match="Alertmanager's own configuration makes no sense"):
        merged("route: [", [], "x")
