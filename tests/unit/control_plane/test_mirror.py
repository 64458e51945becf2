"""The git mirror over a store in memory and the real git: a commit a revision, the same whoever makes it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane, Wish
from control_plane.mirror import MIRROR_KEY, Mirror, Mirrored, Place
from control_plane.model import ClientPolicy
from control_plane.repository import Repository
from control_plane.resources import parse_files
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

pytestmark = pytest.mark.feature("C10")


def git(folder: Path, *arguments: str) -> str:
    """What git says."""
    command = ["git", f"--git-dir={folder}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class World:
    """A control plane, and mirrors of it whose clock goes on with each look."""

    def __init__(self, store: Memory, plane: ControlPlane, folder: Path) -> None:
        self.store = store
        self.plane = plane
        self.folder = folder
        self._seconds = 0.0

    def clock(self) -> float:
        """A minute later each time, so that nothing is left for later."""
        self._seconds += 60
        return self._seconds

    def mirror(self, name: str, remote: str = "") -> Mirror:
        """The mirror of a replica that leads."""
        place = Place(Repository(self.folder / name), remote)
        return Mirror(self.store, self.plane.leadership, place, self.clock)

    async def change(self, client: str, author: str = "ada", reason: str = "because") -> None:
        """A revision more."""
        await self.plane.rights.add_client(ClientPolicy(id=client), Wish(author, reason))

    async def held(self) -> Mirrored:
        """What is written down."""
        return Mirrored.parse((await self.store.read(MIRROR_KEY)).entries[""].value, MIRROR_KEY)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = Memory()
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        await plane.init(Wish("operator", "first start"), force=True)
        yield World(store, plane, tmp_path)


async def test_each_revision_is_a_commit_with_its_author_reason_and_state(world: World) -> None:
    await world.change("ci", "ada", "nightly: æøå\"'`$(x)")
    await world.change("dev", "otto")
    await world.mirror("one").turn()
    log = git(
        world.folder / "one",
        "log",
        "--reverse",
        "--format=%an|%s|%(trailers:key=Revision,valueonly,separator=)",
        "main",
    )
    assert log.splitlines() == [
        "control-plane|first start|1/0",
        "ada|nightly: æøå\"'`$(x)|1/1",
        "otto|because|1/2",
    ]
    shown = parse_files({"clients.yml": git(world.folder / "one", "show", "main:clients.yml")})
    assert [one.document.key for one in shown] == ["ci", "dev"]
    before = parse_files({"clients.yml": git(world.folder / "one", "show", "main~1:clients.yml")})
    assert [one.document.key for one in before] == ["ci"]


async def test_whoever_makes_it_at_one_go_or_bit_by_bit_it_has_the_same_hashes(world: World) -> None:
    one = world.mirror("one")
    await one.turn()
    for number in range(5):
        await world.change(f"c{number}")
        await one.turn()
    two = world.mirror("two")
    await two.turn()
    assert git(world.folder / "one", "rev-parse", "main") == git(world.folder / "two", "rev-parse", "main")
    held = await world.held()
    assert (held.problem, held.number, held.commit) == ("", 5, git(world.folder / "two", "rev-parse", "main"))


async def test_a_history_that_is_rewritten_is_named_and_put_right_by_making_it_anew(world: World) -> None:
    one = world.mirror("one")
    await world.change("ci")
    await one.turn()
    good = git(world.folder / "one", "rev-parse", "main")
    tree = git(world.folder / "one", "rev-parse", "main^{tree}")
    command = ["-c", "user.name=eve", "-c", "user.email=eve@x", "commit-tree", tree, "-p", "main~1", "-m"]
    forged = git(world.folder / "one", *command, "other\n\nRevision: 1/1")
    git(world.folder / "one", "update-ref", "refs/heads/main", forged)
    await one.turn()
    held = await world.held()
    assert (held.rewritten, held.commit) == ("mirror", good)
    assert "history was rewritten: commit" in held.problem
    await world.change("dev")
    await one.turn()
    assert (await world.held()).rewritten == "mirror"
    anew = world.mirror("anew")
    await anew.turn()
    held = await world.held()
    assert (held.problem, held.rewritten, held.number) == ("", "", 2)
    assert git(world.folder / "anew", "rev-parse", "main~1") == good


async def test_it_is_pushed_and_a_remote_that_is_forced_is_named_and_nothing_pushed_over_it(world: World) -> None:
    remote = world.folder / "remote"
    git(remote, "init", "-q", "--bare", "--initial-branch=main")
    one = world.mirror("one", str(remote))
    for number in range(3):
        await world.change(f"c{number}")
    await one.turn()
    top = git(world.folder / "one", "rev-parse", "main")
    assert git(remote, "rev-parse", "main") == top
    back = git(remote, "rev-parse", "main~2")
    git(remote, "update-ref", "refs/heads/main", back)
    await one.turn()
    held = await world.held()
    assert (held.rewritten, held.pushed) == ("remote", top)
    await world.change("more")
    await one.turn()
    assert git(remote, "rev-parse", "main") == back
    git(world.folder / "one", "push", "-q", "--force", str(remote), "main")
    await one.turn()
    assert (await world.held()).problem == ""
    # The next leader has no folder yet: it goes on from the remote.
    await world.change("again")
    await world.mirror("two", str(remote)).turn()
    assert git(remote, "rev-parse", "main") == git(world.folder / "two", "rev-parse", "main")


async def test_a_remote_that_is_away_is_a_problem_that_passes_and_keeps_no_secret(world: World) -> None:
    away = world.folder / "not-there"
    one = world.mirror("one", f"file://ada:secret-of-ada@{away}")
    await one.turn()
    held = await world.held()
    assert "git ls-remote failed" in held.problem
    assert "secret-of-ada" not in held.problem
    assert held.rewritten == ""


async def test_only_who_leads_writes_down_how_far_it_is(world: World) -> None:
    other = Leadership(world.store, "two", url="http://two")
    await world.change("ci")
    mirror = Mirror(world.store, other, Place(Repository(world.folder / "two")), world.clock)
    with pytest.raises(Exception, match="two is not the leader"):
        await mirror.turn()
    assert not (await world.store.read(MIRROR_KEY)).entries


async def test_one_that_is_made_of_nothing_is_right_even_where_another_was_written_down(world: World) -> None:
    await world.change("ci")
    held = Mirrored(epoch=1, number=1, commit="f" * 40)
    world.store.put(MIRROR_KEY, held.to_bytes())
    await world.mirror("one").turn()
    after = await world.held()
    assert (after.problem, after.commit) == ("", git(world.folder / "one", "rev-parse", "main"))
