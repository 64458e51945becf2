"""A wrong declaration is found when it is made."""

from __future__ import annotations

import pytest

from services.common.errors import DeclarationError
from services.common.kit import Kit


async def demo_look(path: str) -> str:
    """Look."""
    return path


def test_a_tool_carries_what_was_declared(kit: Kit) -> None:
    kit.tool(title="Look", read_only=True, deadline_s=5)(demo_look)
    declared = kit.tools["demo_look"]
    assert (declared.tool.title, declared.tool.description, declared.deadline_s) == ("Look", "Look.", 5)
    assert declared.parameters == {"path"}
    assert declared.tool.output_schema is not None


def test_a_tool_without_its_own_deadline_has_the_instances(kit: Kit) -> None:
    kit.tool(title="Look")(demo_look)
    assert kit.tools["demo_look"].deadline_s == kit.settings.tool_deadline_s


def test_a_dash_in_the_services_name_is_an_underscore_in_python(kit: Kit) -> None:
    notes = Kit("my-notes", kit.settings, kit.keyring)

    async def my_notes_list() -> str:
        return ""

    notes.tool(title="List")(my_notes_list)
    assert list(notes.tools) == ["my-notes_list"]


def test_wrong_declarations_are_refused(kit: Kit) -> None:
    async def other_look() -> str:
        return ""

    async def demo_() -> str:
        return ""

    def demo_sync() -> str:
        return ""

    for function in (other_look, demo_, demo_sync):
        with pytest.raises(DeclarationError):
            kit.tool(title="No")(function)  # type: ignore[type-var]  # that is the point
    kit.tool(title="Look")(demo_look)
    with pytest.raises(DeclarationError, match="declared twice"):
        kit.tool(title="Look")(demo_look)
    with pytest.raises(DeclarationError, match="is not declared"):
        kit.probe("demo_nothing", {})
    with pytest.raises(DeclarationError, match="must start with demo://"):
        kit.resource("other://x", title="x", mime_type="text/plain")
