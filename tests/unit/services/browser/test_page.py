"""Pages in the real Chromium: what they do, and what they cannot do."""

import asyncio
import os
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from playwright.async_api import Locator

from services.browser import shots, views
from services.browser.chromium import Chromium, ChromiumError, Launch
from services.browser.page import OpenPage
from services.browser.shapes import Limits, PageError, PageGone
from services.common.addresses import HostRule, Policy
from services.common.egress import Direct, Through
from services.common.egress.gateway import Gateway
from services.common.egress.passes import made_pass
from services.common.signing import Keyring

if TYPE_CHECKING:
    from tests.unit.services.browser.conftest import Web

pytestmark = [pytest.mark.feature("B1"), pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

SHORT = Limits(navigation_s=4, action_s=3, settle_s=1, call_s=6)


@asynccontextmanager
async def page_on(chromium: Chromium, *allowed: str, limits: Limits = SHORT) -> AsyncIterator[OpenPage]:
    way = Direct(Policy(frozenset(map(HostRule.of, allowed))))
    browser = await chromium.ready()
    page = await OpenPage.opened(browser, way, limits, chromium.files / secrets.token_hex(4))
    try:
        yield page
    finally:
        await page.close()


async def tree_of(page: OpenPage, **wanted: Any) -> str:
    return "\n".join(await page.run(lambda inner: views.snapshot(inner, views.Tree(**wanted), 2)))


async def shot_of(page: OpenPage, **wanted: Any) -> shots.Shot:
    return await page.run(lambda inner: shots.shot(inner, page.tab.session, shots.Wanted(**wanted)))


async def text_of(page: OpenPage) -> str:
    return await page.run(lambda inner: views.visible_text(inner, None, 3))


async def click(element: Locator, limit_ms: float) -> None:
    await element.click(timeout=limit_ms)


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = 10) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.05)


def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def chromiums(kind: str = "chrom") -> list[psutil.Process]:
    """Living processes of the browsers this process started, those whose command line holds `kind`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name() and kind in " ".join(process.cmdline()):
                found.append(process)
    return found


def main_process(chromium: Chromium) -> psutil.Process:
    (main,) = [
        found for found in chromiums(f"--user-data-dir={chromium.home}") if "--type=" not in str(found.cmdline())
    ]
    return main


async def test_a_page_is_read_clicked_and_typed_into(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of(
        "<h1>Form</h1><form action=/done><input aria-label=Name name=q><button type=button "
        "onclick=\"document.title='clicked'\">Press</button></form>"
    )
    web.pages["/done"] = web.page_of("<p>thanks</p>")
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        await page.navigate(web.url())
        tree = await tree_of(page)
        button = re.search(r'button "Press" \[(\w+)\]', tree)
        field = re.search(r'textbox "Name" \[(\w+)\]', tree)
        assert button
        assert field
        await page.act(button[1], click)
        assert (await page.state()).title == "clicked"

        async def fill(element: Locator, limit_ms: float) -> None:
            await element.fill("æøå", timeout=limit_ms)
            await element.press("Enter", timeout=limit_ms)

        await page.act(field[1], fill)
        state = await page.state()
        assert state.url == web.url("/done?q=%C3%A6%C3%B8%C3%A5")
        assert await text_of(page) == "thanks"
        assert state.notices == ()


async def test_a_picture_has_the_size_of_the_window_or_a_bounded_page(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("<div style='height:20000px;background:linear-gradient(red,blue)'></div>")
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        window = await shot_of(page)
        whole = await shot_of(page, full_page=True, size_bytes=3 << 20)
    for taken, height, cut in ((window, 800, False), (whole, 8000, True)):
        assert taken.image.startswith(b"\x89PNG")
        assert (taken.width, taken.height, taken.cut) == (1280, height, cut)
        assert int.from_bytes(taken.image[16:20], "big") == 1280
        assert int.from_bytes(taken.image[20:24], "big") == height


@pytest.mark.parametrize(
    "way",
    [
        "<iframe src='{inner}'></iframe>",
        "<img src='{inner}'>",
        "<script>fetch('{inner}', {{mode: 'no-cors'}})</script>",
        "<script>new WebSocket('{inner}'.replace('http', 'ws'))</script>",
        "<script>new EventSource('{inner}')</script>",
        "<script>navigator.sendBeacon('{inner}')</script>",
        "<script>window.open('{inner}')</script>",
        "<meta http-equiv=refresh content='0;url={inner}'>",
        "<link rel=prefetch href='{inner}'><link rel=preconnect href='{inner}'><link rel=dns-prefetch href='{inner}'>",
        "<script>new Worker(URL.createObjectURL(new Blob([\"fetch('{inner}')\"])))</script>",
        "<form action='{inner}' method=post></form><script>document.forms[0].submit()</script>",
        "<object data='{inner}'></object><embed src='{inner}'>",
        "<script>new RTCPeerConnection({{iceServers: [{{urls: 'turn:127.0.0.1:{port}?transport=tcp', username: 'x',"
        " credential: 'x'}}]}}).createDataChannel('x')</script>",
    ],
)
async def test_no_way_from_a_page_leads_to_a_private_address(
    chromium: Chromium, web: "Web", inner: "Web", way: str
) -> None:
    web.pages["/"] = web.page_of(way.format(inner=inner.url(), port=inner.port) + "<p>here</p><img src=/last>")
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        seen = list((await page.navigate(web.url())).notices)
        if "RTC" not in way:
            # The page has asked, and been told no.

            async def refused() -> bool:
                seen.extend((await page.state()).notices)
                return any(str(inner.port) in notice for notice in seen)

            await until(refused)


async def test_a_service_worker_has_no_other_way_out(chromium: Chromium, web: "Web", inner: "Web") -> None:
    code = f"oninstall = () => fetch('{inner.url()}', {{mode: 'no-cors'}})".encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: %d\r\n\r\n" % len(code)
    web.pages["/worker.js"] = head + code
    web.pages["/"] = web.page_of("<script>navigator.serviceWorker.register('/worker.js')</script>")
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        seen = list((await page.navigate(web.url())).notices)

        async def refused() -> bool:
            seen.extend((await page.state()).notices)
            return any(f"127.0.0.1:{inner.port} was refused" in notice for notice in seen)

        await until(refused, 20)


async def test_a_page_works_through_the_egress_process_and_is_told_its_refusals(
    chromium: Chromium, web: "Web", inner: "Web"
) -> None:
    key, policy = b"k" * 32, Policy(frozenset({HostRule.of(f"127.0.0.1:{web.port}")}))
    web.pages["/"] = web.page_of(f"<p>here</p><script>new WebSocket('ws://127.0.0.1:{inner.port}/')</script>")
    gateway = Gateway(Keyring((key,)))
    async with gateway.open("127.0.0.1", 0):
        way = Through("127.0.0.1", gateway.port, lambda: made_pass(key, "ci", policy, time.time()))
        page = await OpenPage.opened(await chromium.ready(), way, SHORT, chromium.files / "through")
        try:
            seen = list((await page.navigate(web.url())).notices)
            assert await text_of(page) == "here"
            with pytest.raises(PageError, match=f"127.0.0.1:{inner.port} has a loopback address"):
                await page.navigate(inner.url())

            async def refused() -> bool:
                seen.extend((await page.state()).notices)
                return any(str(inner.port) in notice for notice in seen)

            seen.extend((await page.navigate(web.url())).notices)
            await until(refused)
        finally:
            await page.close()


async def test_webrtc_sends_no_udp_past_the_proxy(chromium: Chromium, web: "Web") -> None:
    loop = asyncio.get_running_loop()
    got: list[bytes] = []

    class Stun(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            got.append(data)

    transport, _ = await loop.create_datagram_endpoint(Stun, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    web.pages["/"] = web.page_of(
        f"<script>const p = new RTCPeerConnection({{iceServers: [{{urls: 'stun:127.0.0.1:{port}'}}]}});"
        "p.createDataChannel('x'); p.onicegatheringstatechange = () => document.title = p.iceGatheringState;"
        "p.createOffer().then(o => p.setLocalDescription(o))</script>"
    )
    try:
        async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
            await page.navigate(web.url())

            async def gathered() -> bool:
                return (await page.state()).title == "complete"

            await until(gathered)
    finally:
        transport.close()
    assert got == []


async def test_a_private_address_is_refused_with_the_reason(chromium: Chromium, web: "Web", inner: "Web") -> None:
    web.pages["/redirect"] = web.redirect_to(inner.url())
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        for url in (
            inner.url(),
            web.url("/redirect"),
            f"http://localhost:{inner.port}/",
            f"https://127.1:{inner.port}/",
        ):
            with pytest.raises(PageError, match="has a loopback address"):
                await page.navigate(url)
        with pytest.raises(PageError, match="does not resolve"):
            await page.navigate("http://nothing.invalid/")
    free = unused_port()
    async with page_on(chromium, f"127.0.0.1:{free}") as page:
        with pytest.raises(PageError, match=f"127.0.0.1:{free} could not be reached: connection refused"):
            await page.navigate(f"http://127.0.0.1:{free}/")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "view-source:file:///etc/passwd", "chrome://version"])
async def test_a_page_cannot_leave_the_web(chromium: Chromium, web: "Web", url: str) -> None:
    web.pages["/"] = web.page_of(f"<a href='{url}'>go</a><iframe src='{url}'></iframe>")
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        await page.act("a", click)
        state = await page.state()
        assert state.url.startswith((web.url(), "about:blank"))
        tree = await tree_of(page)
        assert "root:" not in tree
    # Should one get out all the same, it is closed.
    async with page_on(chromium) as page:
        with pytest.raises(PageGone, match="pages may not"):
            await page.navigate(url)


@pytest.mark.feature("B10")
@pytest.mark.parametrize(
    "body", ["<script>while(1){}</script>", "<button onclick='while(1){}'>hang</button>"], ids=["loading", "clicked"]
)
async def test_a_page_that_loops_is_gone_by_the_deadline_and_others_notice_nothing(
    chromium: Chromium, web: "Web", body: str
) -> None:
    web.pages["/loop"] = web.page_of(body)
    web.pages["/"] = web.page_of("fine")

    async def loop(page: OpenPage) -> None:
        await page.navigate(web.url("/loop"))
        await page.act("button", click)
        await page.state()

    async with page_on(chromium, "127.0.0.1") as looping, page_on(chromium, "127.0.0.1") as other:
        began = time.monotonic()
        stuck = asyncio.create_task(loop(looping))
        while not stuck.done():
            await other.navigate(web.url())
            assert await text_of(other) == "fine"
        with pytest.raises(PageGone):
            await stuck
        assert time.monotonic() - began < 30
        with pytest.raises(PageGone):
            await looping.navigate(web.url())
        assert await text_of(other) == "fine"


@pytest.mark.feature("B10")
async def test_a_page_that_never_comes_is_an_error_and_the_page_goes_on(chromium: Chromium, web: "Web") -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    web.pages["/never"] = never
    web.pages["/"] = web.page_of("fine")
    async with page_on(chromium, "127.0.0.1") as page:
        with pytest.raises(PageError, match="did not load within 4 s"):
            await page.navigate(web.url("/never"))
        await page.navigate(web.url())
        assert await text_of(page) == "fine"


async def test_what_an_earlier_page_was_refused_is_not_blamed_for_another_failure(
    chromium: Chromium, web: "Web", inner: "Web"
) -> None:
    web.pages["/inner"] = web.redirect_to(inner.url())
    web.pages["/round"] = web.redirect_to(web.url("/round"))
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        with pytest.raises(PageError, match=f"127.0.0.1:{inner.port} has a loopback address"):
            await page.navigate(web.url("/inner"))
        with pytest.raises(PageError, match="ERR_TOO_MANY_REDIRECTS"):
            await page.navigate(web.url("/round"))


async def test_calls_at_once_each_tell_of_their_own_page(chromium: Chromium, web: "Web", inner: "Web") -> None:
    for name in ("a", "b", "c"):
        web.pages[f"/{name}"] = web.page_of(f"<title>{name}</title>")
    web.pages["/inner"] = web.redirect_to(inner.url())
    async with page_on(chromium, f"127.0.0.1:{web.port}") as page:
        for _ in range(5):
            paths = ("/a", "/inner", "/b", "/inner", "/c")
            ended = await asyncio.gather(*(page.navigate(web.url(path)) for path in paths), return_exceptions=True)
            for path, state in zip(paths, ended, strict=True):
                if path == "/inner":
                    assert isinstance(state, PageError)
                    assert "has a loopback address" in str(state)
                else:
                    assert not isinstance(state, BaseException)
                    assert (state.url, state.status, state.notices) == (web.url(path), 200, ())


async def test_a_title_is_no_way_around_the_bounds(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of(f"<script>document.title = {'x' * 500_000!r}</script>")
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        assert (await page.state()).title == "x" * 300 + "…"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_failed_navigation_does_not_reach_into_the_next_call(
    chromium: Chromium, web: "Web", scheme: str
) -> None:
    web.pages["/"] = web.page_of("<p>here</p>")
    unsafe = f"{scheme}://127.0.0.1:1/"  # Chromium refuses this port itself, and shows its own error page
    async with page_on(chromium, "127.0.0.1") as page:
        for _ in range(10):
            with pytest.raises(PageError, match=r"127\.0\.0\.1:1"):
                await page.navigate(unsafe)
            assert (await page.state()).url == "chrome-error://chromewebdata/"
            await page.navigate(web.url())
            assert await text_of(page) == "here"


async def test_what_happens_beside_a_call_is_told_and_stops_nothing(chromium: Chromium, web: "Web") -> None:
    web.pages["/file"] = b"HTTP/1.1 200 OK\r\nContent-Disposition: attachment\r\nContent-Length: 3\r\n\r\nabc"
    web.pages["/"] = web.page_of(
        "<script>alert('one'); confirm('two'); window.open('about:blank')</script><a href=/file>file</a>"
    )
    async with page_on(chromium, "127.0.0.1") as page:
        seen = list((await page.navigate(web.url())).notices)
        seen.extend((await page.act("a", click)).notices)

        async def told() -> bool:
            seen.extend((await page.state()).notices)
            said = "\n".join(seen)
            return all(part in said for part in ("'one'", "'two'", "opened a window", "downloaded /page/file.txt (3"))

        await until(told)


async def test_a_bad_target_is_an_error_that_names_it(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("<button>a</button><button>b</button>")
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        for target in ("e9999", "#missing"):
            with pytest.raises(PageError, match=target):
                await page.act(target, click)
        with pytest.raises(PageError, match="strict mode violation"):
            await page.act("button", click)
        with pytest.raises(PageError):
            await page.act(">>> not a selector <<<", click)


async def test_contexts_share_nothing(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("<script>document.title = document.cookie; document.cookie = 'a=1'</script>")
    async with page_on(chromium, "127.0.0.1") as one, page_on(chromium, "127.0.0.1") as two:
        for page in (one, two):
            await page.navigate(web.url())
            assert (await page.state()).title == ""
        await one.navigate(web.url())
        assert (await one.state()).title == "a=1"


def sandboxed(process: psutil.Process) -> bool:
    about = Path(f"/proc/{process.pid}")
    filtered = re.search(r"^Seccomp:\s+2$", (about / "status").read_text(), re.MULTILINE) is not None
    return filtered and (about / "ns/user").readlink() != Path("/proc/self/ns/user").readlink()


@pytest.mark.feature("E3")
async def test_the_sandbox_is_on_and_the_browser_is_not_root(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("fine")
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        renderers = chromiums("--type=renderer")
        assert renderers
        assert all(map(sandboxed, renderers))
        for process in chromiums():
            assert "--no-sandbox" not in process.cmdline()
            assert process.uids().real != 0
            assert not any(name.startswith("MCP_") for name in process.environ())


@pytest.mark.feature("B10")
async def test_a_browser_that_crashed_is_replaced_and_its_pages_are_gone(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("fine")
    async with page_on(chromium, "127.0.0.1") as old:
        await old.navigate(web.url())
        main = main_process(chromium)
        main.kill()
        async with page_on(chromium, "127.0.0.1") as new:
            await new.navigate(web.url())
            assert await text_of(new) == "fine"
        with pytest.raises(PageGone):
            await old.state()
    assert main.pid not in [found.pid for found in chromiums()]


@pytest.mark.feature("B10")
async def test_a_browser_that_hangs_or_lost_its_driver_is_replaced(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("fine")
    main = main_process(chromium)
    main.send_signal(signal.SIGSTOP)
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
    assert main.pid not in [found.pid for found in chromiums()]
    (driver,) = [child for child in psutil.Process().children() if "run-driver" in child.cmdline()]
    driver.kill()
    async with page_on(chromium, "127.0.0.1") as page:
        await page.navigate(web.url())
        assert await text_of(page) == "fine"


@pytest.mark.feature("B10")
async def test_a_renderer_that_crashed_costs_only_its_page(chromium: Chromium, web: "Web") -> None:
    web.pages["/"] = web.page_of("fine")
    async with page_on(chromium, "127.0.0.1") as page, page_on(chromium, "127.0.0.1") as other:
        await other.navigate(web.url())
        session = await page.run(lambda inner: inner.context.new_cdp_session(inner))
        crash = asyncio.create_task(session.send("Page.crash"))

        async def noticed() -> bool:
            return page.gone != ""

        await until(noticed)
        crash.cancel()
        with pytest.raises(PageGone, match="crashed"):
            await page.state()
        assert await text_of(other) == "fine"


@pytest.fixture
def fake() -> Iterator[Path]:
    """A browser that ends at once, where every user can run it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Path(folder, "chromium")
        made.write_text("#!/bin/sh\necho 'No usable sandbox! ...' >&2\nexit 1\n")
        made.chmod(0o755)
        yield made


async def test_a_browser_that_cannot_start_says_why(fake: Path) -> None:
    with pytest.raises(ChromiumError, match=r"(as user 'nobody'|did not start): No usable sandbox"):
        async with Chromium.running(Launch(fake, "nobody", sandbox=False)):
            pass
    with pytest.raises(ChromiumError, match=r"sandbox.*MCP_ENABLE_SANDBOX=false"):
        async with Chromium.running(Launch(fake, "nobody")):
            pass
    if os.geteuid() == 0:
        with pytest.raises(ChromiumError, match="no user 'nobody-here'"):
            async with Chromium.running(Launch(fake, "nobody-here")):
                pass


async def test_nothing_is_left_when_the_browser_is_stopped(chromium: Chromium) -> None:
    before = {found.pid for found in chromiums()}
    async with Chromium.running(Launch(Path("/usr/bin/chromium"), "nobody")) as second:
        await second.ready()
        mine = [found for found in chromiums() if found.pid not in before]
        homes = set(re.findall(r"/\S*/tekup-browser-\w+", " ".join(str(found.cmdline()) for found in mine)))
        assert homes

    async def all_gone() -> bool:
        return {found.pid for found in chromiums()} <= before

    await until(all_gone)
    assert not any(map(os.path.exists, homes))
