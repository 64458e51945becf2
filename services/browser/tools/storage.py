"""The group `storage`: cookies and what a site keeps in a page."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import anyio.to_thread
from mcp_types import CallToolResult
from playwright.async_api import Page, StorageState
from pydantic import BaseModel, ConfigDict, Field

from services.browser import answers
from services.browser.page import OpenPage
from services.browser.pages import OpenPages
from services.browser.shapes import PageError
from services.browser.tools.params import text_answer
from services.common import HandleParam, Kit
from services.common.paths import PathError

__all__ = ["declare"]

_Key = Annotated[str, Field(min_length=1, max_length=4096)]
_Value = Annotated[str, Field(max_length=1 << 20)]
_CHARS = 64 << 10
_STATE_BYTES = 8 << 20
_Area = Literal["localStorage", "sessionStorage"]


class NewCookie(BaseModel):
    """A cookie to be set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Key
    value: Annotated[str, Field(max_length=4096)]
    domain: Annotated[str | None, Field(description="The page's own host without.")] = None
    path: str = "/"
    expires_s: Annotated[float | None, Field(description="Unix seconds; with the page without.")] = None
    http_only: bool = False
    secure: bool = False
    same_site: Literal["Lax", "None", "Strict"] = "Lax"


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare them."""
    _cookies_read(kit, pages)
    _cookies_written(kit, pages)
    _local(kit, pages)
    _session(kit, pages)
    _whole(kit, pages)


def _cookies_read(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="List cookies", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_cookie_list(
        handle: HandleParam, domain: Annotated[str, Field(description="Part of it.")] = ""
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """The cookies of a page, as JSON lines."""
        async with pages.used(handle) as page:
            found = await page.run(lambda inner: inner.context.cookies())
            lines = [json.dumps(cookie) for cookie in found if domain in str(cookie.get("domain", ""))]
            return text_answer(page, "\n".join(lines) or "(none)", 0, _CHARS, "cookies")

    @kit.tool(title="Read a cookie", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_cookie_get(handle: HandleParam, name: _Key) -> Annotated[CallToolResult, answers.TextPart]:
        """The cookies of a name, as JSON lines."""
        async with pages.used(handle) as page:
            found = await page.run(lambda inner: inner.context.cookies())
            lines = [json.dumps(cookie) for cookie in found if cookie.get("name") == name]
            return text_answer(page, "\n".join(lines) or "(none)", 0, _CHARS, "cookies")


def _cookies_written(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Set a cookie", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_cookie_set(handle: HandleParam, cookie: NewCookie) -> answers.Done:
        """Set a cookie of the page's host or of another."""
        async with pages.used(handle) as page:
            made = _cookie(cookie, page.url)
            await page.run(lambda inner: inner.context.add_cookies([cast("Any", made)]))
            return answers.Done(notices=page.take_notices())

    @kit.tool(title="Delete a cookie", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_cookie_delete(handle: HandleParam, name: _Key) -> answers.Done:
        """Delete the cookies of a name."""
        async with pages.used(handle) as page:
            await page.run(lambda inner: inner.context.clear_cookies(name=name))
            return answers.Done(notices=page.take_notices())

    @kit.tool(title="Delete all cookies", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_cookie_clear(handle: HandleParam) -> answers.Done:
        """Delete all cookies of a page."""
        async with pages.used(handle) as page:
            await page.run(lambda inner: inner.context.clear_cookies())
            return answers.Done(notices=page.take_notices())


def _cookie(cookie: NewCookie, url: str) -> dict[str, Any]:
    domain = cookie.domain or urlsplit(url).hostname
    if not domain:
        raise PageError("the page has no host; open a URL first, or give a domain")
    made: dict[str, Any] = {
        "name": cookie.name,
        "value": cookie.value,
        "domain": domain,
        "path": cookie.path,
        "httpOnly": cookie.http_only,
        "secure": cookie.secure,
        "sameSite": cookie.same_site,
    }
    if cookie.expires_s is not None:
        made["expires"] = cookie.expires_s
    return made


def _local(kit: Kit, pages: OpenPages) -> None:
    area = _Storage(pages, "localStorage")

    @kit.tool(title="List local storage", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_localstorage_list(handle: HandleParam) -> Annotated[CallToolResult, answers.TextPart]:
        """What the page's site keeps in local storage, as JSON."""
        return await area.listed(handle)

    @kit.tool(title="Read local storage", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_localstorage_get(handle: HandleParam, key: _Key) -> Annotated[CallToolResult, answers.TextPart]:
        """What a key holds in local storage."""
        return await area.got(handle, key)

    @kit.tool(title="Write local storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_localstorage_set(handle: HandleParam, key: _Key, value: _Value) -> answers.Done:
        """Put a value into local storage."""
        return await area.changed(handle, "setItem", key, value)

    @kit.tool(title="Delete from local storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_localstorage_delete(handle: HandleParam, key: _Key) -> answers.Done:
        """Delete a key of local storage."""
        return await area.changed(handle, "removeItem", key)

    @kit.tool(title="Empty local storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_localstorage_clear(handle: HandleParam) -> answers.Done:
        """Delete all of local storage of the page's site."""
        return await area.changed(handle, "clear")


def _session(kit: Kit, pages: OpenPages) -> None:
    area = _Storage(pages, "sessionStorage")

    @kit.tool(title="List session storage", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_sessionstorage_list(handle: HandleParam) -> Annotated[CallToolResult, answers.TextPart]:
        """What the page's site keeps in session storage, as JSON."""
        return await area.listed(handle)

    @kit.tool(title="Read session storage", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_sessionstorage_get(handle: HandleParam, key: _Key) -> Annotated[CallToolResult, answers.TextPart]:
        """What a key holds in session storage."""
        return await area.got(handle, key)

    @kit.tool(title="Write session storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_sessionstorage_set(handle: HandleParam, key: _Key, value: _Value) -> answers.Done:
        """Put a value into session storage."""
        return await area.changed(handle, "setItem", key, value)

    @kit.tool(title="Delete from session storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_sessionstorage_delete(handle: HandleParam, key: _Key) -> answers.Done:
        """Delete a key of session storage."""
        return await area.changed(handle, "removeItem", key)

    @kit.tool(title="Empty session storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_sessionstorage_clear(handle: HandleParam) -> answers.Done:
        """Delete all of session storage of the page's site."""
        return await area.changed(handle, "clear")


class _Storage:
    """One of a page's two stores of keys and values."""

    def __init__(self, pages: OpenPages, area: _Area) -> None:
        self._pages = pages
        self._area = area

    async def listed(self, handle: str) -> CallToolResult:
        async with self._pages.used(handle) as page:
            found = await self._evaluated(page, "(storage) => ({...storage})")
            return text_answer(page, json.dumps(found, ensure_ascii=False), 0, _CHARS, self._area)

    async def got(self, handle: str, key: str) -> CallToolResult:
        async with self._pages.used(handle) as page:
            found = await self._evaluated(page, "(storage, [key]) => storage.getItem(key)", key)
            if found is None:
                raise PageError(f"{self._area} of this page has no key {key[:100]!r}")
            return text_answer(page, str(found), 0, _CHARS, self._area)

    async def changed(self, handle: str, method: str, *arguments: str) -> answers.Done:
        async with self._pages.used(handle) as page:
            await self._evaluated(page, f"(storage, given) => {{ storage.{method}(...given) }}", *arguments)
            return answers.Done(notices=page.take_notices())

    async def _evaluated(self, page: OpenPage, function: str, *arguments: str) -> object:
        script = f"(given) => ({function})(window.{self._area}, given)"
        return await page.run(lambda inner: inner.evaluate(script, list(arguments)))


def _whole(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Save cookies and storage", idempotent=True, deadline_s=pages.deadline_s)
    async def browser_storage_state(
        handle: HandleParam, filename: Annotated[str, Field(max_length=200)] = "storage.json"
    ) -> answers.FileInfo:
        """Save cookies and local storage among the page's files, to be put into another page."""
        async with pages.used(handle) as page:
            state = await page.run(lambda inner: inner.context.storage_state())
            data = json.dumps(state, ensure_ascii=False).encode()
            saved = await anyio.to_thread.run_sync(page.files.save, filename, data)
            return answers.FileInfo(path=saved.path, size_bytes=saved.size_bytes)

    @kit.tool(title="Take cookies and storage", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_set_storage_state(
        handle: HandleParam,
        path: Annotated[str | None, Field(description="A file of the page or of the upload folders.")] = None,
        state: Annotated[dict[str, Any] | None, Field(description="As browser_storage_state wrote it.")] = None,
    ) -> answers.Done:
        """Put saved cookies and local storage in the place of those of a page."""
        async with pages.used(handle) as page:
            given = state if state is not None else await _read(pages, page, path)
            await page.run(_putting(given))
            return answers.Done(notices=page.take_notices())


async def _read(pages: OpenPages, page: OpenPage, path: str | None) -> dict[str, Any]:
    if path is None:
        raise PageError("give path or state")
    roots = pages.roots()
    (file,) = await page.run(lambda _: anyio.to_thread.run_sync(page.files.uploads, [path], roots))
    try:
        found = json.loads(file.data[:_STATE_BYTES])
    except ValueError as error:
        raise PathError(f"{path[:200]} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise PathError(f"{path[:200]} holds no saved cookies and storage")
    return found


def _putting(state: dict[str, Any]) -> Callable[[Page], Awaitable[None]]:
    async def put(inner: Page) -> None:
        try:
            await inner.context.set_storage_state(cast("StorageState", state))
        except (TypeError, KeyError, AttributeError) as error:
            raise PageError("that is not what browser_storage_state wrote") from error

    return put
