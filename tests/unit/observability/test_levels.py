"""How much is logged changes by a file, while the process runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from observability.telemetry.levels import LevelFile, Levels, parse_levels
from observability.telemetry.lines import OWN, JsonLines
from tests.support.gate import wait_until


class Kept(logging.Handler):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines({"service": "demo"}))
        self.lines: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def events(self) -> list[str]:
        events = [line["event"] for line in self.lines]
        self.lines.clear()
        return events


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Everything that is logged; the loggers are left as they were found."""
    names = ("", *OWN, "httpx", "mcp", "watchfiles", "sse_starlette", "hpack", "httpx.deep")
    before = {name: logging.getLogger(name).level for name in names}
    handler = Kept()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def log_some() -> None:
    for name in ("services.hub.changes", "control_plane.loop", "httpx", "mcp.server"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, f"{name.split('.')[0]}.{logging.getLevelName(level).lower()}")


ALL_INFO = ["services.info", "services.warning", "control_plane.info", "control_plane.warning", "httpx.warning",
            "mcp.warning"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", Levels("info")),
        ("# nothing\n\n", Levels("info")),
        ("debug\n", Levels("debug")),
        ("  WARNING  # less\n", Levels("warning")),
        ("call=warning\nservices.hub = debug\n", Levels("info", {"call": "warning", "services.hub": "debug"})),
        ("error\nhttpx=info", Levels("error", {"httpx": "info"})),
    ],
)
def test_a_file_says_levels(text: str, levels: Levels) -> None:
    assert parse_levels(text, "info") == levels


@pytest.mark.parametrize("text", ["loud", "=debug", "debug\nx=y", "services.hub:debug", "a b"])
def test_what_is_no_level_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d: .* is neither a level nor <name>=<level>"):
        parse_levels(text, "info")


def test_a_file_changes_the_level_and_its_absence_changes_it_back(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "level"
    file = LevelFile(kept, "info", path)
    log_some()
    assert kept.events() == ALL_INFO
    path.write_text("error")
    file.look()
    assert kept.lines[0] | {"ts": ""} == {
        "ts": "", "level": "info", "event": "log.level", "service": "demo", "now": "error", "before": "info"
    }  # fmt: skip
    kept.lines.clear()
    log_some()
    assert kept.events() == []
    path.write_text("debug")
    file.look()
    kept.lines.clear()
    log_some()
    assert "services.debug" in (debug := kept.events())
    assert "httpx.debug" in debug
    assert "mcp.debug" not in debug  # which may hold whole messages
    path.unlink()
    file.look()
    assert kept.events() == ["log.level"]
    log_some()
    assert kept.events() == ALL_INFO


def test_a_bad_file_is_said_once_and_changes_nothing(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "level"
    path.write_text("warning")
    file = LevelFile(kept, "info", path)
    assert kept.events() == ["log.level"]
    for content in ("loud", "x" * 20_000, "\udcff"):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        for _ in range(3):
            file.look()
        assert kept.lines[0]["stays"] == "warning"
        assert kept.lines[0]["reason"]
        assert kept.events() == ["log.level_refused"]
    log_some()
    assert kept.events() == ["services.warning", "control_plane.warning", "httpx.warning", "mcp.warning"]
    path.write_text("info")
    file.look()
    assert kept.events() == ["log.level"]


def test_loggers_and_beginnings_of_events_have_levels_of_their_own(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "level"
    path.write_text(
        "warning\nservices.hub=debug\ncontrol_plane=error\nhttpx=info\ncontrol_plane.info=info\nmcp=debug\n"
    )
    file = LevelFile(kept, "info", path)
    kept.lines.clear()
    log_some()
    assert kept.events() == [
        "services.debug", "services.info", "services.warning",  # the logger
        "control_plane.info",  # an event, which goes before its logger
        "httpx.info", "httpx.warning",
        "mcp.info", "mcp.warning",
    ]  # fmt: skip
    path.write_text("info\ncall=warning\n")
    file.look()
    kept.lines.clear()
    logger = logging.getLogger("services.common.calls")
    for event in ("call", "call.more", "called"):
        logger.info(event)
    assert kept.events() == ["called"]
    log_some()
    assert kept.events() == ALL_INFO


def test_a_change_is_taken_up_by_itself(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "level"
    file = LevelFile(kept, "info", path)
    file.watch()
    try:
        path.write_text("debug")
        wait_until(lambda: kept.lines, "log.level", 20)
        assert kept.lines[0]["now"] == "debug"
    finally:
        file.stop()
