"""Resources: what is refused and how it is named, what comes back from YAML, and the schema editors use."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from control_plane.delivery import Delivery
from control_plane.errors import Refused
from control_plane.model import SLOWEST_PER_S, Access, ClientPolicy, Lane, Limit, Rule, ServicePolicy, Stored, Table
from control_plane.resources import KINDS, Place, ordered, parse_files, parse_values, render, schema

pytestmark = pytest.mark.feature("C9")
SEARCH = ServicePolicy(name="search", stable="1.0.0", lanes=(Lane(version="1.0.0", weight_pct=100),))
GLOBS = st.from_regex(r"[!-Z^-z|~]{1,20}", fullmatch=True)
PRINTED = st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8")
LIMITS = st.builds(
    Limit,
    name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    tools=st.lists(GLOBS, max_size=2).map(tuple),
    per_s=st.floats(SLOWEST_PER_S, 1_000_000),
    burst=st.integers(0, 1_000_000),
    concurrent=st.integers(0, 1_000_000),
)
CLIENTS = st.builds(
    ClientPolicy,
    id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    allow=st.lists(GLOBS, max_size=4).map(tuple),
    access=st.sampled_from(Access),
    roots=st.lists(st.text(PRINTED, min_size=1), max_size=2).map(tuple),
    limits=st.lists(LIMITS, max_size=3, unique_by=lambda limit: limit.name).map(tuple),
)
VERSIONS = st.from_regex(r"[0-9A-Za-z.]{1,10}", fullmatch=True)
SERVICES = st.builds(
    lambda version, weight, name: ServicePolicy(
        name=name,
        stable=version,
        lanes=(Lane(version=version, weight_pct=100),),
        rules=(
            Rule(
                name="r",
                lanes=(Lane(version=version, weight_pct=weight), Lane(version=version + "x", weight_pct=100 - weight)),
            ),
        ),
    ),
    VERSIONS,
    st.floats(0, 100),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
)


def table_of(*documents: Stored) -> dict[Place, Stored]:
    tables = {kind.document: kind.table for kind in KINDS.values()}
    return {(tables[type(one)], one.key): one for one in documents}


@given(st.lists(st.one_of(CLIENTS, SERVICES), max_size=5))
def test_what_is_rendered_is_read_back_the_same(documents: list[Stored]) -> None:
    present = table_of(*documents)
    text = render(ordered(present))
    assert {one.place: one.document for one in parse_files({"all.yml": text})} == present
    assert render(ordered(dict(reversed(present.items())))) == text


def test_an_export_reads_like_something_written_by_hand() -> None:
    delivery = Delivery(service="search")
    lines = render(ordered(table_of(delivery, ClientPolicy(id="ci"), SEARCH))).splitlines()
    assert lines[:7] == [
        "---",
        "kind: Service",
        "name: search",
        "stable: 1.0.0",
        "lanes:",
        "- version: 1.0.0",
        "  weight_pct: 100",
    ]
    assert [line for line in lines if line.startswith("kind:")] == ["kind: Service", "kind: Client", "kind: Delivery"]
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kind: Clent\nid: ci",
            r"one.yml, document 1: kind 'Clent' is unknown; kinds are Service, Client, Delivery, AlertRules, Autoscale",
        ),
        ("id: ci", r"one.yml, document 1: kind is missing; kinds are"),
        ("- 1", r"one.yml, document 1: not a resource but a list; write `kind: Service\|Client\|Delivery\|AlertRules"),
        ("---\n---\nkind: Client", r"one.yml, document 2, Client: id: Field required; see `tekup schema Client`"),
        ("kind: Client\nid: ci\nalow: [x]", r"Client ci: alow: Extra inputs.*`tekup schema Client` lists the fields"),
        ("kind: Client\nid: ci\nallow: ['a b']", r"document 1, Client ci: allow.0: String should match"),
        ("kind: Service\nname: s\nstable: 1.10\nlanes: []", r"Service s: stable: .*valid string.*; put it in quotes"),
        ("kind: Client\nid: ci\nid: cj", r"one.yml: line 3, column 1: id is said twice"),
        ("kind: Client\nid: &x ci\nallow: [*x]", r"line 3, column \d+: a reference|line 2, column \d+: a reference"),
        ("kind: Client\n1: ci", r"one.yml: line 2, column 1: a field name is not a text"),
        ("kind: [", r"one.yml: line 2, column 1: did not find"),
        ("kind: !!python/object:os.system x", r"one.yml: line 1, column 7: could not determine a constructor"),
        ("kind: Client\nid: ci\n---\nkind: Client\nid: ci", r"document 2: Client ci stands in one.yml, document 1"),
        ("kind: Key\nid: k1", r"kind 'Key' is unknown"),
        ("[" * 5000, "one.yml: "),
    ],
)
def test_a_wrong_document_is_named_with_a_remedy(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_files({"one.yml": text})


def test_every_problem_of_a_set_is_said_at_once() -> None:
    with pytest.raises(Refused) as refused:
        parse_files({"a.yml": "kind: X", "b.yml": "kind: Client\n---\nkind: Client\nid: UPPER"})
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == [
        "a.yml, document 1",
        "b.yml, document 1, Client",
        "b.yml, document 2, Client UPPER",
    ]


def test_a_set_of_nothing_but_mistakes_is_told_in_twenty_lines() -> None:
    with pytest.raises(Refused) as refused:
        parse_files({"a.yml": "---\nkind: X\n" * 50})
    assert str(refused.value).splitlines()[-1] == "and 30 more"


def test_words_are_words_and_times_are_no_numbers() -> None:
    text = "kind: Client\nid: on\nallow: [yes, 'no', 2024-01-01]\nhosts: [1:30]"
    (one,) = parse_files({"a.yml": text})
    assert one.document == ClientPolicy(id="on", allow=("yes", "no", "2024-01-01"), hosts=("1:30",))


def test_values_from_json_are_named_by_their_place() -> None:
    with pytest.raises(Refused, match=r"resources\[1\], Client ci: oops: Extra inputs"):
        parse_values([{"kind": "Client", "id": "one"}, {"kind": "Client", "id": "ci", "oops": 1}])


def test_the_schema_takes_what_is_exported_and_nothing_else() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    for value in yaml.safe_load_all(
        render(ordered(table_of(SEARCH, ClientPolicy(id="ci"), Delivery(service="search"))))
    ):
        validator.validate(value)
    for wrong in ({"kind": "Client"}, {"kind": "Clent", "id": "ci"}, {"kind": "Client", "id": "ci", "oops": 1}, {}):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_schema_of_its_own(kind: str) -> None:
    alone = schema(kind)
    assert alone["title"] == kind
    assert json.dumps(alone).count('"const"') == 1


def test_a_schema_says_at_each_field_what_it_means() -> None:
    found: Any = schema("Service")["$defs"]
    assert found["Service"]["description"] == "Where the calls of a service go."
    assert found["Service"]["properties"]["stable"]["description"] == "Lists and discovery come from it."
    mirror = found["Rule"]["properties"]["mirror"]["description"]
    assert mirror.startswith("Version that gets a copy of each of these calls")


def test_an_unknown_kind_has_no_schema() -> None:
    with pytest.raises(Refused, match="kind 'Nope' is unknown; kinds are Service, Client, Delivery"):
        schema("Nope")


def test_keys_are_no_resources() -> None:
    assert Table.KEYS not in {kind.table for kind in KINDS.values()}
