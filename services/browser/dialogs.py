"""How a page's dialogs are answered: by the plan of a call, or dismissed; a page that never stops is told by it."""

import asyncio
from collections import deque
from contextlib import suppress

from playwright.async_api import Dialog, Error

from services.browser.happenings import Happenings, cut
from services.browser.shapes import DialogPlan

__all__ = ["Dialogs"]

_MANY, _LATELY_S = 20, 10.0  # a page that shows so many in so short a time will not stop, nor let a call end


class Dialogs:
    """The dialogs of one page.

    Args:
        happened: Told what each said and how it was answered.
    """

    def __init__(self, happened: Happenings) -> None:
        self._happened = happened
        self._at: deque[float] = deque(maxlen=_MANY)
        self.plan = DialogPlan()

    @property
    def lately(self) -> bool:
        """Whether there was one in the last seconds."""
        return bool(self._at) and asyncio.get_running_loop().time() - self._at[-1] < _LATELY_S

    @property
    def endless(self) -> bool:
        """Whether the page will not stop showing them."""
        return len(self._at) == _MANY and self._at[-1] - self._at[0] < _LATELY_S

    async def opened(self, dialog: Dialog) -> None:
        """Answer one, unless there are too many."""
        self._at.append(asyncio.get_running_loop().time())
        if self.endless:
            return
        plan = self.plan
        if plan.once:
            self.plan = DialogPlan()
        # Leaving a page is what a call wanted; a page that asks whether to must not keep it.
        accept = plan.accept or dialog.type == "beforeunload"
        hint = "" if accept else "; to accept it, call browser_handle_dialog and do the same again"
        outcome = "accepted" if accept else "dismissed"
        self._happened.note(f"a dialog ({dialog.type}) said {cut(dialog.message, 150)!r} and was {outcome}{hint}")
        with suppress(Error):
            await (dialog.accept(plan.text) if accept else dialog.dismiss())
