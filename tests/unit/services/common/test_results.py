"""A result has to fit what its tool declares; one that does not is withheld, counted, and no crash."""

from __future__ import annotations

from typing import Annotated, Any, cast

import pytest
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, PlainSerializer
from typing_extensions import TypedDict

from services.common.call import Call
from services.common.kit import Kit
from services.common.metrics import Outcome
from services.common.server import KitServer


class Sum(BaseModel):
    total: int


class Pair(TypedDict):
    left: int
    right: int


class Unspeakable(BaseModel):
    value: Annotated[int, PlainSerializer(lambda _: 1 / 0)]


async def demo_good() -> Sum:
    return Sum(total=3)


async def demo_dict() -> Pair:
    return cast("Pair", {"left": 1})


async def demo_unchecked() -> Sum:
    return Sum.model_construct(total="many")  # type: ignore[arg-type]  # that is the point


async def demo_changed() -> Sum:
    made = Sum(total=3)
    made.total = cast("int", [])
    return made


async def demo_bare() -> Annotated[CallToolResult, Sum]:
    return CallToolResult(content=[TextContent(type="text", text="3")])


async def demo_unspeakable() -> Unspeakable:
    return Unspeakable(value=1)


async def demo_failed() -> Annotated[CallToolResult, Sum]:
    return CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)


TOOLS = (demo_good, demo_dict, demo_unchecked, demo_changed, demo_bare, demo_unspeakable, demo_failed)


@pytest.fixture
def server(kit: Kit) -> KitServer:
    for function in TOOLS:
        kit.tool(title="Demo")(function)
    return KitServer(kit, kit.calls, instructions="")


def counted(kit: Kit, metric: str, **labels: str) -> float | None:
    return kit.metrics.registry.get_sample_value(metric, labels)


@pytest.mark.parametrize("function", [demo_dict, demo_unchecked, demo_changed, demo_bare, demo_unspeakable])
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_what_does_not_fit_is_withheld_and_counted(
    server: KitServer, kit: Kit, calling: Call, function: Any
) -> None:
    name = function.__name__
    assert counted(kit, "tekup_tool_schema_violations_total", tool=name) == 0
    result = await server.call_tool(name, {})
    assert isinstance(result, CallToolResult)
    assert (result.is_error, result.structured_content) == (True, None)
    (said,) = result.content
    assert isinstance(said, TextContent)
    assert "does not fit its own output schema" in said.text
    assert counted(kit, "tekup_tool_schema_violations_total", tool=name) == 1
    assert counted(kit, "tekup_tool_calls_total", tool=name, outcome=Outcome.SCHEMA) == 1
    assert counted(kit, "tekup_tool_calls_total", tool=name, outcome=Outcome.ERROR) == 0


async def test_what_fits_and_what_failed_is_passed_on(server: KitServer, kit: Kit, calling: Call) -> None:
    good, failed = await server.call_tool("demo_good", {}), await server.call_tool("demo_failed", {})
    assert isinstance(good, CallToolResult)
    assert isinstance(failed, CallToolResult)
    assert good.structured_content == {"total": 3}
    assert failed.is_error
    assert counted(kit, "tekup_tool_calls_total", tool="demo_good", outcome=Outcome.OK) == 1
    assert counted(kit, "tekup_tool_calls_total", tool="demo_failed", outcome=Outcome.TOOL_ERROR) == 1
