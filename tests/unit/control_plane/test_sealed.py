"""Hashes of keys, sealed: what opens them, what does not, and what is said of it."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.agent.believe import Accepted, Memory, judge
from control_plane.agent.reading import Reading
from control_plane.errors import Refused
from control_plane.model import ClientPolicy, Key, Revision, Table
from control_plane.sealed import NO_RING, Ring, RingFile, Sealing, read_ring, sealed_by
from control_plane.signed import table_sum

pytestmark = pytest.mark.feature("E5")
OLD, NEW = "11" * 32, "22" * 32
HASH = "ab" * 32


def key(key_id: str = "k1", client: str = "ci") -> Key:
    return Key(id=key_id, client=client, hash=HASH, created=1)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_to_itself_and_hides_it(raw: bytes, secret: bytes) -> None:
    ring, bare = Ring.of([secret.hex()]), key().model_copy(update={"hash": raw.hex()})
    sealed = ring.seal(bare)
    assert Key.parse(sealed.to_bytes(), "sealed") == sealed
    assert raw.hex() not in sealed.hash
    assert ring.open(sealed) == bare
    assert ring.seal(sealed) is sealed
    assert ring.open(bare) is bare


@pytest.mark.parametrize("other", [key("k2"), key("k1", "eve")])
def test_a_sealed_hash_opens_nothing_under_another_name(other: Key) -> None:
    ring = Ring.of([NEW])
    moved = other.model_copy(update={"hash": ring.seal(key()).hash})
    with pytest.raises(Refused, match="made for another key or changed by another hand"):
        ring.open(moved)


def test_a_changed_sealed_hash_is_refused() -> None:
    ring, sealed = Ring.of([NEW]), Ring.of([NEW]).seal(key())
    spoilt = sealed.hash[:-1] + ("A" if sealed.hash[-1] != "A" else "B")
    with pytest.raises(Refused, match="changed by another hand"):
        ring.open(sealed.model_copy(update={"hash": spoilt}))


def test_the_previous_key_still_opens_and_the_current_one_seals_again() -> None:
    before = Ring.of([OLD]).seal(key())
    after = Ring.of([NEW, OLD])
    again = after.seal(before)
    assert sealed_by(again) == after.current != sealed_by(before)
    assert Ring.of([NEW]).open(again) == key()
    with pytest.raises(Refused, match=f"sealed by key {sealed_by(before)}, which is not in the file"):
        Ring.of([NEW]).open(before)


def test_nothing_is_sealed_without_a_key_and_no_message_tells_one() -> None:
    for ring in (NO_RING, Ring.of([NEW])):
        with pytest.raises(Refused) as refused:
            ring.open(Ring.of([OLD]).seal(key()))
        assert not [text for text in (OLD, NEW, HASH) if text in str(refused.value)]
    with pytest.raises(Refused, match="key k1 cannot be sealed: there is no sealing key"):
        NO_RING.seal(key())


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    spare = path.with_suffix(".new")
    spare.write_text(text)
    spare.chmod(mode)
    spare.rename(path)
    return path


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (json.dumps({"keys": [NEW]}), 0o640, "may be read by others; chmod 600 it"),
        (json.dumps({"keys": []}), 0o600, "must be"),
        (json.dumps({"keys": [NEW[:-1]]}), 0o600, "must be"),
        (NEW, 0o600, "must be"),
    ],
)
def test_a_bad_file_is_refused_without_telling_what_it_holds(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        read_ring(write(tmp_path / "ring.json", text, mode))
    assert NEW[:-1] not in str(refused.value)
    with pytest.raises(Refused, match="cannot be read: No such file"):
        read_ring(tmp_path / "missing.json")


def test_a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "ring.json", json.dumps({"keys": [OLD]}))
    file = RingFile(path)
    first = file.ring()
    assert file.ring() is first
    write(path, json.dumps({"keys": [NEW, OLD]}))
    second = file.ring()
    assert second.current != first.current
    write(path, "{")
    assert file.ring() is second
    assert "must be" in file.problem
    path.unlink()
    assert file.ring() is second
    assert "cannot be read" in file.problem
    write(path, json.dumps({"keys": [NEW]}))
    assert file.ring() is not second
    assert not file.problem


def test_switched_off_what_lies_sealed_is_opened(tmp_path: Path) -> None:
    file = RingFile(write(tmp_path / "ring.json", json.dumps({"keys": [NEW]})))
    sealed = Sealing(file, on=True).stored(key())
    assert sealed_by(sealed)
    assert Sealing(file, on=False).stored(sealed) == key()
    assert os.fspath(tmp_path) not in sealed.hash


def policy(*keys: Key) -> tuple[bytes, dict[Table, dict[str, bytes]]]:
    tables = {
        Table.SERVICES: dict[str, bytes](),
        Table.CLIENTS: {"ci": ClientPolicy(id="ci").to_bytes()},
        Table.KEYS: {one.id: one.to_bytes() for one in keys},
    }
    sums = {table: table_sum(documents) for table, documents in tables.items()}
    return Revision(epoch=1, number=1, tables=sums).to_bytes(), tables


def test_an_agent_opens_what_it_can_and_names_the_rest_together() -> None:
    sealed = [Ring.of([OLD]).seal(key(f"s{n}")) for n in range(7)]
    revision, tables = policy(key("bare"), Ring.of([NEW]).seal(key("good")), *sealed)
    reading = Reading()
    reading.ring = Ring.of([NEW])
    judged = judge(revision, tables, Memory(), reading)
    assert isinstance(judged, Accepted)
    assert {one.id: one.hash for one in judged.policy.keys.values()} == {"bare": HASH, "good": HASH}
    (problem,) = judged.problems
    assert problem.startswith("key s0, s1, s2, s3, s4 and 2 more refused: sealed by key ")
    reading.ring = Ring.of([NEW, OLD])
    judged = judge(revision, tables, Memory(), reading)
    assert isinstance(judged, Accepted)
    assert (len(judged.policy.keys), judged.problems) == (9, ())


def test_a_document_written_as_it_was_is_the_same_object() -> None:
    revision, tables = policy(key("a"), key("b"))
    reading = Reading()
    first = judge(revision, tables, Memory(), reading)
    revision, tables = policy(key("a"), key("b").model_copy(update={"revoked": 7}))
    second = judge(revision, tables, Memory(), reading)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert second.policy.keys["a"] is first.policy.keys["a"]
    assert second.policy.clients["ci"] is first.policy.clients["ci"]
    assert second.policy.keys["b"].revoked == 7
