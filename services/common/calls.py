"""One tool call from its arguments to its outcome: deadline, drill, failure text, metric, log line.

Invariant: every call that names a declared tool ends in exactly one outcome, counted and logged once.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import anyio
from mcp.server.mcpserver.exceptions import ResourceError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from observability.telemetry.logs import say
from services.common.call import PROBE_CLIENT, PROBERS, Call, current_call, restore_call, set_call
from services.common.declared import KitTool
from services.common.drills import Drills
from services.common.errors import ToolError
from services.common.handles import call_uses
from services.common.metrics import Metrics, Outcome
from services.common.shadow import Shadow, ShadowedCall, digest_of
from services.common.spans import note_outcome

__all__ = ["Calls", "Record", "ToolResult", "failed"]

logger = logging.getLogger(__name__)
ToolResult = CallToolResult | InputRequiredResult


def failed(text: str) -> CallToolResult:
    """A result that says in words what failed (specification 2026-07-28, server/tools, "Error handling")."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


class Record:
    """How a running call will have ended; an error until somebody says otherwise.

    Attributes:
        outcome: How.
        compared: Its result, where it is to be compared with that of its copy.
    """

    def __init__(self) -> None:
        self.outcome = Outcome.ERROR
        self.compared: ToolResult | None = None


class Calls:
    """Runs the tool calls of one instance.

    Args:
        metrics: Counts them.
        drills: May spoil them.
        clock: Seconds, monotonic.
    """

    def __init__(self, metrics: Metrics, drills: Drills, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._drills = drills
        self._clock = clock
        self.shadow = Shadow(clock)

    async def run(
        self, declared: KitTool, arguments: Mapping[str, object], work: Callable[[], Awaitable[object]]
    ) -> ToolResult:
        """Run one call of a declared tool.

        Args:
            declared: The tool.
            arguments: As received.
            work: Validates them and runs the function.

        Returns:
            The result; every failure but a protocol error is one, in words.
        """
        with self.record(declared.tool.name) as record:
            result = await self._checked(declared, arguments, work, record)
            if current_call().shadow and declared.read_only:
                record.compared = result
            return result

    @contextmanager
    def record(self, tool: str) -> Iterator[Record]:
        """Surrounds a call of `tool`: sets it as running, counts and logs its end, lets go of its handles."""
        call = replace(current_call(), tool=tool)
        call_token, uses = set_call(call), list[Callable[[], None]]()
        uses_token, started, record = call_uses.set(uses), self._clock(), Record()
        try:
            yield record
        except anyio.get_cancelled_exc_class():
            record.outcome = Outcome.CANCELLED
            raise
        finally:
            for release in uses:
                release()
            call_uses.reset(uses_token)
            restore_call(call_token)
            self._report(call, record, self._clock() - started)

    async def _checked(
        self,
        declared: KitTool,
        arguments: Mapping[str, object],
        work: Callable[[], Awaitable[object]],
        record: Record,
    ) -> ToolResult:
        unknown = sorted(set(arguments) - declared.parameters)
        if not unknown:
            return await self._attempt(declared, work, record)
        record.outcome = Outcome.TOOL_ERROR
        return failed(_unknown_arguments(declared, unknown))

    async def _attempt(self, declared: KitTool, work: Callable[[], Awaitable[object]], record: Record) -> ToolResult:
        name = declared.tool.name
        with anyio.move_on_after(declared.deadline_s) as scope:
            try:
                spoiled = await self._drills.apply(name, probe=current_call().client == PROBE_CLIENT)
                result = _fitting(declared, await work(), spoiled=spoiled)
            except ToolError as error:
                record.outcome, text = _explain(name, error)
                return failed(text)
            is_error = isinstance(result, CallToolResult) and result.is_error
            record.outcome = Outcome.TOOL_ERROR if is_error else Outcome.OK
            return result
        if scope.cancelled_caught:
            record.outcome = Outcome.DEADLINE
        return failed(f"{name} was stopped at its deadline of {declared.deadline_s:g} s; ask for less, or try again")

    def _report(self, call: Call, record: Record, seconds: float) -> None:
        note_outcome(record.outcome)
        probe = call.client in PROBERS
        if call.copy:
            self._metrics.count_copy(call.tool, record.outcome, seconds)
        elif not probe:
            self._metrics.count(call.tool, record.outcome, seconds)
        if record.compared is not None:
            error = "" if record.outcome is Outcome.OK else record.outcome.value
            digest = digest_of(record.compared)
            self.shadow.note(ShadowedCall(call.shadow, call.tool, digest, error, round(seconds, 6), call.copy))
        level = logging.DEBUG if probe else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields: dict[str, object] = {
            "tool": call.tool,
            "client": call.client,
            "outcome": record.outcome.value,
            "duration_ms": round(seconds * 1000, 3),
        }
        if call.copy:
            fields["mirrored"] = True
        if call.shadow:
            fields["call_id"] = call.shadow
        say(logger, level, "call", fields)


def _unknown_arguments(declared: KitTool, unknown: list[str]) -> str:
    known = ", ".join(sorted(declared.parameters)) or "none"
    return f"{declared.tool.name} does not know the argument(s) {', '.join(unknown)[:200]}; it knows: {known}"


class _DoesNotFit(ToolError):
    """A result against its tool's own output schema."""


def _fitting(declared: KitTool, returned: object, *, spoiled: bool) -> ToolResult:
    """What a tool returned as its result, which fits its output schema.

    Raises:
        _DoesNotFit: It does not.
    """
    convert = declared.tool.fn_metadata.convert_result
    try:
        result = convert(returned)
        if isinstance(result, CallToolResult) and spoiled:
            result = result.model_copy(update={"structured_content": None})
        # A finished result is checked as it is sent: a model made without its checks, or changed since, is not when
        # converted. In microseconds; a JSON Schema validator needs 18 ms for a list of 500.
        return convert(result)
    except Exception as error:  # whatever a conversion raises: the tool ran, and its result is what is wrong
        raise _DoesNotFit from error


def _explain(name: str, error: ToolError) -> tuple[Outcome, str]:
    """What a failure was and how to put it. The SDK wraps what the tool raised; the wrapping says nothing more."""
    if isinstance(error, _DoesNotFit):
        reference = secrets.token_hex(4)
        logger.error("tool.schema", extra={"tool": name, "reference": reference, "reason": str(error.__cause__)[:500]})
        return Outcome.SCHEMA, (
            f"{name} ran, but its result does not fit its own output schema and is withheld; "
            f"its operators find the reason in the log as {reference}"
        )
    if isinstance(error, UnexpectedToolError):
        reference = secrets.token_hex(4)
        logger.error("tool.crashed", extra={"tool": name, "reference": reference}, exc_info=error.__cause__ or error)
        return Outcome.ERROR, f"{name} failed unexpectedly; its operators find the reason in the log as {reference}"
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in cause.errors())
        return Outcome.TOOL_ERROR, f"{name}: {'; '.join(problems)}"
    return Outcome.TOOL_ERROR, str(cause if isinstance(cause, ToolError | ResourceError) else error)
