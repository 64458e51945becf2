"""Calls of which the gate copies one to another version: what came of each, so that both sides can be compared.

Memory is bounded by number and age. Of results only digests are kept: they may be large, and are somebody's.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from mcp_types import CallToolResult, InputRequiredResult, TextContent

__all__ = ["Shadow", "ShadowedCall", "digest_of"]

KEPT: Final = 2_000
KEPT_S: Final = 300.0


def digest_of(result: CallToolResult | InputRequiredResult) -> str:
    """Digest of what a caller gets to see: of the structured content where there is one, else of the content.

    Args:
        result: A tool's.

    Returns:
        SHA-256 in hex; equal for equal content, whatever the order of its members.
    """
    if isinstance(result, CallToolResult) and result.structured_content is None:
        parts = [item.text if isinstance(item, TextContent) else item.model_dump_json() for item in result.content]
        said = "\n".join(parts)
    else:
        content = result.structured_content if isinstance(result, CallToolResult) else result.model_dump(mode="json")
        said = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class ShadowedCall:
    """One side of a copied call.

    Args:
        trace: The id the gate gave both sides.
        tool: The tool.
        digest: Of its result.
        error: How it failed, "" if it did not.
        seconds: How long it took.
        copy: Whether this is the copy's side.
    """

    trace: str
    tool: str
    digest: str
    error: str
    seconds: float
    copy: bool


class Shadow:
    """The latest copied calls of one instance.

    Args:
        clock: Seconds, monotonic.
        kept: How many.
        kept_s: For how long.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, kept: int = KEPT, kept_s: float = KEPT_S
    ) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._calls: deque[tuple[float, ShadowedCall]] = deque(maxlen=kept)

    def note(self, call: ShadowedCall) -> None:
        """Keep a call that has ended."""
        self._forget()
        self._calls.append((self._clock(), call))

    def recent(self) -> list[dict[str, object]]:
        """What is kept, the oldest first, as JSON shows it."""
        self._forget()
        return [asdict(call) for _, call in self._calls]

    def _forget(self) -> None:
        oldest = self._clock() - self._kept_s
        while self._calls and self._calls[0][0] < oldest:
            self._calls.popleft()
