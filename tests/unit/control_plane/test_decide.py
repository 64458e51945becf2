"""What the verbs make of the policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import decide
from control_plane.errors import Conflict, Refused
from control_plane.model import ClientPolicy, Key, Lane, ServicePolicy

KNOWN = {"1.0.0", "1.1.0", "2.0.0"}


def policy(**weights: float) -> ServicePolicy:
    lanes = tuple(Lane(version=version, weight_pct=weight) for version, weight in weights.items())
    return ServicePolicy(name="filesystem", stable="1.0.0", lanes=lanes)


STEADY = ServicePolicy(name="filesystem", stable="1.0.0", lanes=(Lane(version="1.0.0", weight_pct=100),))


def weights_of(decided: ServicePolicy) -> dict[str, float]:
    return {lane.version: lane.weight_pct for lane in decided.lanes}


@pytest.mark.feature("C3")
def test_what_is_missing_to_100_goes_to_the_stable_version() -> None:
    assert weights_of(decide.set_traffic(STEADY, {"1.1.0": 10}, KNOWN)) == {"1.0.0": 90, "1.1.0": 10}


@pytest.mark.feature("C3")
def test_a_version_that_takes_everything_becomes_stable() -> None:
    decided = decide.set_traffic(STEADY, {"1.1.0": 100}, KNOWN)
    assert (decided.stable, weights_of(decided)) == ("1.1.0", {"1.1.0": 100})


def test_a_service_that_waits_for_a_word_gets_what_one_version_of_it_is_given() -> None:
    admitted = decide.admitted("filesystem", {"1.1.0": 100}, KNOWN)
    assert admitted == decide.first_seen("filesystem", "1.1.0")
    assert decide.admitted("filesystem", {"1.1.0": 100}, set()) is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"1.1.0": 50, "1.0.0": 50}, "it is new here and has no stable version yet; give one version all, VERSION=100"),
        ({"1.1.0": 10}, "it is new here"),
        ({}, "it is new here"),
        ({"3.0.0": 100}, "has no instance of version 3.0.0; versions with instances: 1.0.0, 1.1.0, 2.0.0"),
    ],
)
def test_a_service_that_waits_is_not_let_in_by_halves(weights: dict[str, float], said: str) -> None:
    with pytest.raises(Refused, match=f"^filesystem:? {said}"):
        decide.admitted("filesystem", weights, KNOWN)


def test_setting_what_is_already_so_changes_nothing() -> None:
    assert decide.set_traffic(STEADY, {"1.0.0": 100}, KNOWN) == STEADY


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "no weights given"),
        ({"9.9.9": 10}, "no instance of version 9.9.9; versions with instances: 1.0.0, 1.1.0, 2.0.0"),
        ({"1.0.0": 50, "1.1.0": 40}, "weights sum to 90, not 100"),
        ({"1.1.0": 60, "2.0.0": 60}, "weights sum to 120, not 100"),
        ({"1.1.0": 130}, "must lie between 0 and 100"),
        ({"1.1.0": -10}, "must lie between 0 and 100"),
        ({"1.1.0": 50, "2.0.0": 50}, "stable version 1.0.0 would have no traffic"),
        ({"1.1.0": float("nan")}, "must lie between 0 and 100"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_reason(weights: dict[str, float], said: str) -> None:
    with pytest.raises(Refused, match=said):
        decide.set_traffic(STEADY, weights, KNOWN)


def test_two_versions_that_would_share_a_target_are_refused() -> None:
    lookalike = ServicePolicy(name="filesystem", stable="1.0", lanes=(Lane(version="1.0", weight_pct=100),))
    assert decide.set_traffic(lookalike, {"1.1": 5}, {"1.0", "1.1"})
    with pytest.raises(Refused, match="no instance of version 1-0"):
        decide.set_traffic(lookalike, {"1-0": 5}, {"1.0"})


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), st.floats(0, 100, allow_nan=False), max_size=3))
def test_whatever_is_accepted_sums_to_100_and_keeps_stable_served(weights: dict[str, float]) -> None:
    try:
        decided = decide.set_traffic(STEADY, weights, KNOWN)
    except Refused:
        return
    assert sum(weights_of(decided).values()) == pytest.approx(100)
    assert decided.stable in weights_of(decided)


def test_a_document_whose_weights_do_not_sum_to_100_cannot_be_read() -> None:
    raw = STEADY.to_bytes().replace(b"100", b"99")
    with pytest.raises(Refused, match=r"policy of service filesystem: .*weights sum to 99"):
        ServicePolicy.parse(raw, "policy of service filesystem")


def test_adding_a_client_again_with_the_same_rights_changes_nothing() -> None:
    client = ClientPolicy(id="ci", allow=("search_*",))
    assert decide.add_client(client, client) is client


def test_adding_a_client_again_with_other_rights_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="client ci exists with other rights"):
        decide.add_client(ClientPolicy(id="ci"), ClientPolicy(id="ci", allow=("search_*",)))


def key(**changes: int) -> Key:
    return Key(id="k1", client="ci", hash="0" * 64, created=1, expires=0, revoked=changes.get("revoked", 0))


@pytest.mark.feature("A5")
def test_revoking_twice_keeps_the_first_time() -> None:
    assert decide.revoke(decide.revoke(key(), 5.9), 9).revoked == 5


@pytest.mark.feature("A5")
def test_a_key_once_seen_revoked_stays_so_whatever_the_store_says() -> None:
    assert decide.keep_revocations({"k1": key()}, {"k1": 7})["k1"].revoked == 7
    assert decide.keep_revocations({"k1": key()}, {})["k1"].revoked == 0


def test_a_closed_version_that_is_given_a_share_by_hand_is_open_again() -> None:
    lanes = (Lane(version="1.0.0", weight_pct=100),)
    current = ServicePolicy(name="search", stable="1.0.0", lanes=lanes, closed=("1.1.0", "1.2.0"))
    assert decide.set_traffic(current, {"1.1.0": 10}, {"1.0.0", "1.1.0"}).closed == ("1.2.0",)
