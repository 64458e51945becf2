"""Published servers of several authors, SDKs and ages, unchanged behind the bridge, through gate and hub in both eras:
list, call, error, progress, a big answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult, TextContent

from tests.published.servers import NETWORK, SERVERS, Published, filled, furnish, public
from tests.support.sdk import ERAS, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.feature("B7", "B11", "A13"), pytest.mark.timeout(600)]
SHORT = ("time", "everything")
"""Those that are tried each time; these others in the long run."""
LONG = ("git", "fetch", "sqlite", "calculator", "memory", "thinking")


@dataclass
class Shelf:
    """The servers that have been added so far."""

    environment: Any
    folder: Path
    added: list[str] = field(default_factory=list)

    def with_server(self, one: Published) -> None:
        """Add it, unless it is there."""
        if one.name in self.added:
            return
        options = [
            part for name, value in filled(one.env, self.folder).items() for part in ("--env", f"{name}={value}")
        ]
        self.added.append(one.name)
        done = self.environment.tekup("add", one.name, *options, "--", *one.argv(self.folder))
        assert done.returncode == 0, done.stderr

    @asynccontextmanager
    async def client(self, mode: str) -> AsyncIterator[Client]:
        """Somebody at the address of all services."""
        async with sdk_client(f"{self.environment.gateway_url}/mcp", self.environment.key, mode) as client:
            yield client


@pytest.fixture(scope="module")
def shelf(environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The environment, into which servers are put as they are wanted; they are gone afterwards."""
    folder = tmp_path_factory.mktemp("shelf")
    furnish(folder)
    made = Shelf(environment, folder)
    yield made
    for name in made.added:
        environment.tekup("remove", name)


@pytest.fixture(
    params=[
        pytest.param(one, id=one.name, marks=() if one.name in SHORT else pytest.mark.long)
        for one in SERVERS
        if one.name in SHORT + LONG
    ]
)
def one(request: pytest.FixtureRequest, shelf: Shelf) -> Published:
    """One of them, served."""
    found: Published = request.param
    shelf.with_server(found)
    return found


@dataclass(frozen=True)
class Said:
    """An answer."""

    text: str
    error: bool


async def call(client: Client, tool: str, arguments: dict[str, Any], **options: Any) -> Said:
    try:
        result = await client.call_tool(tool, arguments, **options)
    except MCPError as error:
        return Said(error.message, error=True)
    assert isinstance(result, CallToolResult)
    return Said(
        "".join(block.text for block in result.content if isinstance(block, TextContent)), bool(result.is_error)
    )


@pytest.mark.parametrize("mode", ERAS)
async def test_it_lists_answers_refuses_tells_of_progress_and_answers_at_length(
    shelf: Shelf, one: Published, mode: str
) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        told.append(progress)

    (tool, arguments, answer), (wrong, bad) = one.call, one.wrong
    async with shelf.client(mode) as client:
        names = [found.name for found in (await client.list_tools()).tools]
        assert public(one.name, tool) in names
        said = await call(client, public(one.name, tool), filled(arguments, shelf.folder), progress_callback=note)
        assert answer in said.text
        assert one.name in NETWORK or not said.error
        refused = await call(client, public(one.name, wrong), filled(bad, shelf.folder))
        assert refused.error or "error" in refused.text.lower(), refused
        if one.slow is not None:
            assert not (await call(client, public(one.name, one.slow[0]), one.slow[1], progress_callback=note)).error
            assert len(told) >= 3
            assert told == sorted(told)
        if one.big is not None:
            long = await call(client, public(one.name, one.big[0]), filled(one.big[1], shelf.folder))
            assert not long.error
            assert len(long.text) >= one.big[2]
