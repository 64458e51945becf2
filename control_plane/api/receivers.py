"""Routes of receivers: who is told of which alerts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from control_plane.api.bodies import Body, Done, DryRun, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.model import Table, compact_json
from control_plane.page import found
from control_plane.receivers import Receiver, Telling
from control_plane.roles import Role

Health = Annotated[
    str, Field(description="How Alertmanager has it: `live`, `older`, `not loaded`, or why that is not known.")
]


class NewReceiver(Telling):
    """A receiver to add, or to put in the place of the one of its name."""

    replace: Annotated[bool, Field(description="Put it in the place of one that differs.")] = False
    reason: Reason
    dry_run: DryRun = False


class TestWish(Body):
    """A test message."""

    __test__ = False

    reason: Reason
    dry_run: DryRun = False


class ReceiverShown(Body):
    """A receiver."""

    receiver: Receiver
    health: Health


class Receivers(Body):
    """All receivers."""

    revision: int
    receivers: tuple[ReceiverShown, ...]


class ReceiverDone(Done):
    """What became of a receiver."""

    health: Health


class Tested(Body):
    """What became of a test message."""

    delivered: Annotated[bool, Field(description="Whoever is told has taken it.")]
    why: Annotated[str, Field(description="What is known where it did not arrive.")] = ""
    dry_run: bool = False


async def receivers(ask: Asked) -> Receivers:
    """Every receiver of operators, and how Alertmanager has it."""
    page = await ask.plane.page()
    known = page.all(Table.RECEIVERS, Receiver)
    health = await ask.plane.receivers.live(list(known.values()))
    return Receivers(
        revision=page.revision.number,
        receivers=tuple(ReceiverShown(receiver=one, health=health[name]) for name, one in known.items()),
    )


async def receiver(ask: Asked) -> ReceiverShown:
    """One receiver."""
    one = await _named(ask)
    return ReceiverShown(receiver=one, health=(await ask.plane.receivers.live([one]))[one.name])


async def _named(ask: Asked) -> Receiver:
    name = ask.path["receiver"]
    return found((await ask.plane.page()).find(Table.RECEIVERS, name, Receiver), f"receiver {name}")


async def put_receiver(ask: Asked) -> ReceiverDone:
    """Add a receiver, or put it in the place of another; ends when Alertmanager has it."""
    body = ask.read(NewReceiver)
    fields = body.model_dump(mode="json", exclude={"replace", "reason", "dry_run"}, exclude_unset=True)
    name = ask.path["receiver"]
    wanted = Receiver.parse(compact_json({**fields, "name": name}), f"receiver {name}")
    done = Done.of(
        await ask.plane.receivers.put(wanted, ask.wish(body.reason, dry_run=body.dry_run), add=not body.replace)
    )
    health = "" if body.dry_run else await ask.plane.receivers.until_live(wanted)
    return ReceiverDone(**dict(done), health=health)


async def remove_receiver(ask: Asked) -> Done:
    """Remove a receiver."""
    return Done.of(await ask.plane.receivers.remove(ask.path["receiver"], ask.wish()))


async def test_receiver(ask: Asked) -> Tested:
    """Send a receiver a message that nobody else gets, and say whether it arrived."""
    body, one = ask.read(TestWish), await _named(ask)
    if body.dry_run:
        return Tested(delivered=False, dry_run=True)
    told = await ask.plane.receivers.test(one, ask.operator.name)
    return Tested(delivered=told.delivered, why=told.why)


ALL, ONE = "/v1/receivers", "/v1/receivers/{receiver}"
RECEIVER = (Table.RECEIVERS, "receiver")
RECEIVER_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", ALL, "Operators' receivers of alerts", receivers, Receivers),
    ApiRoute("GET", ONE, "One receiver", receiver, ReceiverShown, about=RECEIVER),
    ApiRoute("PUT", ONE, "Add or replace a receiver", put_receiver, ReceiverDone, NewReceiver, about=RECEIVER),
    ApiRoute("DELETE", ONE, "Remove a receiver", remove_receiver, Done, about=RECEIVER),
    ApiRoute(
        "POST", ONE + "/test", "Send a receiver a test message", test_receiver, Tested, TestWish, needs=Role.OPERATOR
    ),
)
