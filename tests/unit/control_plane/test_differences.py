"""What a change does, as people read it: per field, and as a unified diff."""

from __future__ import annotations

import json

import pytest

from control_plane.differences import differences
from control_plane.model import Change, ClientPolicy, Table

pytestmark = pytest.mark.feature("C9")
CLIENTS = Table.CLIENTS.prefix


def text(client: ClientPolicy) -> str:
    return client.to_bytes().decode()


def test_a_changed_document_is_told_field_by_field() -> None:
    before, after = ClientPolicy(id="ci", allow=("a", "b")), ClientPolicy(id="ci", allow=("a", "c", "d"), cohort="beta")
    (one,) = differences([Change(key=CLIENTS + "ci", before=text(before), after=text(after))])
    assert one.lines() == [
        "~ Client ci",
        "    allow[1]: b -> c",
        "    allow[2]: - -> d",
        '    cohort: "" -> beta',
    ]
    assert [(field.path, field.before, field.after) for field in one.fields] == [
        ("allow[1]", "b", "c"),
        ("allow[2]", None, "d"),
        ("cohort", "", "beta"),
    ]


def test_a_unified_diff_is_that_of_the_files() -> None:
    before, after = ClientPolicy(id="ci", allow=("a",)), ClientPolicy(id="ci", allow=("b",))
    (one,) = differences([Change(key=CLIENTS + "ci", before=text(before), after=text(after))])
    assert one.unified()[:3] == ["--- Client ci", "+++ Client ci", "@@ -1,7 +1,7 @@"]
    assert [line for line in one.unified() if line[0] in "+-"][2:] == ["-- a", "+- b"]


def test_changes_come_by_kind_and_name() -> None:
    made = [
        Change(key="tekup/keys/k1", before=None, after=None),
        Change(key=CLIENTS + "b", before=text(ClientPolicy(id="b")), after=None),
        Change(key=CLIENTS + "a", before=None, after=text(ClientPolicy(id="a"))),
        Change(key=Table.SERVICES.prefix + "s", before=None, after="{}"),
    ]
    assert [(one.action, one.kind, one.name) for one in differences(made)] == [
        ("added", "Service", "s"),
        ("added", "Client", "a"),
        ("removed", "Client", "b"),
        ("touched", "Key", "k1"),
    ]


def test_nothing_of_a_key_is_shown() -> None:
    (one,) = differences([Change(key="tekup/keys/k1", before=None, after=None)])
    assert one.unified() == ["~ Key k1 (its content is not kept)"]


@pytest.mark.parametrize("raw", ["not json", "[1]", '"text"'])
def test_what_another_hand_wrote_is_shown_though_it_is_no_document(raw: str) -> None:
    (one,) = differences([Change(key=CLIENTS + "ci", before=text(ClientPolicy(id="ci")), after=raw)])
    assert one.after == {"kind": "Client", "raw": raw}
    assert any(line.startswith("+raw: ") for line in one.unified())


def test_a_long_value_stands_on_lines_of_its_own() -> None:
    before, after = ({"id": "ci", "allow": ["x" * 60 + end]} for end in "ab")
    (one,) = differences([Change(key=CLIENTS + "ci", before=json.dumps(before), after=json.dumps(after))])
    assert [len(line) <= 80 for line in one.lines()] == [True] * 4
