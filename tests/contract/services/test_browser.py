"""The browser service as its callers meet it, and what is left when it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from mcp_types import ImageContent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.services.conftest import Instance, Starter, Web

pytestmark = [pytest.mark.local, pytest.mark.feature("B1")]


async def test_a_page_is_opened_seen_used_and_closed(browser: Instance, web: Web) -> None:
    async with browser.session("one", hosts=(web.host,)) as session:
        opened = (await session.call("browser_open", url=web.url())).facts
        assert (opened["title"], opened["status"], opened["notices"]) == ("home", 200, [])
        handle = opened["handle"]
        tree = await session.call("browser_snapshot", handle=handle)
        link = re.search(r'link "next" \[(\w+)\]', tree.text)
        field = re.search(r'textbox "Name" \[(\w+)\]', tree.text)
        assert link
        assert field
        assert tree.facts["next_offset"] is None
        typed = await session.call("browser_type", handle=handle, target=field[1], text="somebody")
        assert typed.facts["url"] == web.url()
        clicked = await session.call("browser_click", handle=handle, target=link[1])
        assert clicked.facts["url"] == web.url("/next")
        assert "Hello" in (await session.call("browser_text", handle=handle)).text
        picture = await session.call("browser_screenshot", handle=handle)
        assert isinstance(picture.result.content[0], ImageContent)
        assert (picture.facts["width"], picture.facts["height"]) == (1280, 800)
        assert (await session.call("browser_navigate", handle=handle, url=web.url("/x"))).facts["url"] == web.url("/x")
        (page,) = (await session.call("browser_list")).facts["pages"]
        assert (page["handle"], page["url"], page["gone"]) == (handle, web.url("/x"), "")
        assert (await session.call("browser_close", handle=handle)).facts == {"closed": True}
        assert (await session.call("browser_list")).facts == {"pages": []}
        assert "is gone, open anew" in (await session.call("browser_text", handle=handle)).error


@pytest.mark.feature("A4")
async def test_a_handle_serves_its_client_only_and_no_client_takes_all(browser: Instance, web: Web) -> None:
    async with browser.session("mine") as mine, browser.session("other") as other:
        handles = [(await mine.call("browser_open")).facts["handle"] for _ in range(3)]
        assert "most one client may" in (await mine.call("browser_open")).error
        for forged in (handles[0], handles[0][:-1] + "x", "a1b2c3.x.y", "", "x" * 5000):
            assert "gone, open anew" in (await other.call("browser_text", handle=forged)).error
        assert (await other.call("browser_list")).facts == {"pages": []}
        for handle in handles:
            await mine.call("browser_close", handle=handle)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "only http://, https:// and about:blank"),
        ("view-source:file:///etc/passwd", "only http://, https:// and about:blank"),
        ("http://169.254.169.254/latest", "metadata service"),
        ("http://10.0.0.1/", "private address"),
        ("http://localhost/", "loopback address"),
        ("https://nothing.invalid/", "does not resolve"),
        ("http://", "names no host"),
    ],
)
async def test_what_cannot_be_reached_is_a_clear_error_and_leaves_no_page(
    browser: Instance, url: str, words: str
) -> None:
    async with browser.session("bad") as session:
        assert words in (await session.call("browser_open", url=url)).error
        assert (await session.call("browser_list")).facts == {"pages": []}
    assert await browser.ready() == 200


async def test_bad_input_is_a_clear_error_and_the_page_goes_on(browser: Instance, web: Web) -> None:
    async with browser.session("bad", hosts=(web.host,)) as session:
        handle = (await session.call("browser_open", url=web.url())).facts["handle"]
        for tool, arguments, words in (
            ("browser_nothing", {}, "browser_nothing"),
            ("browser_click", {"handle": handle}, "target"),
            ("browser_click", {"handle": handle, "target": "e999"}, "e999"),
            ("browser_click", {"handle": handle, "target": "<<<"}, "<<<"),
            ("browser_navigate", {"handle": handle, "url": "http://127.0.0.1:1/"}, "127.0.0.1:1"),
            ("browser_text", {"handle": handle, "offset": -1}, "offset"),
            ("browser_text", {"handle": handle, "colour": "red"}, "colour"),
        ):
            assert words in (await session.call(tool, **arguments)).error, tool
        assert (await session.call("browser_navigate", handle=handle, url=web.url())).facts["title"] == "home"
        await session.call("browser_close", handle=handle)


@pytest.mark.feature("A6")
async def test_a_private_host_is_open_to_the_client_it_was_allowed_to(browser: Instance, web: Web) -> None:
    async with browser.session("not-allowed") as session:
        assert "loopback address" in (await session.call("browser_open", url=web.url())).error


@pytest.mark.feature("B10")
async def test_a_page_that_loops_is_gone_and_the_next_call_says_so(browser: Instance, web: Web) -> None:
    web.body = "<title>loop</title><script>while(1){}</script>"
    async with browser.session("loop", hosts=(web.host,)) as session:
        handle = (await session.call("browser_open")).facts["handle"]
        began = time.monotonic()
        said = await session.call("browser_navigate", handle=handle, url=web.url())
        assert "is gone" in said.error
        assert "open anew" in said.error
        assert time.monotonic() - began < 30
        assert "gone, open anew" in (await session.call("browser_text", handle=handle)).error
        assert (await session.call("browser_open")).facts["url"] == "about:blank"


def descendants(instance: Instance) -> list[psutil.Process]:
    return psutil.Process(instance.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files that every user can pass through."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def none_left(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(10):
        while alive(processes):
            await asyncio.sleep(0.05)


@pytest.mark.feature("B10")
@pytest.mark.feature("B6")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_no_browser_is_left_when_the_service_ends(
    starter: Starter, web: Web, scratch: Path, number: signal.Signals
) -> None:
    instance = starter.start("browser", MCP_DRAIN_DEADLINE_S=1, TMPDIR=scratch)
    async with instance.session(hosts=(web.host,)) as session:
        await session.call("browser_open", url=web.url())
        processes = descendants(instance)
        assert len(processes) > 3
    code = await asyncio.to_thread(instance.end, number)
    assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    await none_left(processes)
    left = left_in(scratch)
    if number is signal.SIGTERM:
        assert left == set()
        return
    # What a killed one could not clean up, the next one does.
    following = starter.start("browser", TMPDIR=scratch)
    await asyncio.to_thread(following.where)
    assert not left & left_in(scratch)
    assert await asyncio.to_thread(following.end) == 0
    assert left_in(scratch) == set()


@pytest.mark.feature("B5")
async def test_a_crashed_browser_is_healed_by_the_next_probe(starter: Starter) -> None:
    instance = starter.start("browser")
    async with instance.session() as session:
        handle = (await session.call("browser_open")).facts["handle"]
        (main,) = [
            process
            for process in descendants(instance)
            if "--remote-debugging-pipe" in process.cmdline() and "--type=" not in " ".join(process.cmdline())
        ]
        main.kill()
        said = await session.call("browser_text", handle=handle)
        assert "gone" in said.error
        assert "open anew" in said.error
        async with asyncio.timeout(20):
            while await instance.ready() != 200:
                await asyncio.sleep(0.1)
        assert (await session.call("browser_open")).facts["url"] == "about:blank"
    await asyncio.to_thread(instance.end)
