"""Code of callers: only where the operator allows it (`MCP_BROWSER_ALLOW_CODE`).

`browser_evaluate` runs in the page and can do what its script can. `browser_run_code` runs in the service itself:
whoever may use it can do all that the service can.
"""

import ast
import json
import textwrap
from typing import Annotated, Any

from mcp_types import CallToolResult
from playwright.async_api import Error, Page
from pydantic import Field

from services.browser import answers
from services.browser.pages import OpenPages
from services.browser.shapes import PageError, located
from services.browser.tools.params import MaybeTarget, text_answer
from services.common import HandleParam, Kit, ToolError

__all__ = ["declare"]

_Code = Annotated[str, Field(min_length=1, max_length=100_000)]


def declare(kit: Kit, pages: OpenPages, budget: int) -> None:
    """Declare them; an answer has at most `budget` characters."""

    @kit.tool(title="Run script in a page", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_evaluate(
        handle: HandleParam,
        function: Annotated[_Code, Field(description="() => value, or (element) => value with a target.")],
        target: MaybeTarget = None,
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """Run JavaScript in a page; its value comes back as JSON."""

        async def work(inner: Page) -> object:
            if target is None:
                return await inner.evaluate(function)
            return await located(inner, target).evaluate(function, timeout=1000 * page.limits.action_s)

        async with pages.used(handle) as page:
            value = await page.run(work)
            return text_answer(page, json.dumps(value, ensure_ascii=False, default=str), 0, budget, "value")

    @kit.tool(title="Run Playwright code", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_run_code(
        handle: HandleParam,
        code: Annotated[_Code, Field(description="The body of an async Python function that has `page`.")],
    ) -> Annotated[CallToolResult, answers.TextPart]:
        """Run Playwright code (Python, async) on a page; what it returns comes back as JSON."""
        try:
            tree = ast.parse(f"async def run(page):\n{textwrap.indent(code, '    ')}\n")
        except SyntaxError as error:
            raise ToolError(f"the code has an error in line {(error.lineno or 1) - 1}: {error.msg}") from error
        namespace: dict[str, Any] = {}
        exec(compile(tree, "<code>", "exec"), namespace)  # noqa: S102  # what the operator has switched on

        async def work(inner: Page) -> object:
            try:
                return await namespace["run"](inner)
            except (Error, TimeoutError):
                raise
            except Exception as error:  # whatever the caller's code raises is the caller's to read
                raise PageError(f"the code raised {type(error).__name__}: {str(error)[:500]}") from error

        async with pages.used(handle) as page:
            value = await page.run(work)
            return text_answer(page, json.dumps(value, ensure_ascii=False, default=str), 0, budget, "value")
