"""Doing something on a page: click, type, choose, press, drag, wait, answer dialogs, give files."""

import base64
from typing import Annotated, Literal

import anyio
import anyio.to_thread
from playwright.async_api import FilePayload, Locator, Page
from pydantic import BaseModel, ConfigDict, Field

from services.browser import answers
from services.browser.files import Upload
from services.browser.page import OpenPage
from services.browser.pages import OpenPages, answer_of
from services.browser.shapes import DialogPlan, PageError, State, located
from services.browser.tools.params import MaybeTarget, Target
from services.common import HandleParam, Kit, ToolError

__all__ = ["declare"]

_Text = Annotated[str, Field(max_length=100_000)]
_Modifier = Literal["Alt", "Control", "ControlOrMeta", "Meta", "Shift"]
_Button = Literal["left", "middle", "right"]
_DRAG_STEPS = 5  # a page is told of dragging over only by a second move
_DROP = """(element, data) => {
  const transfer = new DataTransfer();
  for (const [type, value] of Object.entries(data.texts)) transfer.setData(type, value);
  for (const file of data.files) {
    const bytes = Uint8Array.from(atob(file.data), (char) => char.charCodeAt(0));
    transfer.items.add(new File([bytes], file.name));
  }
  for (const type of ['dragenter', 'dragover', 'drop'])
    element.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: transfer}));
}"""


class FormField(BaseModel):
    """A field of a form and what goes into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target
    value: Annotated[
        _Text | bool | list[str],
        Field(description="Text; true or false for a checkbox or radio button; labels or values for a choice."),
    ]


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare them."""
    _mouse(kit, pages)
    _keyboard(kit, pages)
    _forms(kit, pages)
    _given_files(kit, pages)
    _waiting(kit, pages)


def _mouse(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Click", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_click(
        handle: HandleParam,
        target: Target,
        double: Annotated[bool, Field(description="Click twice.")] = False,
        button: _Button = "left",
        modifiers: list[_Modifier] | None = None,
    ) -> answers.PageState:
        """Click an element, and wait for the page to settle."""

        async def click(element: Locator, limit_ms: float) -> None:
            count = 2 if double else 1
            await element.click(timeout=limit_ms, click_count=count, button=button, modifiers=modifiers)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.act(target, click))

    @kit.tool(title="Hover", open_world=True, deadline_s=pages.deadline_s)
    async def browser_hover(handle: HandleParam, target: Target) -> answers.PageState:
        """Move the pointer over an element."""

        async def hover(element: Locator, limit_ms: float) -> None:
            await element.hover(timeout=limit_ms)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.act(target, hover))

    @kit.tool(title="Drag", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_drag(handle: HandleParam, target: Target, to: Target) -> answers.PageState:
        """Drag an element onto another."""
        async with pages.used(handle) as page:

            async def drag(element: Locator, limit_ms: float) -> None:
                await element.drag_to(located(page.tab.page, to), timeout=limit_ms, steps=_DRAG_STEPS)

            return answer_of(handle, await page.act(target, drag))


def _keyboard(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Type", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_type(
        handle: HandleParam,
        target: Target,
        text: _Text,
        submit: Annotated[bool, Field(description="Press Enter afterwards.")] = False,
        slowly: Annotated[bool, Field(description="Key by key, for pages that listen to each; at most 500.")] = False,
    ) -> answers.PageState:
        """Put text into a field in place of what is there."""
        if slowly and len(text) > 500:
            raise ToolError(f"{len(text)} characters are too many to type slowly; 500 are not")

        async def fill(element: Locator, limit_ms: float) -> None:
            await element.fill("" if slowly else text, timeout=limit_ms)
            if slowly:
                await element.press_sequentially(text, timeout=limit_ms)
            if submit:
                await element.press("Enter", timeout=limit_ms)

        async with pages.used(handle) as page:
            return answer_of(handle, await page.act(target, fill))

    @kit.tool(title="Press a key", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_press_key(
        handle: HandleParam,
        key: Annotated[str, Field(min_length=1, max_length=50, description="As Enter, ArrowDown, a, Control+A.")],
        target: MaybeTarget = None,
    ) -> answers.PageState:
        """Press a key, in an element or where the focus is."""

        async def press(inner: Page) -> None:
            await inner.keyboard.press(key)

        async def press_in(element: Locator, limit_ms: float) -> None:
            await element.press(key, timeout=limit_ms)

        async with pages.used(handle) as page:
            found = await (page.do(press) if target is None else page.act(target, press_in))
            return answer_of(handle, found)


def _forms(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Fill a form", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_fill_form(
        handle: HandleParam, fields: Annotated[list[FormField], Field(min_length=1, max_length=50)]
    ) -> answers.PageState:
        """Fill several fields: text, checkboxes, radio buttons, choices."""
        async with pages.used(handle) as page:
            for field in fields[:-1]:
                await page.act(field.target, _filling(field), settle=False)
            return answer_of(handle, await page.act(fields[-1].target, _filling(fields[-1])))

    @kit.tool(title="Choose", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_select_option(
        handle: HandleParam,
        target: Target,
        values: Annotated[list[str], Field(max_length=100, description="Values or labels.")],
    ) -> answers.PageState:
        """Choose options of a drop-down list."""
        async with pages.used(handle) as page:
            return answer_of(handle, await page.act(target, _filling(FormField(target=target, value=values))))


class _Filling:
    def __init__(self, field: FormField) -> None:
        self._field = field

    async def __call__(self, element: Locator, limit_ms: float) -> None:
        value = self._field.value
        if isinstance(value, bool):
            await element.set_checked(value, timeout=limit_ms)
        elif isinstance(value, list):
            await element.select_option(value, timeout=limit_ms)
        else:
            await element.fill(value, timeout=limit_ms)


def _filling(field: FormField) -> _Filling:
    return _Filling(field)


def _given_files(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Give files to a page", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_file_upload(
        handle: HandleParam,
        paths: Annotated[list[str], Field(max_length=20, description="Of the page's files, or of the upload folders.")],
        target: MaybeTarget = None,
    ) -> answers.PageState:
        """Give files to a file field, or to what the page asked for last; no paths at all takes them back."""
        async with pages.used(handle) as page:
            files = [_payload(one) for one in await _uploads(pages, page, paths)]

            async def give(element: Locator, limit_ms: float) -> None:
                await element.set_input_files(files, timeout=limit_ms)

            async def answer(_: Page) -> None:
                if page.chooser is None:
                    raise PageError("the page has not asked for a file; give the target of a file field")
                chooser, page.chooser = page.chooser, None
                await chooser.set_files(files, timeout=1000 * page.limits.action_s)

            return answer_of(handle, await (page.do(answer) if target is None else page.act(target, give)))

    @kit.tool(title="Drop on a page", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_drop(
        handle: HandleParam,
        target: Target,
        paths: Annotated[
            list[str] | None, Field(max_length=20, description="Files, as for browser_file_upload.")
        ] = None,
        data: Annotated[dict[str, str] | None, Field(description="Texts by MIME type.")] = None,
    ) -> answers.PageState:
        """Drop files or texts onto an element, as if dragged from elsewhere."""
        if not paths and not data:
            raise ToolError("give paths or data to drop")
        async with pages.used(handle) as page:
            files = [
                {"name": one.name, "data": base64.b64encode(one.data).decode("ascii")}
                for one in await _uploads(pages, page, paths or [])
            ]

            async def drop(element: Locator, limit_ms: float) -> None:
                await element.evaluate(_DROP, {"texts": data or {}, "files": files}, timeout=limit_ms)

            return answer_of(handle, await page.act(target, drop))


async def _uploads(pages: OpenPages, page: OpenPage, paths: list[str]) -> list[Upload]:
    roots = pages.roots()
    return await page.run(lambda _: anyio.to_thread.run_sync(page.files.uploads, paths, roots))


def _payload(file: Upload) -> FilePayload:
    return {"name": file.name, "mimeType": "application/octet-stream", "buffer": file.data}


def _waiting(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Answer dialogs", open_world=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_handle_dialog(
        handle: HandleParam,
        accept: bool,
        prompt_text: Annotated[str, Field(max_length=10_000, description="What a prompt is given.")] = "",
        always: Annotated[bool, Field(description="Every dialog from now on, not the next one alone.")] = False,
    ) -> answers.PageState:
        """Say how the next dialog of the page is answered. Without, dialogs are dismissed at once and told of.

        So no dialog ever keeps other tools waiting: call this, then do again what brought the dialog up.
        """
        async with pages.used(handle) as page:
            page.dialogs.plan = DialogPlan(accept, prompt_text, once=not always)
            return answer_of(handle, await page.state())

    @kit.tool(title="Wait", read_only=True, idempotent=True, deadline_s=pages.deadline_s)
    async def browser_wait_for(
        handle: HandleParam,
        text: Annotated[str | None, Field(max_length=1000, description="Until it is visible.")] = None,
        text_gone: Annotated[str | None, Field(max_length=1000, description="Until it is not.")] = None,
        time_s: Annotated[
            float | None, Field(gt=0, le=20, description="So long, or at most so long for a text.")
        ] = None,
    ) -> answers.PageState:
        """Wait for a text to come or go, or for some seconds."""
        if text is None and text_gone is None and time_s is None:
            raise ToolError("give text, text_gone or time_s to wait for")
        async with pages.used(handle) as page:
            return answer_of(handle, await _waited(page, text, text_gone, time_s))


async def _waited(page: OpenPage, text: str | None, text_gone: str | None, time_s: float | None) -> State:
    limit_ms = 1000 * min(time_s or page.limits.action_s, page.limits.call_s / 2)

    async def wait(inner: Page) -> None:
        if text is not None:
            await inner.get_by_text(text).first.wait_for(state="visible", timeout=limit_ms)
        if text_gone is not None:
            await inner.get_by_text(text_gone).first.wait_for(state="hidden", timeout=limit_ms)
        if text is None and text_gone is None:
            await anyio.sleep(limit_ms / 1000)

    await page.run(wait)
    return await page.state()
