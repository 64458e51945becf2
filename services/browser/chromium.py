"""The browser process: started, watched, started anew, ended.

Invariants: Chromium's sandbox is on and it is not root, unless a setting says otherwise; its own traffic goes nowhere;
no Chromium outlives this process, however this process ends; a browser that died or does not answer is replaced on the
next `ready`, and pages of the old one never come back.
"""

import asyncio
import os
import pwd
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import playwright
import psutil
from playwright.async_api import Browser, CDPSession, Error, Playwright, async_playwright

from services.browser.workdir import WorkDir, work_dir
from services.common.addresses import Policy
from services.common.egress import Direct, Egress

__all__ = ["Chromium", "ChromiumError", "Launch"]

_WRAPPER = Path(__file__).with_name("chromium.sh")
_DRIVER = Path(__file__).with_name("driver.sh")
_LAUNCH_S = 30.0
_HUNG_S = 10.0  # a browser under load answers late, and to replace it costs every open page
_STOP_S = 5.0
_ARGUMENTS = (
    # A closed network stays quiet, and nothing goes past the proxy: no QUIC, no UDP of WebRTC, no names resolved.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-crash-reporter",
)
# Playwright's choice for tests, which have Chromium for themselves: a page that navigates a thousand times a second
# then keeps every other page waiting.
_NOT_SO = ("--disable-ipc-flooding-protection",)


class ChromiumError(Exception):
    """The browser does not run; the text says why and what to do."""


@dataclass(frozen=True)
class Launch:
    """How to start the browser.

    Args:
        executable: Chromium.
        user: Whom it runs under when this process is root.
        sandbox: Whether its sandbox is on.
    """

    executable: Path
    user: str
    sandbox: bool = True

    def account(self) -> pwd.struct_passwd | None:
        """The account to change to, None when this process is not root.

        Raises:
            ChromiumError: There is no such user.
        """
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            raise ChromiumError(
                f"there is no user {self.user!r} for the browser to run under; name one that is not root"
            ) from None


class Chromium:
    """The browser of one instance. Made by `Chromium.running`.

    Args:
        launch: How to start it.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._replacing: asyncio.Task[Browser] | None = None
        self._asking: asyncio.Task[bool] | None = None
        self._life = AsyncExitStack()
        self._dir: WorkDir | None = None
        self._browser: Browser | None = None
        self._session: CDPSession | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, launch: Launch) -> AsyncIterator["Chromium"]:
        """Running when the block begins, gone when it ends.

        Raises:
            ChromiumError: It cannot be started.
        """
        chromium = cls(launch)
        try:
            await chromium.ready()
            yield chromium
        finally:
            await chromium._end()

    @property
    def home(self) -> Path | None:
        """The folder it runs in, by which its processes are known; None while it does not run."""
        return self._dir.home if self._dir else None

    @property
    def files(self) -> Path:
        """The folder for its pages' files.

        Raises:
            ChromiumError: It does not run.
        """
        if self._dir is None:
            raise ChromiumError("the browser does not run; try again")
        return self._dir.files

    async def ready(self) -> Browser:
        """A browser that answers; started anew when there is none.

        A start goes on when its caller is cancelled: a probe that cannot wait must not keep a browser from coming.

        Raises:
            ChromiumError: It cannot be started.
        """
        browser = self._browser
        if browser is not None and await self._answers(browser):
            return browser
        if self._browser is not browser:
            return await self.ready()  # somebody else has replaced it meanwhile
        if self._replacing is None or self._replacing.done():
            self._replacing = asyncio.create_task(self._replace())
        return await asyncio.shield(self._replacing)

    async def _answers(self, browser: Browser) -> bool:
        if self._session is None or not browser.is_connected():
            return False
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(_asked(self._session))
        return await asyncio.shield(self._asking)

    async def _replace(self) -> Browser:
        await self._stop(force=True)
        return await self._start()

    async def _end(self) -> None:
        for task in (self._replacing, self._asking):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        await self._stop()

    async def _start(self) -> Browser:
        account = self._launch.account()
        made = await anyio.to_thread.run_sync(self._life.enter_context, work_dir(account))
        self._dir = made
        nowhere = await self._life.enter_async_context(Egress.open(Direct(Policy(closed=True))))
        driver = await self._life.enter_async_context(_driver(made))
        try:
            async with asyncio.timeout(_LAUNCH_S):
                self._browser = await self._launched(driver, made, nowhere, account)
                self._session = await self._browser.new_browser_cdp_session()
        except (Error, TimeoutError) as error:
            await self._stop(force=True)
            raise ChromiumError(_launch_problem(self._launch, error)) from error
        return self._browser

    async def _launched(
        self, driver: Playwright, made: WorkDir, nowhere: Egress, account: pwd.struct_passwd | None
    ) -> Browser:
        groups = f"--reuid={account.pw_uid} --regid={account.pw_gid} --clear-groups" if account else ""
        return await driver.chromium.launch(
            executable_path=_WRAPPER,
            chromium_sandbox=self._launch.sandbox,
            proxy={"server": f"http://127.0.0.1:{nowhere.port}"},
            args=_ARGUMENTS,
            ignore_default_args=_NOT_SO,
            downloads_path=made.downloads,
            # Nothing of this process's environment: Chromium gets none of its secrets.
            env={
                "TEKUP_CHROMIUM": str(self._launch.executable),
                "TEKUP_SETPRIV": groups,
                "HOME": str(made.home),
                "TMPDIR": str(made.home),
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
            },
            # This process stops the browser itself, in its own order.
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )

    async def _stop(self, *, force: bool = False) -> None:
        """End what runs, at once with `force`; closes everything that `_start` opened."""
        browser, self._browser, self._session = self._browser, None, None
        if browser is not None and not force:
            with suppress(Error, TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await browser.close()
        if self._dir is not None:
            await anyio.to_thread.run_sync(_kill_browser, self._dir.home)
            self._dir = None
        await self._life.aclose()


async def _asked(session: CDPSession) -> bool:
    try:
        async with asyncio.timeout(_HUNG_S):
            await session.send("Browser.getVersion")
    except (Error, TimeoutError):
        return False
    return True


@asynccontextmanager
async def _driver(made: WorkDir) -> AsyncIterator[Playwright]:
    """Playwright's own process: its temporary files lie in ours, and it ends with this process."""
    bundled = Path(playwright.__file__).parent / "driver" / "node"
    node = os.environ.get("PLAYWRIGHT_NODEJS_PATH", str(bundled))
    manager = async_playwright()
    # It takes a copy of the environment when it starts, and has no other way to be told.
    with _environment(TMPDIR=str(made.driver), PLAYWRIGHT_NODEJS_PATH=str(_DRIVER), TEKUP_NODE=node):
        driver = await manager.start()
    try:
        yield driver
    finally:
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await driver.stop()


@contextmanager
def _environment(**changed: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _kill_browser(home: Path) -> None:
    """Kill whatever still runs in `home`."""
    mark = f"--user-data-dir={home}"
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if mark in process.cmdline():
                process.kill()


def _launch_problem(launch: Launch, error: Exception) -> str:
    said = str(error)
    if "sandbox" in said.lower() and launch.sandbox:
        return (
            f"{launch.executable} cannot start its sandbox here: allow unprivileged user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1, or a seccomp profile that permits them), "
            "or accept the risk with MCP_ENABLE_SANDBOX=false"
        )
    if isinstance(error, TimeoutError):
        return f"{launch.executable} did not start within {_LAUNCH_S:.0f} s"
    own = re.search(r"\[err\] (.+)", said)
    reason = own[1] if own else said.partition("\n")[0]
    return f"{launch.executable} did not start{_as_whom(launch)}: {reason}"


def _as_whom(launch: Launch) -> str:
    return f" as user {launch.user!r}" if os.geteuid() == 0 else ""
