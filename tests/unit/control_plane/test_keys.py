"""What becomes of keys over time."""

import pytest

from control_plane.errors import Refused
from control_plane.keys import DAY_S, KeyState, Uses, ending, notes_on, rotated, state_of, successors, to_rotate
from control_plane.model import Key

NOW_S = 1_000 * DAY_S
pytestmark = pytest.mark.feature("A5")


def key(key_id: str = "k1", client: str = "ci", **fields: int) -> Key:
    return Key(id=key_id, client=client, hash="0" * 64, **{"created": NOW_S - 200 * DAY_S, **fields})


def days(count: float) -> int:
    return int(NOW_S + count * DAY_S)


def test_a_rotated_key_goes_on_for_the_overlap_and_its_successor_has_its_label_and_life() -> None:
    old = key(expires=days(100)).model_copy(update={"label": "laptop"})
    made = rotated(old, 7 * DAY_S, NOW_S)
    assert (made.old.id, made.old.expires, made.old.revoked, made.old_ended) == ("k1", days(7), 0, days(100))
    fresh = made.new.document
    assert (fresh.client, fresh.label, fresh.expires) == ("ci", "laptop", days(300))
    assert fresh.id != "k1"


def test_an_overlap_never_makes_a_key_last_longer() -> None:
    assert rotated(key(expires=days(2)), 7 * DAY_S, NOW_S).old.expires == days(2)


def test_no_overlap_revokes_and_no_end_stays_none() -> None:
    made = rotated(key(), 0, NOW_S)
    assert (made.old.revoked, made.new.document.expires) == (NOW_S, 0)
    assert rotated(key(), 60, NOW_S, expires_s=days(90)).new.document.expires == days(90)


@pytest.mark.parametrize("fields", [{"revoked": 5}, {"expires": NOW_S}])
def test_a_key_that_is_no_good_is_neither_rotated_nor_given_another_end(fields: dict[str, int]) -> None:
    for verb in (
        lambda: rotated(key().model_copy(update=fields), 60, NOW_S),
        lambda: ending(key().model_copy(update=fields), 0, NOW_S),
    ):
        with pytest.raises(Refused, match=r"key k1 is (revoked|expired); make a new one: tekup keys create ci"):
            verb()


def test_an_end_in_the_past_is_refused() -> None:
    with pytest.raises(Refused, match="lies in the past; `tekup keys revoke k1` ends a key at once"):
        ending(key(), NOW_S, NOW_S)
    assert ending(key(expires=days(1)), 0, NOW_S).expires == 0


def test_a_client_stands_for_its_one_good_key() -> None:
    known = {one.id: one for one in (key(), key("k2", revoked=5), key("k3", "other"), key("k4", "other"))}
    assert to_rotate(known, "ci", NOW_S) == known["k1"]
    assert to_rotate(known, "nobody", NOW_S) is None
    with pytest.raises(Refused, match="client other has 2 good keys: k3, k4; name the one"):
        to_rotate(known, "other", NOW_S)
    with pytest.raises(Refused, match="client ci has no good key"):
        to_rotate({"k2": known["k2"]}, "ci", NOW_S)


def test_a_key_is_good_until_its_end() -> None:
    assert state_of(key(expires=NOW_S + 1), NOW_S) is KeyState.GOOD
    assert state_of(key(expires=NOW_S), NOW_S) is KeyState.EXPIRED
    assert state_of(key(expires=NOW_S, revoked=1), NOW_S) is KeyState.REVOKED


SINCE = days(-100)


@pytest.mark.parametrize(
    ("fields", "uses", "said"),
    [
        ({"expires": days(13)}, Uses(), ["key k1 ends in 13 days; rotate it: tekup keys rotate k1"]),
        ({"expires": days(0.5)}, Uses(), ["key k1 ends in less than a day; rotate it: tekup keys rotate k1"]),
        ({"expires": days(15)}, Uses(), []),
        ({"expires": days(-1)}, Uses(since=SINCE), []),
        ({"revoked": 1}, Uses(since=SINCE), []),
        ({}, Uses(), []),
        ({}, Uses({"k1": days(-89)}, since=SINCE), []),
        (
            {},
            Uses({"k1": days(-95)}, since=SINCE),
            ["key k1 was not used for 95 days; revoke it: tekup keys revoke k1"],
        ),
        ({}, Uses(since=SINCE), ["key k1 was not used for 100 days; revoke it: tekup keys revoke k1"]),
        ({}, Uses(since=days(-80)), []),
        ({"created": days(-10)}, Uses(since=SINCE), []),
        (
            {},
            Uses(since=SINCE, silent=("gate x",)),
            ["key k1 was not used for 100 days as far as is known; revoke it: tekup keys revoke k1"],
        ),
    ],
)
def test_what_its_owner_should_know_of_a_key(fields: dict[str, int], uses: Uses, said: list[str]) -> None:
    assert list(notes_on(key().model_copy(update=fields), None, uses, NOW_S)) == said


def test_a_key_that_ends_names_the_younger_one_of_its_label() -> None:
    old, young = key(expires=days(2)), key("k2", created=NOW_S)
    after = successors([old, young, key("k3", created=NOW_S + 5, revoked=NOW_S + 6)], NOW_S)
    assert after["ci", ""] == young
    assert notes_on(old, young, Uses(), NOW_S) == ("key k1 ends in 2 days; its client has a younger one, k2",)
