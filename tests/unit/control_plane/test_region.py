"""What a region does about the other, and what is written of a copy: values alone."""

from __future__ import annotations

import itertools

import pytest

from control_plane.errors import Refused
from control_plane.kept import REVISION_KEY
from control_plane.model import HistoryRecord, Revision, Table
from control_plane.region import (
    LEFT_PREFIX,
    Part,
    Region,
    Side,
    Step,
    copied,
    plan,
    refuse_other_lineage,
    step,
    wanted,
)
from control_plane.signed import table_sum

pytestmark = pytest.mark.feature("F6")
CLAIMS = (Part.HOME, Part.HANDING)


def side(part: Part, epoch: int, number: int = 5, keys: tuple[str, ...] | None = ()) -> Side:
    return Side(part=part, epoch=epoch, number=number, keys=keys)


def record(epoch: int, number: int, reason: str = "test") -> tuple[str, bytes]:
    key = f"tekup/state/history/{epoch:06d}-{number:010d}"
    made = HistoryRecord(number=number, epoch=epoch, at=1, author="a", verb="v", reason=reason, changes=())
    return key, made.to_bytes()


def region(epoch: int, numbers: range, *, reason: str = "test", **services: str) -> dict[str, bytes]:
    """What lies in a region, with its history."""
    documents = {f"tekup/policy/services/{name}": text.encode() for name, text in services.items()}
    sums = {table: table_sum({}) for table in Table}
    sums[Table.SERVICES] = table_sum({name: text.encode() for name, text in services.items()})
    revision = Revision(epoch=epoch, number=numbers[-1], tables=sums)
    history = dict(record(epoch, number, reason) for number in numbers)
    return {**documents, **history, REVISION_KEY: revision.to_bytes()}


@pytest.mark.parametrize(("part", "own", "theirs"), list(itertools.product(CLAIMS, (1, 2, 3), (1, 2, 3))))
def test_of_two_homes_the_one_of_the_earlier_epoch_yields_and_of_one_epoch_both_do(
    part: Part, own: int, theirs: int
) -> None:
    assert step(part, (own, 5), side(Part.HOME, theirs)) is (Step.YIELD if theirs >= own else Step.STAY)


def test_a_home_goes_on_whatever_a_region_says_that_does_not_claim_to_write() -> None:
    for part, other in itertools.product(CLAIMS, (Part.ALONE, Part.FOLLOWER)):
        assert step(part, (1, 5), side(other, 9)) is Step.STAY


def test_a_follower_takes_over_only_once_it_holds_all_of_a_home_that_hands_over() -> None:
    assert step(Part.FOLLOWER, (1, 5), side(Part.HANDING, 1, 6)) is Step.COPY
    assert step(Part.FOLLOWER, (1, 5), side(Part.HANDING, 1, 5)) is Step.COPY, "rollouts may not be here yet"
    assert step(Part.FOLLOWER, (1, 4), side(Part.HANDING, 1, 5, keys=None)) is Step.COPY
    assert step(Part.FOLLOWER, (1, 5), side(Part.HANDING, 1, 5, keys=None)) is Step.TAKE_OVER


def test_a_follower_of_a_follower_says_that_nobody_writes() -> None:
    with pytest.raises(Refused, match="none writes"):
        step(Part.FOLLOWER, (1, 5), side(Part.FOLLOWER, 1))


def test_a_copy_is_the_difference_and_a_second_one_is_empty() -> None:
    here, there = region(1, range(3), search="old"), region(1, range(5), search="new")
    found = plan(here, there)
    assert not found.left
    assert set(found.ahead) == {record(1, 3)[0], record(1, 4)[0]}
    assert set(found.together) == {"tekup/policy/services/search", REVISION_KEY}
    written = {**here, **found.ahead, **found.together}
    assert plan({key: value for key, value in written.items() if value is not None}, there).empty


def test_records_that_the_home_never_had_are_kept_aside_and_those_it_has_compacted_are_not() -> None:
    here, there = region(1, range(6), search="old"), region(1, range(3, 5), search="new")
    there[REVISION_KEY] = (
        Revision.parse(there[REVISION_KEY], "").model_copy(update={"epoch": 2, "number": 5}).to_bytes()
    )
    there |= dict([record(2, 5)])
    found = plan(here, there)
    assert set(found.left) == {f"{LEFT_PREFIX}history/000001-0000000005"}
    assert found.ahead[record(1, 0)[0]] is None, "compacted there, so here as well"


def test_tables_that_do_not_fit_the_revision_are_not_copied() -> None:
    there = region(1, range(3), search="new") | {"tekup/policy/services/search": b"half a change"}
    with pytest.raises(Refused, match="do not fit its revision 2"):
        plan({}, there)


def test_what_is_told_in_part_needs_what_is_here_already() -> None:
    told = Side(part=Part.HOME, epoch=1, number=1, keys=("a", "b"), values={"a": "new"})
    assert wanted({"a": b"old", "b": b"kept", "c": b"gone"}, told) == {"a": b"new", "b": b"kept"}
    with pytest.raises(KeyError):
        wanted({"a": b"old"}, told)


def test_a_policy_is_replaced_only_by_its_own_continuation_or_by_one_of_a_later_epoch() -> None:
    here = region(1, range(4), search="here")
    refuse_other_lineage(here, region(1, range(6), search="there"), (1, 3))
    refuse_other_lineage(here, region(2, range(2), reason="another", search="there"), (1, 3))
    for there, running in (
        (region(1, range(6), reason="another", search="there"), (1, 3)),
        (region(1, range(3), search="there"), (1, 3)),
        (region(2, range(2), reason="another", search="there"), (2, 0)),
    ):
        with pytest.raises(Refused, match="begin a later epoch at the home"):
            refuse_other_lineage(here, there, running)


def test_instances_gates_and_what_a_region_is_are_its_own() -> None:
    own: tuple[str, ...] = (
        "gates/g",
        "leader",
        "replicas/r",
        "state/region",
        "state/region-left/history/x",
        "state/backup",
    )
    own += ("state/pending/change", "state/keys-used/a", "state/autoscale/s")
    assert not [key for key in own if copied(f"tekup/{key}")]
    assert all(copied(table.prefix + "x") for table in Table)


def test_only_what_writes_says_nothing_of_elsewhere() -> None:
    for part in Part:
        told = Region(part=part, peer="http://other:1", author="a", reason="r", at=1)
        assert bool(told.elsewhere) is not part.writes
        assert not told.elsewhere or "http://other:1" in told.elsewhere
