"""Pages that mean harm: each costs its own call at most, and another page beside it notices nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import psutil
import pytest

from services.browser import views
from services.browser.chromium import Chromium
from services.browser.page import OpenPage
from services.browser.shapes import Limits, PageError, PageGone
from tests.unit.services.browser.hostile import ROWS, Row
from tests.unit.services.browser.test_page import chromiums, click, page_on, text_of

if TYPE_CHECKING:
    from tests.unit.services.browser.conftest import Web

pytestmark = [
    pytest.mark.feature("B1"),
    pytest.mark.feature("B10"),
    pytest.mark.local,
    pytest.mark.asyncio(loop_scope="module"),
]

LIMITS = Limits(navigation_s=4, action_s=3, settle_s=1, call_s=8, answer_bytes=8 << 20)
AFTER_S = 20.0
"""Until a page has ended or works again, its own deadlines included; a loaded machine answers late."""


def served(web: "Web", row: Row) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + row.head.encode() + b"\r\n" * (1 if row.in_head else 2))
        while True:
            writer.write(row.chunk)
            await writer.drain()
            await asyncio.sleep(row.pause_s)

    web.pages["/"] = web.page_of("fine")
    web.pages["/hostile"] = endless if row.chunk else web.page_of(row.body)
    web.pages["/endless"] = endless


async def visited(web: "Web", page: OpenPage, row: Row) -> list[str]:
    """Use the hostile page; what it said, errors included."""
    said: list[str] = []
    work: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: page.navigate(web.url("/hostile")),
        *([lambda: page.act("button", click)] if "<button" in row.body else []),
        lambda: page.run(lambda inner: views.snapshot(inner, views.Tree(), 2)),
        page.state,
    )
    for step in work:
        try:
            done = await step()
            said += getattr(done, "notices", ())
        except PageError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[] if row.often else [pytest.mark.long]) for row in ROWS]
)
async def test_a_hostile_page_costs_only_itself(chromium: Chromium, web: "Web", row: Row) -> None:
    served(web, row)
    async with page_on(chromium, "127.0.0.1", limits=LIMITS) as other:
        await other.navigate(web.url())
        async with page_on(chromium, "127.0.0.1", limits=LIMITS) as page:
            began = time.monotonic()
            visit = asyncio.create_task(visited(web, page, row))
            while not visit.done():
                assert await text_of(other) == "fine"
                await asyncio.sleep(0.2)
            gone = isinstance(visit.exception(), PageGone) if visit.exception() else False
            assert gone or visit.exception() is None
            assert time.monotonic() - began < AFTER_S + LIMITS.call_s
            if not gone:
                try:
                    await page.navigate(web.url())
                    assert await text_of(page) == "fine"
                except PageGone:
                    gone = True
            assert not gone or row.may_go, str(visit.exception())
        await other.navigate(web.url())
        assert await text_of(other) == "fine"


async def test_a_download_without_end_is_cut_and_told(chromium: Chromium, web: "Web") -> None:
    row = Row("", chunk=b"x" * 65536, head="Content-Disposition: attachment; filename=big")
    served(web, row)
    async with page_on(chromium, "127.0.0.1", limits=LIMITS) as page:
        with pytest.raises(PageError, match="Download is starting"):
            await page.navigate(web.url("/hostile"))
        said: list[str] = []
        async with asyncio.timeout(20):
            while not any("a download" in notice and "failed" in notice for notice in said):
                said += (await page.state()).notices
                await asyncio.sleep(0.05)
        assert any("sent more than 8 MiB" in notice for notice in said)
        assert page.files.listed() == []


async def cycles(chromium: Chromium, web: "Web", count: int) -> None:
    web.pages["/"] = web.page_of("fine")
    for _ in range(count):
        async with page_on(chromium, "127.0.0.1", limits=LIMITS) as page:
            await page.navigate(web.url())


def taken() -> tuple[int, int, int]:
    """This process's open files and its memory in MiB, and how many processes Chromium has."""
    me = psutil.Process()
    return me.num_fds(), me.memory_info().rss >> 20, len(chromiums())


@pytest.mark.parametrize(
    ("count", "mib"), [(10, 60), pytest.param(1000, 150, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
async def test_opening_and_closing_pages_leaves_nothing(chromium: Chromium, web: "Web", count: int, mib: int) -> None:
    await cycles(chromium, web, 5)
    before = taken()
    await cycles(chromium, web, count)
    async with asyncio.timeout(20):
        while len(chromiums()) > before[2] or taken()[0] > before[0] + 3:
            await asyncio.sleep(0.1)
    assert taken()[1] < before[1] + mib
    assert list(chromium.files.iterdir()) == []
