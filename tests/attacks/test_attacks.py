"""Every row against the real gate; then nothing secret may have been said anywhere. `row.py` says how to add a row."""

from __future__ import annotations

import json
import secrets
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.attacks.floods import run_flood
from tests.attacks.row import Flow, Frames, Row
from tests.attacks.rows import CATEGORIES
from tests.attacks.wire import Answer, filler, send_frames, send_raw
from tests.attacks.world import INSTANCES, World, ended

# The first test waits for everything to start, on a machine that may have much else to do.
pytestmark = [pytest.mark.local, pytest.mark.timeout(400), pytest.mark.feature("A5"), pytest.mark.feature("A6")]
ROWS = [(category, row) for category, rows in CATEGORIES.items() for row in rows]
FEWEST = 80


def of(category: str, row: Row) -> object:
    """The row as pytest wants it."""
    marks = [pytest.mark.xfail(reason=row.through, strict=True, raises=AssertionError)] if row.through else []
    return pytest.param(
        row, id=f"{category}: {row.name}"[:120].encode("ascii", "backslashreplace").decode(), marks=marks
    )


def send(world: World, row: Row, mark: str, url: str) -> list[Answer]:
    """Send a row."""
    fill = filler(world, mark)
    if isinstance(row.send, Flow):
        return run_flood(world, row.send.name, url, fill)
    if isinstance(row.send, Frames):
        return send_frames(url, row.send, fill, row.wait_s)
    return send_raw(url, row.send, fill, row.wait_s)


def url_of(world: World, entry: str) -> str:
    """Where a row goes."""
    if entry == "vault":
        return f"http://127.0.0.1:{world.gate.backends[INSTANCES['vault']][0]}"
    return {"public": world.gate.public, "internal": world.gate.internal, "open": world.open_url}[entry]


@pytest.mark.parametrize("row", [of(category, row) for category, row in ROWS])
def test_an_attack_gets_nothing_done(world: World, said: list[str], marks: dict[str, str], row: Row) -> None:
    mark = secrets.token_hex(8)
    answers = send(world, row, mark, url_of(world, row.entry))
    said += [answer.text for answer in answers]
    ran = world.runs(mark)
    others = [run for run in ran if not world.is_own(run, row.runs_as)]
    assert not others, f"got through: {others}; answers {answers}"
    assert len(ran) == 1 or not row.must_run, f"the control did not run: {answers}"
    assert len(ran) <= 1, f"ran {len(ran)} times: {ran}"
    unlike = [answer for answer in answers if answer.status not in row.status]
    assert not unlike, f"answered otherwise: {unlike}"
    revealed = [(word, answer) for answer in answers for word in row.reveals if word in answer.text]
    assert not revealed, f"revealed: {revealed}"
    if not row.runs_as:
        marks[mark] = row.name
    world.alive()


@pytest.mark.parametrize("row", [of(category, row) for category, row in ROWS if row.unguarded])
def test_the_same_request_runs_where_there_is_no_policy(world: World, row: Row) -> None:
    mark = secrets.token_hex(8)
    answers = send(world, row, mark, url_of(world, "open"))
    assert [run.client for run in world.runs(mark)] == ["dev"], f"it would not run anyway: {answers}"


def test_a_gate_that_was_killed_and_started_again_lets_no_more_through(
    world: World, said: list[str], marks: dict[str, str]
) -> None:
    world.gate.stop()
    world.gate.start()
    for category, rows in CATEGORIES.items():
        attacks = [row for row in rows if not row.must_run and not row.runs_as and not isinstance(row.send, Flow)]
        for row in attacks[:2]:
            mark = secrets.token_hex(8)
            answers = send(world, row, mark, url_of(world, row.entry))
            assert not world.runs(mark), f"{category}: {row.name} got through"
            assert {answer.status for answer in answers} <= row.status, f"{category}: {row.name}: {answers}"
            said += [answer.text for answer in answers]
            marks[mark] = row.name
    world.alive()


def test_there_are_enough_rows_and_each_category_has_a_control() -> None:
    attacks = [row for _, row in ROWS if not row.must_run]
    assert len(attacks) >= FEWEST
    for category, rows in CATEGORIES.items():
        assert any(row.must_run for row in rows), f"{category} has no control"
    names = Counter(f"{category}: {row.name}" for category, row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


def is_json(line: str) -> bool:
    """Whether a line of a log is one, and not what a caller made of it."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def found_in(text: str, wanted: dict[str, str]) -> list[str]:
    """What of that which may stand nowhere stands in a text."""
    lower = text.lower()
    return [what for what, secret in wanted.items() if secret.lower() in lower]


def test_nothing_ran_late_and_nothing_secret_was_said(world: World, said: list[str], marks: dict[str, str]) -> None:
    late = {name: world.runs(mark) for mark, name in marks.items() if world.runs(mark)}
    assert not late, f"ran after its answer: {late}"
    pages = {
        f"{world.gate.private}{path}": httpx.get(f"{world.gate.private}{path}", timeout=20, trust_env=False).text
        for path in ("/metrics", "/traefik-metrics", "/tekup/state", "/api/http/routers", "/api/entrypoints")
    }
    for name, url in world.admin.items():
        for path in ("/metrics", "/state"):
            pages[f"{name}{path}"] = httpx.get(f"{url}{path}", timeout=20, trust_env=False).text
    for where, text in pages.items():
        if where.endswith("metrics"):
            names = {family.name for family in text_string_to_metric_families(text)}
            assert "tekup_evil" not in names, f"{where} counts what a caller made up"
    ended(world)
    logs = {path.name: path.read_text(errors="replace") for path in [*world.logs, world.gate.folder / "traefik.log"]}
    for where, text in logs.items():
        odd = [line for line in text.splitlines() if not is_json(line)]
        assert odd == [], f"{where} has lines that nobody meant to write"
    wanted = world.secrets()
    for where, text in (pages | logs | {"answers": "\n".join(said)}).items():
        assert found_in(text, wanted) == [], f"{where} holds secrets"
    # It would have noticed: what is looked for is found where it is, and the logs are those of this run.
    for what, secret in wanted.items():
        assert found_in(f"x{secret}y", wanted) == [what] or what.startswith("proof"), what
    assert '"client": "narrow"' in logs["vault.log"]
    assert "vault_1-0-0" in logs["traefik.log"]
    assert said
