"""Who is told of which alerts, as operators say: documents, and what becomes of them in Alertmanager's configuration.

Secrets are in no document: each names a file in the folder of secrets beside Alertmanager. Pure values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, StringConstraints, model_validator

from control_plane.errors import Refused
from control_plane.model import Document, Name, ServiceName, Stored

PREFIX = "operators/"
"""Before a receiver's name at Alertmanager, so that none is taken for one of the platform's own."""
TEST_ALERT = "ReceiverTest"
"""The alert that tries a receiver; its label `receiver` says which."""
MOST = 50
PLATFORMS_FIRST = 1
"""Routes of the platform's own that stand above those of operators: the deadman's switch is nobody else's to hear."""
Url = Annotated[str, StringConstraints(pattern=r"^$|^https?://[^\s\"{}@]+$", max_length=500)]
Secret = Annotated[str, StringConstraints(pattern=r"^$|^[a-z0-9][a-z0-9-]{0,62}$")]
"""The name of a file in the folder of secrets; empty for none."""
Mailbox = Annotated[str, StringConstraints(pattern=r"^$|^[^\s,<>\"{}@]+@[A-Za-z0-9.-]+$", max_length=200)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f{}]*$", max_length=200)]
"""No braces: Alertmanager would take them for a template."""


class Way(StrEnum):
    """By which way somebody is told."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    EMAIL = "email"


OF_WAY: Mapping[Way, frozenset[str]] = {
    Way.WEBHOOK: frozenset({"url", "url_secret", "token_secret"}),
    Way.SLACK: frozenset({"url", "url_secret", "channel"}),
    Way.EMAIL: frozenset({"to", "sender", "smarthost", "user", "password_secret", "require_tls"}),
}
"""What can be said of each."""


class Severity(StrEnum):
    """How bad an alert is."""

    CRITICAL = "critical"
    WARNING = "warning"


class Telling(Document):
    """How somebody is told of which alerts.

    Attributes:
        by: How they are told.
        severities: Alerts of these; none = of all.
        services: Alerts of these services; none = of all, and of what belongs to none.
        send_resolved: Whether they are told when it is over.
        url: Of a webhook, or of what understands Slack's (Slack, Mattermost); for all to see.
        url_secret: The same out of a file, for a URL that is a secret.
        token_secret: A bearer that a webhook is shown.
        channel: Of Slack; empty: the webhook's own.
        to: Whom the mail goes to.
        sender: Whom it comes from.
        smarthost: The mail server, host:port.
        user: Who logs in there; empty for nobody.
        password_secret: With which password.
        require_tls: Whether mail is sent by TLS alone.
    """

    by: Way
    severities: Annotated[tuple[Severity, ...], Field(max_length=len(Severity))] = ()
    services: Annotated[tuple[ServiceName, ...], Field(max_length=64)] = ()
    send_resolved: bool = True
    url: Url = ""
    url_secret: Secret = ""
    token_secret: Secret = ""
    channel: Text = ""
    to: Mailbox = ""
    sender: Mailbox = ""
    smarthost: Annotated[str, StringConstraints(pattern=r"^$|^[A-Za-z0-9.-]{1,253}:[0-9]{1,5}$")] = ""
    user: Text = ""
    password_secret: Secret = ""
    require_tls: bool = True

    @model_validator(mode="after")
    def _says_what_it_takes(self) -> Self:
        others = {name for by, names in OF_WAY.items() if by is not self.by for name in names}
        said = {name for name in others - OF_WAY[self.by] if name in self.model_fields_set and getattr(self, name)}
        if strange := sorted(said - {"require_tls"}):
            raise ValueError(f"{', '.join(strange)}: not of a receiver by {self.by}; leave it out")
        if self.by is Way.EMAIL:
            if missing := [name for name in ("to", "sender", "smarthost") if not getattr(self, name)]:
                raise ValueError(f"{', '.join(missing)}: a receiver by email needs it")
            if bool(self.user) != bool(self.password_secret):
                raise ValueError("user and password_secret: one is nothing without the other")
        elif bool(self.url) == bool(self.url_secret):
            raise ValueError("url or url_secret: say one of them, where it is told")
        return self


class Receiver(Telling, Stored):
    """Somebody who is told of alerts.

    Attributes:
        name: Unique among the receivers of operators.
    """

    name: Name

    @property
    def key(self) -> str:
        return self.name

    @property
    def digest(self) -> str:
        """Tells this version of the receiver from every other."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:8]

    @property
    def called(self) -> str:
        """Its name at Alertmanager, which tells its version."""
        return f"{PREFIX}{self.name}@{self.digest}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the files it needs."""
        return tuple(filter(None, (self.url_secret, self.token_secret, self.password_secret)))

    def value(self, secrets: str) -> dict[str, Any]:
        """As it stands in Alertmanager's `receivers`.

        Args:
            secrets: The folder of the secrets.
        """
        return {"name": self.called, f"{self.by.value}_configs": [_CONFIG[self.by](self, secrets)]}

    def routes(self) -> list[dict[str, Any]]:
        """Its routes: the one that tries it, and the one of the alerts it is told of; what is below them goes on."""
        matchers = [_one_of("severity", [one.value for one in self.severities]), _one_of("service", self.services)]
        tried = [f'alertname="{TEST_ALERT}"', f'receiver="{self.name}"']
        now = {"group_wait": "0s", "group_by": ["test"]}
        return [
            {"receiver": self.called, "matchers": tried, **now},
            {"receiver": self.called, "matchers": [one for one in matchers if one], "continue": True},
        ]


def _one_of(label: str, values: Iterable[str]) -> str:
    found = list(values)  # names, none of which means anything to a regular expression
    return f'{label}=~"{"|".join(found)}"' if found else ""


def _webhook(one: Receiver, secrets: str) -> dict[str, Any]:
    told: dict[str, Any] = {"send_resolved": one.send_resolved}
    told |= {"url": one.url} if one.url else {"url_file": f"{secrets}/{one.url_secret}"}
    if one.token_secret:
        told["http_config"] = {"authorization": {"type": "Bearer", "credentials_file": f"{secrets}/{one.token_secret}"}}
    return told


def _slack(one: Receiver, secrets: str) -> dict[str, Any]:
    told: dict[str, Any] = {"send_resolved": one.send_resolved}
    told |= {"api_url": one.url} if one.url else {"api_url_file": f"{secrets}/{one.url_secret}"}
    return told | ({"channel": one.channel} if one.channel else {})


def _email(one: Receiver, secrets: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "send_resolved": one.send_resolved,
        "to": one.to,
        "from": one.sender,
        "smarthost": one.smarthost,
        "require_tls": one.require_tls,
    }
    if one.user:
        told |= {"auth_username": one.user, "auth_password_file": f"{secrets}/{one.password_secret}"}
    return told


_CONFIG = {Way.WEBHOOK: _webhook, Way.SLACK: _slack, Way.EMAIL: _email}


class Delivered(Document):
    """What became of a test message; `why` says what is known where it did not arrive."""

    delivered: bool
    why: str = ""


def merged(base: str, receivers: Iterable[Receiver], secrets: str) -> str:
    """Alertmanager's configuration with operators' receivers in it.

    Args:
        base: The platform's own.
        receivers: Those of operators.
        secrets: The folder of their secrets.

    Raises:
        Refused: The platform's own makes no sense.
    """
    try:
        whole = yaml.safe_load(base)
        route, theirs = dict(whole["route"]), list(whole["receivers"])
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise Refused(f"Alertmanager's own configuration makes no sense: {error}") from error
    ours = sorted(receivers, key=lambda one: one.name)
    own = list(route.get("routes", ()))
    added = [added for one in ours for added in one.routes()]
    # An alert that tries one receiver is nobody else's, whatever becomes of that receiver.
    nobody = {"receiver": f"{PREFIX}nobody", "matchers": [f'alertname="{TEST_ALERT}"']}
    added.append(nobody)
    added.sort(key=lambda one: "continue" in one)
    route["routes"] = [*own[:PLATFORMS_FIRST], *added, *own[PLATFORMS_FIRST:]]
    receivers_ = [*theirs, *(one.value(secrets) for one in ours), {"name": f"{PREFIX}nobody"}]
    return yaml.safe_dump({**whole, "route": route, "receivers": receivers_}, sort_keys=False, allow_unicode=True)
