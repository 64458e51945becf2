"""Script of ours in a page, in a world of its own: it sees the document, and nothing that the page's script changed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import CDPSession

from services.browser.shapes import PageError

__all__ = ["evaluated_apart", "script"]

_WORLD = "tekup"


@cache
def script(name: str) -> str:
    """The function in a file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


async def evaluated_apart(session: CDPSession, function: str, argument: object) -> Any:
    """What `function` returns for `argument`, both as JSON.

    Raises:
        PageError: It threw.
    """
    tree = await session.send("Page.getFrameTree")
    frame = tree["frameTree"]["frame"]["id"]
    world = await session.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": _WORLD})
    answer = await session.send(
        "Runtime.evaluate",
        {
            "expression": f"JSON.stringify(({function.strip()})({json.dumps(argument)}))",
            "contextId": world["executionContextId"],
            "returnByValue": True,
        },
    )
    if "exceptionDetails" in answer:
        thrown = answer["exceptionDetails"].get("exception", {}).get("description", "it threw")
        raise PageError(str(thrown).splitlines()[0][:500])
    return json.loads(answer["result"]["value"])
