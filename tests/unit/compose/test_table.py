"""The process table as data, and what a scale makes of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.local.errors import BadInput, LocalError
from compose.local.scale import MOST_INSTANCES, checked, instances, read_scale, read_wish, write_scale
from compose.local.status import Wish
from compose.local.table import Process, Ready, Service, Table, filled, read_table, write_table

TABLE = Table(
    processes=(Process(name="registry", group="registry", argv=("run",), ready=Ready(url="http://x/")),),
    services=(
        Service(
            name="echo", version="1.0.0", port=3001, pattern=Process(name="echo", group="echo", argv=("e", "{port}"))
        ),
    ),
)


def test_a_table_survives_its_file_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_table(path, TABLE)
    assert read_table(path) == TABLE
    assert read_table(path).digest() == TABLE.digest()
    assert path.stat().st_mode & 0o077 == 0


def test_something_else_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"processes": [{"name": 1}]}')
    with pytest.raises(LocalError, match="is not a process table"):
        read_table(path)


def test_known_placeholders_are_filled_and_other_braces_stay() -> None:
    assert filled("{port}/{version}?{x}={{}}", {"port": "1", "version": "2"}) == "1/2?{x}={{}}"


def test_where_nothing_was_said_there_is_one_instance(tmp_path: Path) -> None:
    assert [item.name for item in instances(TABLE, read_scale(tmp_path / "none", TABLE))] == ["echo-1.0.0-1"]


def test_a_scale_is_remembered_and_unknown_services_in_it_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    write_scale(path, {"echo": {"1.1.0": 2}, "gone": {"1": 1}})
    assert read_scale(path, TABLE) == {"echo": {"1.0.0": 1, "1.1.0": 2}}


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_change_of_scale_never_renames_or_moves_an_instance_that_stays(before: int, after: int) -> None:
    old, new = (
        {item.name: item.port for item in instances(TABLE, {"echo": {"1.0.0": count, "2": 1}})}
        for count in (before, after)
    )
    kept = sorted(old.keys() & new.keys())
    assert len(kept) == min(before, after) + 1
    assert [old[name] for name in kept] == [new[name] for name in kept]


@pytest.mark.parametrize("version", ["1/2", "a b", "x" * 33, "../up"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(BadInput, match="is no version"):
        checked(TABLE, Wish(service="echo", version=version, count=1))


def test_without_a_version_the_first_instances_is_meant() -> None:
    assert checked(TABLE, Wish(service="echo", count=2)) == Wish(service="echo", version="1.0.0", count=2)


def test_a_wish_is_read_as_it_is_typed() -> None:
    assert read_wish("echo=3", "1.1.0") == Wish(service="echo", version="1.1.0", count=3)
    assert read_wish(f"echo={MOST_INSTANCES}", "").count == MOST_INSTANCES


@pytest.mark.parametrize("number", ["", "x", "-1", "+1", "1_0", " 1", "1.0", "²", "٣", "51", "1000", "9" * 5000])
def test_what_is_no_number_of_instances_is_refused_in_few_words(number: str) -> None:
    with pytest.raises(BadInput, match=r"is not SERVICE=N; for example filesystem=3, and at most 50$") as caught:
        read_wish(f"echo={number}", "")
    assert len(str(caught.value)) < 120


def test_a_wish_without_a_service_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'=3' names no service"):
        read_wish("=3", "")


@pytest.mark.parametrize("service", ["é", "\udce9", "a b", "a/b", "²", "a=b"])
def test_a_wish_for_what_can_be_no_service_is_refused(service: str) -> None:
    with pytest.raises(BadInput, match="is not SERVICE=N"):
        read_wish(f"{service}=3", "")
