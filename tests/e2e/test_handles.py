"""Handles over many instances: each reaches the instance and the client it was given to, and nobody else, ever."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp
import pytest

from tests.support.crowd import clients
from tests.support.ledgers import ledgers
from tests.support.metrics import tool_calls
from tests.support.sdk import ERAS, LEGACY, MODERN, Answer, asked, instance_of, sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
READERS = tuple(f"reader-{number}" for number in range(10))
PAGES_EACH = 2
CALLS = 500


@dataclass
class Reader:
    """A client of one era, and the pages it holds: what is on each, by its handle."""

    name: str
    mode: str
    key: str
    pages: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def connected(environment: Any, readers: list[Reader]) -> AsyncIterator[dict[str, mcp.Client]]:
    """A client for each reader, by name."""
    async with AsyncExitStack() as stack:
        made = {}
        for reader in readers:
            opening = sdk_client(f"{environment.gateway_url}/mcp", reader.key, reader.mode)
            made[reader.name] = await stack.enter_async_context(opening)
            await made[reader.name].list_tools()
        yield made


async def open_pages(environment: Any, readers: list[Reader]) -> None:
    """Each reader opens pages of its own; what is on them tells whose they are."""
    async with connected(environment, readers) as by_name:
        for number, reader in itertools.product(range(PAGES_EACH), readers):
            said = f"Page {number} of {reader.name}"
            file = environment.state / "pages" / f"{reader.name}-{number}.html"
            file.write_text(f"<title>{said}</title><p>{said}")
            url = f"http://127.0.0.1:{environment.ports['pages']}/{file.name}"
            opened = await asked(by_name[reader.name], "browser_open", {"url": url})
            assert opened.result, opened
            reader.pages[opened.result["handle"]] = said


async def close_pages(environment: Any, readers: list[Reader]) -> None:
    """Nobody has to wait for the drain deadline of instances that hold them."""
    async with connected(environment, readers) as by_name:
        for reader in readers:
            for handle in reader.pages:
                assert (await asked(by_name[reader.name], "browser_close", {"handle": handle})).ok


@pytest.fixture(scope="module")
def readers(environment: Any) -> Iterator[list[Reader]]:
    """Ten clients, half of each era, with pages over three browser instances."""
    environment.tekup_json("scale", "browser=3")
    try:
        with clients(environment, *READERS) as keys:
            made = [Reader(name, mode, keys[name]) for name, mode in zip(READERS, itertools.cycle(ERAS), strict=False)]
            asyncio.run(open_pages(environment, made))
            yield made
            asyncio.run(close_pages(environment, made))
    finally:
        environment.tekup_json("scale", "browser=1")


async def reads(client: mcp.Client, handle: str) -> Answer:
    return await asked(client, "browser_text", {"handle": handle})


@pytest.mark.feature("A4", "A13")
async def test_500_calls_on_pages_of_ten_clients_are_each_answered_by_the_pages_own_instance(
    environment: Any, readers: list[Reader]
) -> None:
    opened = Counter(instance_of(handle) for reader in readers for handle in reader.pages)
    assert len(opened) == 3, opened
    sent: Counter[str] = Counter()

    async def work(reader: Reader, client: mcp.Client) -> None:
        for handle, said in itertools.islice(itertools.cycle(reader.pages.items()), CALLS // len(readers)):
            answer = await reads(client, handle)
            assert answer.ok, answer
            assert answer.text.strip().endswith(f"] {said}"), answer
            sent[instance_of(handle)] += 1

    before = await tool_calls(environment, "browser", "browser_text", "ok")
    async with connected(environment, readers) as by_name, asyncio.TaskGroup() as tasks:
        for reader in readers:
            tasks.create_task(work(reader, by_name[reader.name]))
    after = await tool_calls(environment, "browser", "browser_text", "ok")
    assert sent.total() == CALLS
    assert after - before == sent


def forgeries(handle: str, other: str) -> dict[str, str]:
    """What somebody could make of a handle of its own, knowing another of its own."""
    instance, random, tag = handle.split(".")
    flipped = tag[:5] + ("A" if tag[5] != "A" else "B") + tag[6:]
    made_up = next(name for name in ("0ddba1", "0ddba2") if name != instance)
    return {
        "a flipped bit in the tag": f"{instance}.{random}.{flipped}",
        "another random": f"{instance}.{other.split('.')[1]}.{tag}",
        "a made-up instance": f"{made_up}.{random}.{tag}",
        "another instance": f"{instance_of(other)}.{random}.{tag}",
        "another instance, its own tag": f"{instance_of(other)}.{random}.{other.split('.')[2]}",
        "no tag": f"{instance}.{random}.",
        "one part": instance,
    }


@pytest.mark.feature("A4", "A13")
async def test_forged_and_borrowed_handles_are_all_refused_and_change_nothing(
    environment: Any, readers: list[Reader]
) -> None:
    refused: Counter[str] = Counter()

    async def refuses(client: mcp.Client, what: str, handle: str) -> None:
        for tool, more in (
            ("browser_text", {}),
            ("browser_navigate", {"url": "about:blank"}),
            ("browser_close", {}),
        ):
            answer = await asked(client, tool, {"handle": handle, **more})
            assert answer.gone, f"{tool} on {what}: {answer}"
            refused[what] += 1

    elsewhere = {
        reader.name: next(h for h in reader.pages if instance_of(h) != instance_of(next(iter(reader.pages))))
        for reader in readers
        if len({instance_of(handle) for handle in reader.pages}) > 1
    }
    assert elsewhere, "no reader holds pages in two instances"
    before = await tool_calls(environment, "browser", "browser_text", "ok")
    async with connected(environment, readers) as by_name:
        for reader, lender in zip(readers, [*readers[1:], readers[0]], strict=True):
            client, own = by_name[reader.name], next(iter(reader.pages))
            for borrowed in lender.pages:
                await refuses(client, "another client's", borrowed)
            if reader.name in elsewhere:
                for what, handle in forgeries(own, elsewhere[reader.name]).items():
                    await refuses(client, what, handle)
        assert await tool_calls(environment, "browser", "browser_text", "ok") == before
        for reader in readers:
            for handle, said in reader.pages.items():
                answer = await reads(by_name[reader.name], handle)
                assert answer.ok, answer
                assert answer.text.strip().endswith(f"] {said}"), answer
    assert refused["another client's"] == 3 * PAGES_EACH * len(readers)
    assert len(refused) == 8


@pytest.mark.feature("A4")
async def test_a_list_of_pages_shows_all_of_ones_own_and_nobody_elses(environment: Any, readers: list[Reader]) -> None:
    async with connected(environment, readers) as by_name:
        for reader in readers:
            seen: set[str] = set()

            async def all_seen(reader: Reader = reader, seen: set[str] = seen) -> bool:
                answer = await asked(by_name[reader.name], "browser_list", {})
                assert answer.result, answer
                listed = {page["handle"] for page in answer.result["pages"]}
                assert listed <= reader.pages.keys()
                seen |= listed
                return seen == reader.pages.keys()

            await eventually(all_seen, f"all pages of {reader.name} in the lists of three instances", 30)


@asynccontextmanager
async def one_ledger(environment: Any, folder: Path, **variables: str) -> AsyncIterator[dict[str, mcp.Client]]:
    """One instance, and a client of each era."""
    url = f"{environment.gateway_url}/mcp"
    with ledgers(environment, folder) as made:
        instance = made.start(**variables)
        async with (
            sdk_client(url, environment.key, MODERN) as modern,
            sdk_client(url, environment.key, LEGACY) as legacy,
        ):
            await made.all_known(modern, instance)
            yield {MODERN: modern, LEGACY: legacy}


async def opened(client: mcp.Client) -> str:
    answer = await asked(client, "ledger_open", {})
    assert answer.result, answer
    return str(answer.result["handle"])


async def listed(client: mcp.Client) -> set[str]:
    answer = await asked(client, "ledger_list", {})
    assert answer.result, answer
    return set(answer.result["handles"])


@pytest.mark.feature("A4")
async def test_an_unused_handle_expires_and_one_in_use_does_not(environment: Any, tmp_path: Path) -> None:
    async def expires(mode: str, client: mcp.Client) -> None:
        busy, idle = await opened(client), await opened(client)
        entry = {"handle": busy, "entry": f"long {mode}", "hold_ms": 6000}
        working = asyncio.create_task(asked(client, "ledger_add", entry))

        async def idle_gone() -> bool:
            return idle not in await listed(client)

        await eventually(idle_gone, "the unused one to expire", 30)
        assert busy in await listed(client) or working.done()
        assert (await asked(client, "ledger_add", {"handle": idle, "entry": f"late {mode}"})).gone
        assert (await working).ok

    async with (
        one_ledger(environment, tmp_path, MCP_LEDGER_IDLE_S="2") as by_mode,
        asyncio.TaskGroup() as tasks,
    ):
        for mode, client in by_mode.items():
            tasks.create_task(expires(mode, client))


@pytest.mark.feature("A4")
async def test_a_handle_ends_at_its_age_however_busy_it_is(environment: Any, tmp_path: Path) -> None:
    async with one_ledger(environment, tmp_path, MCP_LEDGER_TOTAL_S="3") as by_mode:
        for mode, client in by_mode.items():
            began = time.monotonic()
            handle = await opened(client)

            async def gone(mode: str = mode, client: mcp.Client = client, handle: str = handle) -> bool:
                answer = await asked(client, "ledger_add", {"handle": handle, "entry": f"again {mode}"})
                assert answer.ok or answer.gone, answer
                return answer.gone

            await eventually(gone, "the handle to end", 30)
            assert time.monotonic() - began >= 3


@pytest.mark.feature("A4")
async def test_a_client_holds_so_many_handles_and_no_more_whatever_others_hold(
    environment: Any, tmp_path: Path
) -> None:
    async with one_ledger(environment, tmp_path, MCP_LEDGER_PER_CLIENT="2") as by_mode:
        modern, legacy = by_mode[MODERN], by_mode[LEGACY]
        held = [await opened(modern), await opened(legacy)]
        for client in by_mode.values():
            assert "you hold 2 open book handles" in (await asked(client, "ledger_open", {})).tool_error
        with clients(environment, "another") as keys:
            async with sdk_client(f"{environment.gateway_url}/mcp", keys["another"], LEGACY) as other:
                own = await opened(other)
                assert await listed(other) == {own}
        assert await listed(modern) == set(held)
        assert (await asked(modern, "ledger_close", {"handle": held[1]})).ok
        await opened(legacy)


@pytest.mark.feature("A4", "B6")
async def test_a_draining_instance_answers_on_its_handles_to_the_deadline_and_gets_no_new_ones(
    environment: Any, tmp_path: Path
) -> None:
    deadline_s = 8.0
    url = f"{environment.gateway_url}/mcp"
    with ledgers(environment, tmp_path) as made:
        leaving, staying = (made.start(MCP_DRAIN_DEADLINE_S=str(deadline_s)) for _ in range(2))
        async with (
            sdk_client(url, environment.key, MODERN) as modern,
            sdk_client(url, environment.key, LEGACY) as legacy,
        ):
            await made.all_known(modern, leaving, staying)
            held: dict[str, str] = {}
            for mode, client in ((MODERN, modern), (LEGACY, legacy)):
                while instance_of(held.get(mode, "")) != leaving:
                    held[mode] = await opened(client)
            signalled_s = time.monotonic()
            made.send(leaving, signal.SIGTERM)

            async def nothing_new() -> bool:
                return {instance_of(await opened(modern)) for _ in range(6)} == {staying}

            await eventually(nothing_new, "new handles to be given elsewhere", 30)
            answers: dict[str, list[Answer]] = {MODERN: [], LEGACY: []}
            gone_s: dict[str, float] = {}

            async def gone(mode: str, client: mcp.Client) -> None:
                while mode not in gone_s:
                    answer = await asked(client, "ledger_add", {"handle": held[mode], "entry": "kept"})
                    answers[mode].append(answer)
                    if answer.gone:
                        gone_s[mode] = time.monotonic()
                    await asyncio.sleep(0.1)

            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                tasks.create_task(gone(MODERN, modern))
                tasks.create_task(gone(LEGACY, legacy))
            assert await made.ended(leaving) == 0
            for mode, client in ((MODERN, modern), (LEGACY, legacy)):
                kept = [answer for answer in answers[mode] if answer.result]
                assert {answer.result["instance"] for answer in kept if answer.result} == {leaving}
                assert gone_s[mode] - signalled_s >= deadline_s - 0.5, "it did not keep them to the deadline"
                # In the moment between its last word and the gate's hearing of it there is nobody to ask.
                lost = [answer for answer in answers[mode][:-1] if not answer.ok]
                assert all(answer.may_have_run for answer in lost), lost
                anew = await opened(client)
                assert instance_of(anew) == staying
                assert (await asked(client, "ledger_add", {"handle": anew, "entry": f"anew {mode}"})).ok
