"""The changes the console offers: each one a call of the API, in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from control_plane.console.action import UNPROCESSABLE, Action, carry_out, confirm
from control_plane.console.alerts import LONGEST_SILENCE_S, Alert
from control_plane.console.backend import Json, Refusal
from control_plane.console.visit import Visit, api, at

Made = Callable[[Visit], Awaitable[Action]]
WEIGHT = "weight:"
BAD, NOT_FOUND = 400, 404
MOST_LABELS = 20
LONGEST_REASON = 500
LEAST_SILENCE_S = 60


def offered(made: Made) -> tuple[Callable[[Visit], Awaitable[Response]], Callable[[Visit], Awaitable[Response]]]:
    """The two pages of a change: what it would do, and doing it."""

    async def show(visit: Visit) -> Response:
        return await confirm(visit, await made(visit))

    async def do(visit: Visit) -> Response:
        return await carry_out(visit, await made(visit))

    return show, do


async def traffic(visit: Visit) -> Action:
    """Shift a service's traffic by hand."""
    name = visit.named("service")
    given = visit.form or {key: [value] for key, value in visit.request.query_params.items()}
    texts = {key.removeprefix(WEIGHT): values[0] for key, values in given.items() if key.startswith(WEIGHT)}
    weights = {version: _weight(version, text) for version, text in texts.items()}
    listed = ", ".join(f"{version} {weight:g} %" for version, weight in weights.items())

    async def watched(visit: Visit) -> object:
        return (await visit.read(api("services", name)))["policy"]

    return Action(
        title=f"Shift traffic of {name}",
        says=f"{listed or 'Nothing'}; what is missing to 100 % goes to the stable version.",
        button="Shift traffic",
        back=at("services", name),
        method="PUT",
        path=api("services", name, "traffic"),
        body={"weights_pct": weights},
        watched=watched,
        kept=tuple((f"{WEIGHT}{version}", f"{weight:g}") for version, weight in weights.items()),
        service=name,
    )


def _weight(version: str, text: str) -> float:
    try:
        weight = float(text or 0)
    except ValueError:
        weight = float("nan")
    if not 0 <= weight <= 100:
        raise Refusal(BAD, "Nothing was changed", f"the weight of {version} is {text!r}; it must be a number, 0 to 100")
    return weight


@dataclass(frozen=True)
class Verb:
    """A verb on a rollout, in words.

    Attributes:
        phases: When it is offered.
        about: Fields of the rollout that must be as they were shown.
    """

    button: str
    says: str
    phases: tuple[str, ...]
    about: tuple[str, ...] = ("number", "phase", "step")
    body: tuple[tuple[str, bool], ...] = ()
    verb: str = ""
    danger: bool = False
    expects: bool = True


_MOVING = ("preparing", "shifting", "baking", "waiting_for_approval")
_AT_STEP = ("shifting", "baking", "waiting_for_approval", "paused")
VERBS = {
    "promote": Verb("Promote", "Agrees, or ends the present step now, without waiting for its verdict.", _AT_STEP),
    "promote-full": Verb(
        "Promote fully",
        "Gives the canary all calls now, without the steps that are left.",
        _AT_STEP, verb="promote", body=(("full", True),), danger=True,
    ),
    "pause": Verb("Pause", "Holds the rollout where it is. A canary that fails is still rolled back.", _MOVING),
    "resume": Verb("Resume", "Goes on after a pause.", ("paused",)),
    # An abort wins over whatever else happens to the rollout meanwhile.
    "abort": Verb(
        "Abort",
        "Gives the stable version all calls at once and ends the rollout.",
        (*_MOVING, "paused", "promoting", "keeping_warm"), about=("number",), danger=True, expects=False,
    ),
    "undo": Verb(
        "Undo",
        "Flips back to the version before this rollout, in one step.",
        ("keeping_warm", "succeeded"), danger=True, expects=False, about=("number",),
    ),
    "retry": Verb("Retry", "Begins the same rollout once more.", ("rolled_back", "failed"), about=("number", "phase")),
}  # fmt: skip


def verbs(rollout: Json | None) -> list[tuple[str, Verb]]:
    """Those that make sense for a rollout now."""
    return [(name, verb) for name, verb in VERBS.items() if rollout and rollout["phase"] in verb.phases]


async def steer(visit: Visit) -> Action:
    """A verb on a service's rollout."""
    name, word = visit.named("service"), visit.named("verb")
    if word not in VERBS:
        raise Refusal(NOT_FOUND, "Not found", f"there is no verb {word} of rollouts")
    verb = VERBS[word]

    async def watched(visit: Visit) -> object:
        rollout = await visit.read(api("services", name, "rollout"))
        return [rollout[one] for one in verb.about]

    rollout = await visit.read(api("services", name, "rollout"))
    return Action(
        title=f"{verb.button} rollout {name} {rollout['stable']} → {rollout['canary']}",
        says=verb.says,
        button=verb.button,
        back=at("services", name, "rollout"),
        method="POST",
        path=api("services", name, "rollout", verb.verb or word),
        body=dict(verb.body),
        watched=watched,
        expects=verb.expects,
        danger=verb.danger,
        service=name,
    )


async def start(visit: Visit) -> Action:
    """Begin a rollout."""
    name, version, strategy = visit.named("service"), visit.given("version"), visit.given("strategy")
    body: Json = {"version": version} | ({"strategy": strategy} if strategy else {})

    async def watched(visit: Visit) -> object:
        policy = (await visit.read(api("services", name)))["policy"]
        try:
            rollout = await visit.read(api("services", name, "rollout"))
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return [policy]
        return [policy, rollout["number"], rollout["ended"]]

    how = strategy or "as the service's delivery says"
    return Action(
        title=f"Start a rollout of {name} to {version}",
        says=f"Contract and probes are checked first; then the new version gets calls ({how}). It goes back by itself"
             " if its calls go wrong.",
        button="Start rollout",
        back=at("services", name, "rollout"),
        method="POST",
        path=api("services", name, "rollout"),
        body=body,
        watched=watched,
        kept=(("version", version), ("strategy", strategy)),
        service=name,
    )  # fmt: skip


async def revoke(visit: Visit) -> Action:
    """Revoke a key."""
    key, client = visit.named("key"), visit.named("client")
    found = {one["id"]: one for one in (await visit.read(api("clients", client)))["keys"]}.get(key)
    if found is None:
        raise Refusal(NOT_FOUND, "Not found", f"client {client} has no key {key}")

    async def watched(_: Visit) -> object:
        return key  # revoked is revoked, whoever was first

    label = f" ({found['label']})" if found["label"] else ""
    return Action(
        title=f"Revoke key {key}{label} of {client}",
        says="Every gate refuses it from then on. That cannot be taken back: its owner needs a new key.",
        button="Revoke key",
        back=at("clients", client),
        method="DELETE",
        path=api("keys", key),
        watched=watched,
        danger=True,
    )


async def rollback(visit: Visit) -> Action:
    """Go back to an earlier revision."""
    number = visit.named("revision")
    if not (number.isascii() and number.isdecimal() and len(number) <= 12):
        raise Refusal(NOT_FOUND, "Not found", f"{number!r} is no revision")

    async def compared(visit: Visit) -> list[Json]:
        then = await visit.read("/v1/state/resources", {"revision": number})
        asked = {"resources": then["resources"], "prune": True}
        found: list[Json] = (await visit.ask("POST", "/v1/state/diff", asked))["changes"]
        return found

    return Action(
        title=f"Roll back to revision {int(number)}",
        says="Makes a new revision with the services, clients and deliveries of that one. Keys never come back, and"
             " revoked ones stay revoked.",
        button="Roll back",
        back=at("history"),
        method="POST",
        path="/v1/state/rollback",
        body={"to": int(number)},
        danger=True,
        compared=compared,
    )  # fmt: skip


async def silence_form(visit: Visit) -> Response:
    """What a silence would cover, and for how long and why."""
    labels = _labels(visit)
    covered = await _covered(visit, labels)
    return visit.page("silence.html", labels=labels, covered=covered, problem="", hours=visit.given("hours", "2"),
                      reason=visit.given("reason"))  # fmt: skip


async def silence(visit: Visit) -> Response:
    """Keep alerts quiet for a while."""
    labels, reason, hours = _labels(visit), visit.given("reason").strip(), visit.given("hours")
    lasts_s = float(hours) * 3600 if hours.replace(".", "", 1).isdecimal() else 0.0
    problem = "" if reason else "Say why, in a few words: it stands in the silence."
    if not 0 < lasts_s <= LONGEST_SILENCE_S:
        problem = f"A silence lasts between a moment and {LONGEST_SILENCE_S // 86_400} days, not {hours!r} hours."
    if problem:
        covered = await _covered(visit, labels)
        return visit.page("silence.html", UNPROCESSABLE, labels=labels, covered=covered, problem=problem, hours=hours,
                          reason=reason)  # fmt: skip
    matchers: list[Json] = [{"name": name, "value": value} for name, value in labels.items()]
    for_s = max(LEAST_SILENCE_S, round(lasts_s))
    wanted: Json = {"matchers": matchers, "for_s": for_s, "reason": reason[:LONGEST_REASON]}
    await visit.ask("POST", "/v1/silences", wanted, once=visit.once)
    what = ", ".join(f"{name}={value}" for name, value in labels.items())
    return visit.go(at("alerts"), f"Silenced {what} for {hours} hours.")


async def expire(visit: Visit) -> Response:
    """End a silence."""
    silence_id = visit.named("silence")
    if not silence_id.replace("-", "").isalnum() or len(silence_id) > 64:
        raise Refusal(NOT_FOUND, "Not found", "there is no such silence")
    query = {"reason": "by hand, in the console"}
    await visit.ask("DELETE", api("silences", silence_id), query=query, once=f"console-end-{silence_id}")
    return visit.go(at("alerts"), "The silence has ended.")


async def _covered(visit: Visit, labels: dict[str, str]) -> list[Alert]:
    _, found = await asyncio.gather(visit.look(), visit.desk.alerts.look())
    return [one for one in found.alerts if labels.items() <= one.labels.items()]


def _labels(visit: Visit) -> dict[str, str]:
    """What alerts must carry, `name=value` each.

    Raises:
        Refusal: None, or something else.
    """
    given = visit.form.get("label") or visit.request.query_params.getlist("label")
    pairs = [text.partition("=") for text in given]
    if not pairs or len(pairs) > MOST_LABELS or not all(name.isidentifier() and value for name, _, value in pairs):
        raise Refusal(BAD, "No silence was made", "a silence needs labels, each as name=value")
    return {name: value for name, _, value in pairs}
