"""Tools for a list too long for a model: one that finds tools by words, one that calls what was found.

What a client may not use it does not find, and the call goes out under its own name with the client's grant, so nothing
here is a way around a right.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rapidfuzz import fuzz, process

from services.common.soundness import Item, service_of

__all__ = ["CALL", "DOORS", "FIND", "found_text", "rank", "size_of", "summary"]

FIND: Final = "hub_find_tools"
CALL: Final = "hub_call_tool"
MOST: Final = 20
_FOUND_BYTES: Final = 48 << 10
_NAME_WEIGHT: Final = 3.0
_TITLE_WEIGHT: Final = 2.0
_LIKE_PCT: Final = 80

DOORS: Final[Sequence[Item]] = (
    {
        "name": CALL,
        "title": "Call a tool by its name",
        "description": f"Call a tool that {FIND} has found. The result is that tool's own.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The tool's name, as found."},
                "arguments": {"type": "object", "description": "Its arguments, after its own inputSchema."},
            },
            "required": ["name"],
            "additionalProperties": False,
        },
        # It may be any tool, so it is announced as the worst of them.
        "annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True},
    },
    {
        "name": FIND,
        "title": "Find tools",
        "description": "This server has more tools than fit in one list. Find those for a task by a few words; the "
        f"answer has each one's description and inputSchema. Then call it with {CALL}.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": 'Words for what is to be done; "" lists all names.'},
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 5},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
)


def size_of(tools: Iterable[Item]) -> int:
    """Bytes that a list of tools takes on the wire."""
    return sum(len(json.dumps(tool)) + 1 for tool in tools)


def summary(tools: Sequence[Item]) -> str:
    """How many tools of which service there are, in one sentence for a model."""
    counts = Counter(service_of(str(tool["name"])) for tool in tools)
    of_each = ", ".join(f"{count} of {service}" for service, count in sorted(counts.items()))
    return f"{len(tools)} tools are here ({of_each}): find them with {FIND}, call them with {CALL}."


def rank(tools: Sequence[Item], query: str) -> list[Item]:
    """The tools that fit a query, best first.

    A word counts the more the fewer tools have it, most in a name, then in a title; a word that none has stands for
    the one most like it.
    """
    texts = [_words_of(tool) for tool in tools]
    spread = Counter(word for words in texts for word in words)
    wanted = [_known(word, spread) for word in _split(query)]
    rarity = {word: math.log(1 + len(tools) / spread[word]) for word in wanted if word in spread}
    scores = [sum(words.get(word, 0.0) * weight for word, weight in rarity.items()) for words in texts]
    ranked = sorted(zip(scores, tools, strict=True), key=lambda scored: (-scored[0], str(scored[1]["name"])))
    return [tool for score, tool in ranked if score > 0]


def found_text(tools: Sequence[Item], query: str, limit: int) -> str:
    """What the finding tool answers: JSON with the tools, or with all names for an empty query."""
    if not query.strip():
        return json.dumps({"names": [tool["name"] for tool in tools]})
    fitting = rank(tools, query)
    shown: list[Any] = []
    for tool in fitting[:limit]:
        if shown and size_of([*shown, tool]) > _FOUND_BYTES:
            break
        shown.append(tool)
    answer: dict[str, Any] = {"tools": shown, "matched": len(fitting), "omitted": len(fitting) - len(shown)}
    if not fitting:
        answer["hint"] = f'no tool has these words; other words, or {FIND} with query "" for all names'
    return json.dumps(answer)


def _words_of(tool: Item) -> dict[str, float]:
    words: dict[str, float] = {}
    properties = tool["inputSchema"].get("properties")
    parameters = " ".join(properties) if isinstance(properties, dict) else ""
    rest = f"{tool.get('description') or ''} {parameters}"
    for text, weight in ((rest, 1.0), (str(tool.get("title") or ""), _TITLE_WEIGHT), (tool["name"], _NAME_WEIGHT)):
        words |= dict.fromkeys(_split(text), weight)
    return words


def _split(text: str) -> list[str]:
    """Lower-case words; a plural is its singular."""
    return [word.removesuffix("s") if len(word) > 3 else word for word in re.findall(r"[^\W_]+", text.lower())]


def _known(word: str, spread: Counter[str]) -> str:
    if word in spread:
        return word
    like = process.extractOne(word, spread.keys(), scorer=fuzz.ratio, score_cutoff=_LIKE_PCT)
    return str(like[0]) if like is not None else word
