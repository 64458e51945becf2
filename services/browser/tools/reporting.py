"""What went on on a page: its console and its requests."""

from typing import Annotated, Literal

from mcp_types import CallToolResult
from pydantic import Field

from services.browser import answers
from services.browser.happenings import LEVELS, Requested
from services.browser.page import OpenPage
from services.browser.pages import OpenPages
from services.browser.shapes import PageError
from services.browser.tools.params import Offset, text_answer
from services.common import HandleParam, Kit

__all__ = ["declare"]

_BODY_BYTES = 5 << 20
_Part = Literal["headers", "request_headers", "request_body", "body"]


def declare(kit: Kit, pages: OpenPages, budget: int) -> None:
    """Declare them; an answer has at most `budget` characters."""

    @kit.tool(title="Console of a page", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_console_messages(
        handle: HandleParam,
        level: Annotated[
            Literal["error", "warning", "info", "debug"], Field(description="This one and the worse ones.")
        ] = "info",
        offset: Offset = 0,
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """The last 200 lines of a page's console, errors nobody caught included."""
        wanted = LEVELS[: LEVELS.index(level) + 1]
        async with pages.used(handle) as page:
            lines = [
                f"[{line.level}] {line.text}" + (f" @ {line.where}" if line.where else "")
                for line in page.happened.console
                if line.level in wanted
            ]
            return text_answer(page, "\n".join(lines) or "(nothing)", offset, budget, "console")

    @kit.tool(title="Requests of a page", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_network_requests(
        handle: HandleParam,
        static: Annotated[bool, Field(description="With images, fonts, scripts and styles that came well.")] = False,
        filter: Annotated[str, Field(max_length=500, description="Part of the URL.")] = "",
        offset: Offset = 0,
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """The last 200 requests of a page, by number, with their outcome."""
        async with pages.used(handle) as page:
            lines = [
                one.line
                for one in page.happened.requests
                if filter in one.request.url and (static or not one.is_static)
            ]
            return text_answer(page, "\n".join(lines) or "(nothing)", offset, budget, "requests")

    @kit.tool(title="One request of a page", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_network_request(
        handle: HandleParam,
        number: Annotated[int, Field(ge=1, description="As browser_network_requests names it.")],
        part: _Part = "headers",
        offset: Offset = 0,
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """Headers or body of a request or of its answer."""
        async with pages.used(handle) as page:
            found = _numbered(page, number)
            text = await page.run(lambda _: _part_of(found, part))
            return text_answer(page, text, offset, budget, f"request {number}, {part},")


def _numbered(page: OpenPage, number: int) -> Requested:
    found = next((one for one in page.happened.requests if one.number == number), None)
    if found is None:
        raise PageError(f"there is no request {number} any more; browser_network_requests lists those there are")
    return found


async def _part_of(found: Requested, part: _Part) -> str:
    if part == "request_headers":
        return f"{found.line}\n{_lines(await found.request.all_headers())}"
    if part == "request_body":
        body = found.request.post_data_buffer or b""
        return body[:_BODY_BYTES].decode("utf-8", "replace") or "(empty)"
    response = found.response
    if response is None:
        raise PageError(f"request {found.number} got no answer: {found.failure}")
    headers = await response.all_headers()
    if part == "headers":
        return f"{found.line}\n{_lines(headers)}"
    size = headers.get("content-length", "0")
    if size.isdecimal() and int(size) > _BODY_BYTES:
        raise PageError(f"the body has {size} bytes, and at most {_BODY_BYTES} can be shown")
    return (await response.body())[:_BODY_BYTES].decode("utf-8", "replace") or "(empty)"


def _lines(headers: dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())
