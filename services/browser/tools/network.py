"""The group `network`: requests of a page answered by the caller, and the network cut off."""

import json
from typing import Annotated, Literal

from playwright.async_api import Page, Route
from pydantic import Field

from services.browser import answers
from services.browser.pages import OpenPages, answer_of
from services.browser.patterns import PatternError, of_url
from services.browser.shapes import PageError, Routed
from services.common import HandleParam, Kit, ToolError

__all__ = ["declare"]

_ROUTES = 50
_Pattern = Annotated[str, Field(min_length=1, max_length=500, description="A glob over URLs, as **/api/*.")]


class _Answering:
    """Answers requests, or changes their headers and lets them go the page's own way."""

    def __init__(
        self,
        status: int | None,
        body: str | None,
        content_type: str,
        headers: dict[str, str],
        removed: list[str],
    ) -> None:
        self._status = status
        self._body = body
        self._content_type = content_type
        self._headers = headers
        self._removed = {name.lower() for name in removed}

    async def __call__(self, route: Route) -> None:
        if self._status is not None or self._body is not None:
            await route.fulfill(
                status=self._status or 200,
                body=self._body or "",
                content_type=self._content_type,
                headers=self._headers,
            )
            return
        kept = {name: value for name, value in route.request.headers.items() if name.lower() not in self._removed}
        await route.continue_(headers={**kept, **self._headers})


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare them."""
    _routes(kit, pages)

    @kit.tool(title="Cut off the network", idempotent=True, open_world=True, deadline_s=pages.deadline_s)
    async def browser_network_state_set(handle: HandleParam, state: Literal["online", "offline"]) -> answers.PageState:
        """Make a page believe that there is no network, or give it back."""

        async def switch(inner: Page) -> None:
            await inner.context.set_offline(state == "offline")

        async with pages.used(handle) as page:
            await page.run(switch)
            return answer_of(handle, await page.state())


def _routes(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Answer requests of a page", open_world=True, deadline_s=pages.deadline_s)
    async def browser_route(
        handle: HandleParam,
        pattern: _Pattern,
        status: Annotated[int | None, Field(ge=200, le=599, description="Answered with.")] = None,
        body: Annotated[str | None, Field(max_length=200_000)] = None,
        content_type: Annotated[str, Field(max_length=200)] = "text/plain",
        headers: Annotated[dict[str, str] | None, Field(description="Of the answer, or added to the request.")] = None,
        remove_headers: Annotated[list[str] | None, Field(description="Of the request.")] = None,
    ) -> answers.Routes:
        """Answer a page's requests to some URLs yourself, or change their headers; where they may go stays the same."""
        answering = _Answering(status, body, content_type, headers or {}, remove_headers or [])
        does = json.dumps({"status": status, "headers": headers, "remove_headers": remove_headers})
        try:
            routed = Routed(does, of_url(pattern))
        except PatternError as error:
            raise ToolError(str(error)) from error
        async with pages.used(handle) as page:
            if len(page.routes) >= _ROUTES and pattern not in page.routes:
                raise PageError(f"the page has {_ROUTES} routes, the most it may; browser_unroute takes some away")

            async def add(inner: Page) -> None:
                if pattern in page.routes:
                    await inner.context.unroute(page.routes[pattern].matches)
                await inner.context.route(routed.matches, answering)

            await page.run(add)
            page.routes[pattern] = routed
            return _listed(page.routes)

    @kit.tool(title="List routes", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_route_list(handle: HandleParam) -> answers.Routes:
        """Which requests of a page are answered or changed."""
        async with pages.used(handle) as page:
            return _listed(page.routes)

    @kit.tool(title="Take routes away", idempotent=True, deadline_s=pages.deadline_s)
    async def browser_unroute(
        handle: HandleParam,
        pattern: Annotated[str | None, Field(max_length=500, description="All of them without.")] = None,
    ) -> answers.Routes:
        """Let a page's requests go their way again."""
        async with pages.used(handle) as page:
            gone = [one for one in page.routes if pattern in (None, one)]

            async def remove(inner: Page) -> None:
                for one in gone:
                    await inner.context.unroute(page.routes[one].matches)

            await page.run(remove)
            for one in gone:
                del page.routes[one]
            return _listed(page.routes)


def _listed(routes: dict[str, Routed]) -> answers.Routes:
    return answers.Routes(routes=tuple(answers.RouteInfo(pattern=name, does=one.does) for name, one in routes.items()))
