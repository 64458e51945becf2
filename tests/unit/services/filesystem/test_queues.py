"""Writers of one folder wait for one another without asking again and again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.paths import PathError, Roots
from services.filesystem import storing
from services.filesystem.changing import NewText, write_text
from services.filesystem.queues import Queues

SOON_S = 10.0


def test_one_thread_at_a_time_has_a_thing() -> None:
    queues, inside, most = Queues(), list[int](), list[int]()

    def work(number: int) -> bool:
        with queues.turn("folder", SOON_S) as held:
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
        return held

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(200)))
    assert max(most) == 1


def test_who_waited_too_long_is_told_and_holds_up_nobody() -> None:
    queues = Queues()
    with queues.turn("folder", SOON_S), ThreadPoolExecutor(1) as threads:
        with queues.turn("another", SOON_S) as other:
            assert other
        with threads.submit(queues.turn, "folder", 0.01).result() as held:
            assert not held
    with queues.turn("folder", 0) as held:
        assert held


def test_nothing_is_kept_of_things_that_nobody_wants() -> None:
    queues = Queues()
    with queues.turn("folder", SOON_S):
        pass
    assert not queues._wanted


def test_a_writer_that_others_of_this_process_keep_waiting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_LOCK_WAIT_S", 0.05)
    place = Roots.of([tmp_path]).locate(str(tmp_path / "file.txt"))
    folder = tmp_path.stat()
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with storing._OURS.turn((folder.st_dev, folder.st_ino), SOON_S):
            inside.set()
            done.wait(SOON_S)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        assert inside.wait(SOON_S)
        with pytest.raises(PathError, match="is being written by others; try again"):
            write_text(place, NewText("new"), overwrite=True)
        done.set()
        holding.result()
    assert not (tmp_path / "file.txt").exists()
