"""Outlines of files as resources: what a person adds to a conversation by name, with names completed as they type."""

from collections.abc import Callable

from mcp.server.mcpserver.exceptions import ResourceError
from mcp_types import Completion, CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference

from services.common import Kit
from services.common.paths import PathError, Roots
from services.common.ripgrep import RipgrepError
from services.search.coding import CodeAnswers
from services.search.cursors import CursorError
from services.search.engine import Engine, searchable
from services.search.names import NameHit, best_first

__all__ = ["TEMPLATE", "declare"]

TEMPLATE = "search://outline/{+path}"
_DEFINITIONS = 500
_TYPED = 1000  # as search_files has it
_NAMES = 100  # the most that a completion may hold (MCP, "Completion")


def declare(kit: Kit, engine: Engine, code: CodeAnswers, roots: Callable[[], Roots]) -> None:
    """Declare the template, and the completion of its path.

    Args:
        kit: Where.
        engine: Knows names.
        code: Knows what files define.
        roots: Those that the running call may use.
    """

    @kit.resource(TEMPLATE, title="What a file of code defines", mime_type="text/plain")
    async def outline(path: str) -> str:
        """Definitions of a file or folder with their lines; `path` is absolute, without its first slash."""
        try:
            place = roots().locate(f"/{path}")
            return (await code.outline([place], "", (), limit=_DEFINITIONS, cursor="")).text
        except (PathError, RipgrepError, CursorError) as error:
            raise ResourceError(str(error)) from error

    @kit.completion
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        """Paths of files whose names resemble what was typed, best first."""
        del context
        if not isinstance(ref, ResourceTemplateReference) or (ref.uri, argument.name) != (TEMPLATE, "path"):
            return None
        wanted, matched = argument.value.strip("/"), 0
        found: list[NameHit] = []
        if not wanted or len(wanted) > _TYPED:
            return Completion(values=[], total=0, has_more=False)
        try:
            for place in searchable(roots(), None):
                facts = (await engine.files(place, wanted, "fuzzy", limit=_NAMES)).facts
                found += facts.files
                matched += facts.matched
        except (PathError, RipgrepError):
            return Completion(values=[], total=0, has_more=False)
        best = best_first(found)[:_NAMES]
        return Completion(values=[hit.path.lstrip("/") for hit in best], total=matched, has_more=matched > len(best))
