"""The group `vision`: the mouse by coordinates, for what a snapshot does not show."""

from typing import Annotated, Literal

from playwright.async_api import Page
from pydantic import Field

from services.browser import answers
from services.browser.pages import OpenPages, answer_of
from services.common import HandleParam, Kit

__all__ = ["declare"]

_At = Annotated[float, Field(ge=-10_000, le=10_000, description="CSS pixels from the window's upper left corner.")]
_Button = Literal["left", "middle", "right"]
_DRAG_STEPS = 10


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare them."""
    _clicks(kit, pages)
    _moves(kit, pages)


def _clicks(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Click at coordinates", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_mouse_click_xy(
        handle: HandleParam,
        x: _At,
        y: _At,
        button: _Button = "left",
        clicks: Annotated[int, Field(ge=1, le=3)] = 1,
        delay_ms: Annotated[float, Field(ge=0, le=5000, description="Held down so long.")] = 0,
    ) -> answers.PageState:
        """Click at a place of the window."""

        async def click(inner: Page) -> None:
            await inner.mouse.click(x, y, button=button, click_count=clicks, delay=delay_ms)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(click))

    @kit.tool(title="Press a mouse button", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_mouse_down(handle: HandleParam, button: _Button = "left") -> answers.PageState:
        """Press a mouse button where the pointer is, and keep it pressed."""

        async def down(inner: Page) -> None:
            await inner.mouse.down(button=button)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(down))

    @kit.tool(title="Release a mouse button", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_mouse_up(handle: HandleParam, button: _Button = "left") -> answers.PageState:
        """Release a mouse button."""

        async def up(inner: Page) -> None:
            await inner.mouse.up(button=button)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(up))


def _moves(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Move the mouse", open_world=True, deadline_s=pages.deadline_s)
    async def browser_mouse_move_xy(handle: HandleParam, x: _At, y: _At) -> answers.PageState:
        """Move the pointer to a place of the window."""

        async def move(inner: Page) -> None:
            await inner.mouse.move(x, y)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(move))

    @kit.tool(title="Drag by coordinates", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_mouse_drag_xy(
        handle: HandleParam, from_x: _At, from_y: _At, to_x: _At, to_y: _At
    ) -> answers.PageState:
        """Drag from one place of the window to another."""

        async def drag(inner: Page) -> None:
            await inner.mouse.move(from_x, from_y)
            await inner.mouse.down()
            await inner.mouse.move(to_x, to_y, steps=_DRAG_STEPS)
            await inner.mouse.up()

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(drag))

    @kit.tool(title="Turn the mouse wheel", open_world=True, deadline_s=pages.deadline_s)
    async def browser_mouse_wheel(
        handle: HandleParam,
        delta_y: Annotated[float, Field(ge=-100_000, le=100_000, description="Down, in CSS pixels.")] = 0,
        delta_x: Annotated[float, Field(ge=-100_000, le=100_000, description="To the right.")] = 0,
    ) -> answers.PageState:
        """Scroll where the pointer is."""

        async def wheel(inner: Page) -> None:
            await inner.mouse.wheel(delta_x, delta_y)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.do(wheel))
