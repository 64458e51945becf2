"""The form of what lies in Consul: raised step by step by who leads, refused by who does not know it."""

from __future__ import annotations

import pytest

from control_plane.errors import Overtaken, Refused
from control_plane.form import Form, Migration, Raising, form_of, too_new
from control_plane.kept import SCHEMA_KEY
from control_plane.ports import Fence, Write
from tests.support.memory import Memory

FENCE = Fence("tekup/leader", "session")
TWO = Migration("names are in small letters", lambda there: [
    Write(key, value.lower()) for key, value in there.items() if key.startswith("tekup/policy/")])  # fmt: skip
THREE = Migration("nothing", lambda _: [])


async def nobody() -> list[str]:
    return []


def led() -> Memory:
    store = Memory()
    store.put(FENCE.key, b"us", FENCE.session)
    return store


async def value(store: Memory) -> bytes:
    return (await store.read("tekup/policy/a")).entries[""].value


def raising(store: Memory, known: int = 3) -> Raising:
    return Raising(store, lambda: FENCE, "9.9.9", known, {2: TWO, 3: THREE})


async def test_where_nothing_says_so_the_form_is_the_first() -> None:
    assert await form_of(led()) == (Form(version=1), 0)


async def test_a_newer_form_is_told_with_who_made_it_and_an_older_one_is_read() -> None:
    assert too_new(Form(version=1), 2) == ""
    assert "TekUp MCP 9.9.9" in too_new(Form(version=3, platform="9.9.9"), 2)


async def test_raising_goes_through_every_step_and_a_second_time_does_nothing() -> None:
    store = led()
    store.put("tekup/policy/a", b"ANNA")
    raised = await raising(store).carry_out(nobody)
    assert (raised.before, raised.after) == (1, 3)
    assert raised.steps == (TWO.what, THREE.what)
    assert await value(store) == b"anna"
    assert (await form_of(store))[0].version == 3
    assert (await raising(store).carry_out(nobody)).steps == ()


async def test_a_dry_run_and_a_replica_that_is_older_change_nothing() -> None:
    store = led()
    store.put("tekup/policy/a", b"ANNA")

    async def one() -> list[str]:
        return ["control-plane-2"]

    assert (await raising(store).carry_out(one, dry_run=True)).after == 3
    with pytest.raises(Refused, match="control-plane-2"):
        await raising(store).carry_out(one)
    assert await value(store) == b"ANNA"
    assert (await form_of(store))[0].version == 1


async def test_what_was_interrupted_goes_on_where_it_was() -> None:
    store = led()
    await raising(store, known=2).carry_out(nobody)
    store.put("tekup/policy/a", b"ANNA")
    assert (await raising(store).carry_out(nobody)).steps == (THREE.what,)
    assert await value(store) == b"ANNA", "the second step was not taken twice"


async def test_a_later_version_s_own_fields_are_passed_over_and_nonsense_is_refused() -> None:
    store = led()
    store.put(SCHEMA_KEY, b'{"version": 7, "platform": "2.0.0", "since_then": true}')
    assert (await form_of(store))[0].version == 7
    with pytest.raises(Refused):
        await raising(store).carry_out(nobody)
    store.put(SCHEMA_KEY, b"seven")
    with pytest.raises(Refused, match="restore a backup"):
        await form_of(store)


async def test_two_that_raise_at_once_do_not_both_succeed() -> None:
    store = led()

    async def other() -> list[str]:
        await raising(store, known=2).carry_out(nobody)
        return []

    with pytest.raises(Overtaken):
        await raising(store, known=2).carry_out(other)
