"""The path layer: nothing outside a root is opened, whatever the path says."""

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.paths import (
    Opener,
    PathError,
    Roots,
    RootsError,
    opened,
    opened_file,
    opened_parent,
    rename_no_replace,
)

if TYPE_CHECKING:
    from tests.unit.services.filesystem.conftest import World

pytestmark = pytest.mark.feature("B2")


def read(world: "World", path: str) -> bytes:
    with opened_file(world.place(path)) as fd:
        return os.read(fd, 1000)


@pytest.mark.parametrize(
    "path",
    [
        "../root-outside/secret.txt",
        "folder/../../root-outside/secret.txt",
        "link-file",
        "link-folder/secret.txt",
        "link-relative/secret.txt",
        "link-chain/secret.txt",
        "..",
        "link-root/etc/passwd",
        "link-proc",
    ],
)
def test_a_path_that_leads_out_is_refused_without_showing_where_to(world: "World", path: str) -> None:
    (world.root / "folder").mkdir()
    (world.root / "link-file").symlink_to(world.outside / "secret.txt")
    (world.root / "link-folder").symlink_to(world.outside)
    (world.root / "link-relative").symlink_to("../root-outside")
    (world.root / "link-chain").symlink_to("link-relative")
    (world.root / "link-root").symlink_to("/")
    (world.root / "link-proc").symlink_to("/proc/self/root")
    with pytest.raises(PathError) as refused:
        read(world, path)
    message = str(refused.value).removeprefix(f"{world.root}")
    assert str(world.outside) not in message
    assert "secret\n" not in message


@pytest.mark.parametrize("path", ["/etc/passwd", "/", "//etc/passwd", "{root}-outside/secret.txt", "{root}x"])
def test_an_absolute_path_outside_the_roots_is_refused(world: "World", path: str) -> None:
    with pytest.raises(PathError, match="outside the roots"):
        world.place(path.format(root=world.root))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("x" * 300, "too long"),
        ("x/" * 3000, "longer than 4096 bytes"),
        ("\ud800", "not valid Unicode"),
        ("nothing\nhere", "does not exist"),
    ],
)
def test_a_bad_path_gets_one_clear_line(world: "World", path: str, said: str) -> None:
    with pytest.raises(PathError, match=said) as refused:
        read(world, path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["fifo", "socket", "device", "."])
def test_what_is_not_a_regular_file_is_refused_at_once(world: "World", path: str) -> None:
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(world.root / "socket"))
        if os.geteuid() == 0:
            os.mknod(world.root / "device", 0o20666, os.makedev(1, 5))
        began = time.monotonic()
        with pytest.raises(PathError):
            read(world, path)
        assert time.monotonic() - began < 5


def test_names_within_the_root_are_opened_in_every_spelling(world: "World") -> None:
    (world.root / "folder").mkdir()
    (world.root / "folder" / "file").write_text("here")
    for path in ("folder/file", "./folder//file", "folder/../folder/file", f"{world.root}/folder/file"):
        assert read(world, path) == b"here"


def test_a_link_that_stays_within_the_root_is_followed_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "link").symlink_to("file")
    with opened_file(Roots.of([tmp_path]).locate("link")) as fd:
        assert os.read(fd, 10) == b"here"


def test_roots_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RootsError) as refused:
        Roots.of([tmp_path / "missing", tmp_path / "file", "relative"])
    for name in ("missing", "file", "relative"):
        assert name in str(refused.value)


def test_a_root_that_is_itself_a_link_is_known_by_both_names(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("here")
    (tmp_path / "link").symlink_to("real")
    roots = Roots.of([tmp_path / "link"], opener)
    for name in ("link", "real"):
        with opened_file(roots.locate(f"{tmp_path}/{name}/file")) as fd:
            assert os.read(fd, 10) == b"here"


@pytest.mark.feature("A6")
def test_a_grant_narrows_the_roots_and_never_widens_them(world: "World") -> None:
    (world.root / "mine").mkdir()
    (world.root / "other").mkdir()
    (world.root / "other" / "file").touch()
    (world.root / "mine" / "link").symlink_to("../other")
    narrowed = world.roots.narrowed([f"{world.root}/mine", "/etc", str(world.outside)])
    assert [root.path for root in narrowed] == [f"{world.root}/mine"]
    with pytest.raises(PathError, match="outside the roots"):
        narrowed.locate(f"{world.root}/other/file")
    with pytest.raises(PathError, match="outside the roots"):
        narrowed.locate("/etc/passwd")
    with pytest.raises(PathError), opened_file(narrowed.locate("link/file")):
        pass
    with pytest.raises(PathError), opened_file(narrowed.locate("../other/file")):
        pass
    assert world.roots.narrowed([]) == world.roots
    assert world.roots.narrowed(["/"]) == world.roots
    assert not world.roots.narrowed(["/nowhere"])


def test_a_narrowed_root_swapped_for_a_link_is_not_followed(world: "World") -> None:
    (world.root / "mine").symlink_to(world.outside)
    narrowed = world.roots.narrowed([f"{world.root}/mine"])
    with pytest.raises(PathError), opened_file(narrowed.locate("secret.txt")):
        pass


def test_with_several_roots_a_relative_path_is_refused_and_the_innermost_root_counts(world: "World") -> None:
    inner = world.root / "inner"
    inner.mkdir()
    roots = Roots.of([world.root, inner])
    with pytest.raises(PathError, match="there are 2 roots"):
        roots.locate("file")
    assert roots.locate(f"{inner}/file").root.path == str(inner)


@pytest.mark.parametrize("path", [".", "", "folder/..", "folder/."])
def test_the_root_itself_cannot_be_changed(world: "World", path: str) -> None:
    (world.root / "folder").mkdir()
    with pytest.raises(PathError), opened_parent(world.place(path)):
        pass


def test_renaming_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r".") as refused:
            rename_no_replace(fd, "a", fd, "b")
    finally:
        os.close(fd)
    assert refused.value.errno == errno.EEXIST
    assert (tmp_path / "b").read_text() == "b"


SWAPPER = """
import os, sys
os.chdir(sys.argv[1])
while True:
    os.rename("target", "aside"); os.symlink(sys.argv[2], "target")
    os.unlink("target"); os.rename("aside", "target")
"""


def test_a_racing_process_that_swaps_folder_and_link_never_gets_a_read_or_write_out(world: "World") -> None:
    (world.root / "target").mkdir()
    (world.root / "target" / "secret.txt").write_text("harmless")
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, str(world.root), str(world.outside)])
    served = 0
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            try:
                assert read(world, "target/secret.txt") == b"harmless"
                with opened_parent(world.place("target/new")) as (fd, name):
                    os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd))
                served += 1
            except PathError:
                continue
    finally:
        swapper.kill()
        swapper.wait()
    assert served > 0
    assert sorted(path.name for path in world.outside.iterdir()) == ["secret.txt"]


def test_descriptors_are_not_left_open(world: "World") -> None:
    (world.root / "folder").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("folder", "missing", "../x", "folder/missing/y", "folder/../.."):
        try:
            with opened(world.place(path), os.O_RDONLY):
                pass
        except PathError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
