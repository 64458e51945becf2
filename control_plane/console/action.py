"""What every change has in common: shown before it is made, confirmed with a reason, and refused if what it is about
has changed since it was shown."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.responses import Response

from control_plane.console import views
from control_plane.console.backend import Json, Refusal
from control_plane.console.visit import Visit, api

MOST_ATTEMPTS = 8
"""How often a change is asked anew because something else of the policy has changed in between."""
MOST_LISTED = 10
LOOKED_AT = 60
CONFLICT, UNPROCESSABLE, AWAY = 409, 422, 503
Watched = Callable[[Visit], Awaitable[object]]


@dataclass(frozen=True)
class Action:
    """A change that is about to be made.

    Attributes:
        title: What it is, in a few words.
        says: What it does, in a sentence or two.
        button: What stands on the button that does it.
        back: The page to go to afterwards.
        method: Of the call of the API that makes it,
        path: its address,
        body: and what it says beside reason, `expected_revision` and `dry_run`; a DELETE says these in its query.
        watched: What must be as it was shown; the whole revision if None.
        expects: Whether the call takes `expected_revision`.
        danger: Whether it takes something away.
        kept: Fields of the form beside the common ones.
        service: Whose changes are told in a conflict; "" for all.
        compared: What is shown of a change that would be refused.
    """

    title: str
    says: str
    button: str
    back: str
    method: str
    path: str
    body: Json = field(default_factory=dict)
    watched: Watched | None = None
    expects: bool = True
    danger: bool = False
    kept: tuple[tuple[str, str], ...] = ()
    service: str = ""
    compared: Callable[[Visit], Awaitable[list[Json]]] | None = None


async def confirm(visit: Visit, action: Action, problem: str = "", status_code: int = 200) -> Response:
    """The page that shows what a change would do, and asks for a reason."""
    await visit.look()
    seen = await _seen(visit, action)
    refused, answer, compared = "", None, []
    try:
        answer = await _call(visit, action, "preview", dry_run=True)
    except Refusal as refusal:
        refused, compared = refusal.detail, await action.compared(visit) if action.compared else []
    return visit.page(
        "confirm.html",
        status_code,
        action=action,
        answer=answer,
        refused=refused,
        compared=compared,
        problem=problem,
        seen=seen,
        at_s=f"{time.time():.3f}",
        reason=visit.given("reason"),
        before_after=_bars(answer) if answer else None,
    )


async def carry_out(visit: Visit, action: Action) -> Response:
    """Make the change, unless what it is about is otherwise than it was shown."""
    reason = visit.given("reason").strip()
    if not reason:
        return await confirm(visit, action, "Say why, in a few words: it stands in the record.", UNPROCESSABLE)
    for attempt in range(MOST_ATTEMPTS):
        await visit.look()
        if visit.status is None or visit.old:
            raise Refusal(AWAY, "Nothing was changed", visit.why or "the control plane cannot read its store just now")
        if await _seen(visit, action) != visit.given("seen"):
            return await _made_before(visit, action) or await _conflict(visit, action)
        before = visit.revision
        try:
            answer = await _call(visit, action, reason, dry_run=False)
        except Refusal as refusal:
            if refusal.status in (CONFLICT, UNPROCESSABLE) and (made := await _made_before(visit, action)):
                return made
            await visit.look()
            other = visit.revision != before and action.expects
            if refusal.status == CONFLICT and other and attempt < MOST_ATTEMPTS - 1:
                continue  # something else of the policy has moved: look whether this is still as it was shown
            if refusal.status in (CONFLICT, UNPROCESSABLE):
                return await confirm(visit, action, f"Refused: {refusal.detail}", refusal.status)
            raise
        return visit.go(action.back, said(action, answer))
    raise AssertionError("the last attempt returns or raises")


async def _made_before(visit: Visit, action: Action) -> Response | None:
    """On to where the same form led when it was sent before; None: it was not, or nothing came of it."""
    if (answer := await visit.answered()) is None:
        return None
    done = f"{action.title}: done when this form was first sent."
    return visit.go(action.back, said(action, answer) if answer else done)


async def _seen(visit: Visit, action: Action) -> str:
    if action.watched is None:
        return str(visit.revision)
    return views.fingerprint(await action.watched(visit))


async def _call(visit: Visit, action: Action, reason: str, *, dry_run: bool) -> Json:
    once = "" if dry_run else visit.once
    if action.method == "DELETE":
        query = {"reason": reason, "dry_run": str(dry_run).lower()}
        return await visit.ask("DELETE", action.path, query=query, once=once)
    body = {**action.body, "reason": reason, "dry_run": dry_run}
    if action.expects and not dry_run:
        body["expected_revision"] = visit.revision
    return await visit.ask(action.method, action.path, body, once=once)


def said(action: Action, answer: Json) -> str:
    """What became of a change, in a sentence."""
    if not answer["changed"]:
        return f"{action.title}: it was so already, nothing was changed."
    if not answer["in_force"]:
        waiting = ", ".join(answer["waiting_for"])
        return f"{action.title}: written as revision {answer['revision']}, not yet in force on {waiting}."
    if lacking := answer.get("lacking"):
        places = ", ".join(one["prometheus"] for one in lacking)
        return f"{action.title}: written as revision {answer['revision']}, not yet live at {places}."
    return (
        f"{action.title}: done. Revision {answer['revision']} is in force on every gate ({answer['in_force_ms']:g} ms)."
    )


async def _conflict(visit: Visit, action: Action) -> Response:
    since = int(visit.given("revision") or 0)
    versus = views.Versus(since, visit.revision, await _records(visit, action, since), await _events(visit, action))
    return visit.page("conflict.html", CONFLICT, action=action, versus=versus, reason=visit.given("reason"))


async def _records(visit: Visit, action: Action, since: int) -> list[Json]:
    """Changes since a revision that touch what an action is about, the newest first."""
    listed = (await visit.read("/v1/state/history", {"limit": str(LOOKED_AT)}))["records"]
    found: list[Json] = []
    for one in listed:
        if one["revision"] <= since or len(found) == MOST_LISTED:
            break
        whole = await visit.read(api("state", "history", one["revision"]))
        if not action.service or any(change["name"] == action.service for change in whole["changes"]):
            found.append(whole)
    return found


async def _events(visit: Visit, action: Action) -> list[Json]:
    if not action.service:
        return []
    try:
        rollout = await visit.read(api("services", action.service, "rollout"))
        shown = float(visit.given("at") or 0)
    except (Refusal, ValueError):
        return []
    return [event for event in reversed(rollout["events"]) if event["at"] > shown][:MOST_LISTED]


def _bars(answer: Json) -> tuple[list[views.Lane], list[views.Lane]] | None:
    """Where a service's calls go before and after, if that is all that changes."""
    changes = answer["changes"]
    if len(changes) != 1 or "lanes" not in (changes[0]["after"] or {}):
        return None
    before, after = views.lanes(changes[0]["before"]), views.lanes(changes[0]["after"])
    return (before, after) if before != after else None
