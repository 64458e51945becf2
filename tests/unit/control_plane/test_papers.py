"""The gate's certificate as files: private, by content, and there when Consul is not."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from control_plane.agent.papers import KEPT, Standing
from control_plane.authority import Authority, Leaf

URI = "spiffe://d.consul/ns/default/dc/dc1/svc/tekup-gate"
DAY_S = 86_400


class Said(Authority):
    """An authority that has said something."""

    def say(self, number: int, *, ends_in_s: float = 3 * DAY_S) -> None:
        self.leaf = Leaf(f"chain {number}\n", f"key {number}\n", URI, time.time() + ends_in_s)
        self._roots = {"d.consul": f"roots {number // 3}\n"}


@pytest.fixture
def authority() -> Said:
    return Said("http://127.0.0.1:1", "tekup-gate")


def test_there_is_nothing_before_the_first_answer(tmp_path: Path, authority: Said) -> None:
    standing = Standing(authority, tmp_path)
    assert standing.papers() is None
    assert "has no certificate yet" in str(standing.problem(time.time()))


def test_certificate_and_key_are_one_private_file(tmp_path: Path, authority: Said) -> None:
    authority.say(1)
    papers = Standing(authority, tmp_path).papers()
    assert papers
    assert Path(papers.leaf).read_text() == "chain 1\nkey 1\n"
    assert Path(papers.roots).read_text() == "roots 0\n"
    assert papers.authority == "spiffe://d.consul/ns/default/dc/dc1"
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "tls").iterdir())


def test_a_renewal_has_another_name_and_the_same_content_the_same(tmp_path: Path, authority: Said) -> None:
    standing = Standing(authority, tmp_path)
    authority.say(1)
    first = standing.papers()
    assert standing.papers() == first
    authority.say(2)
    second = standing.papers()
    assert first
    assert second
    assert second.leaf != first.leaf
    assert second.roots == first.roots
    assert Path(first.leaf).exists(), "the routes in force still name it"


def test_files_do_not_pile_up(tmp_path: Path, authority: Said) -> None:
    standing = Standing(authority, tmp_path)
    for number in range(12):
        authority.say(number)
        papers = standing.papers()
        assert papers
        assert Path(papers.leaf).exists()
        assert Path(papers.roots).exists()
    assert len(list((tmp_path / "tls").glob("*.pem"))) <= KEPT + 1


def test_the_last_one_is_there_after_a_restart_without_consul(tmp_path: Path, authority: Said) -> None:
    authority.say(1)
    put = Standing(authority, tmp_path).papers()
    again = Standing(Said("http://127.0.0.1:1", "tekup-gate"), tmp_path)
    assert again.papers() == put
    assert put
    Path(put.leaf).unlink()
    assert Standing(Said("http://127.0.0.1:1", "tekup-gate"), tmp_path).papers() is None


def test_a_certificate_near_its_end_is_a_problem_of_the_gate(tmp_path: Path, authority: Said) -> None:
    standing = Standing(authority, tmp_path)
    authority.say(1, ends_in_s=DAY_S)
    standing.papers()
    assert standing.problem(time.time()) is None
    assert "ends in 1.0 hours" in str(standing.problem(time.time() + 23 * 3600))
    assert "ends in 0.0 hours" in str(standing.problem(time.time() + 2 * DAY_S))
