"""What a version offers its clients, and whether another keeps every promise of it. Pure values and functions.

A breach is a promise that the canary would break: a client that does what stable's lists told it would fail. More than
was promised is no breach: a new tool, a new optional argument, wider input, narrower output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final

from control_plane.model import Document, Glob, Line
from control_plane.names import allows
from control_plane.schemas import Difference, Sort, differences
from control_plane.shapes import resolved, shown

Json = Mapping[str, object]
PROTOCOL: Final = "protocol"
HEADER: Final = "x-mcp-header"
MOST_DEEP: Final = 16
MOST_ARGUMENTS: Final = 2_000
MOST_PER_ITEM: Final = 20


@dataclass(frozen=True)
class Offer:
    """What one version offers.

    Attributes:
        version: The version.
        protocols: Protocol versions it speaks.
        tools: `Tool` objects as listed, by name.
        prompts: `Prompt` objects, by name.
        resources: URIs and URI templates.
        probes: Arguments of the calls that have to work, by tool, as the service itself declares them.
    """

    version: str
    protocols: frozenset[str]
    tools: Mapping[str, Json]
    prompts: Mapping[str, Json] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    probes: Mapping[str, Json] = field(default_factory=dict)


class Kind(StrEnum):
    """How a promise is broken; what a waiver may name after the colon."""

    GONE = "gone"
    REQUIRED = "required"
    REMOVED = "removed"
    NARROWED = "narrowed"
    OUTPUT = "output"
    HEADER = "header"
    EFFECT = "effect"
    CANNOT_TELL = "cannot-tell"


@dataclass(frozen=True)
class Breach:
    """A promise that would be broken.

    Attributes:
        subject: Whose: a tool's or prompt's name, a resource's URI or template, or `protocol`.
        kind: How.
        sentence: What a person reads; names the subject.
        before: What stable says there, as JSON, shortened; "" for nothing.
        after: What the canary says.
    """

    subject: str
    kind: Kind
    sentence: str
    before: str = ""
    after: str = ""


class Waiver(Document):
    """An operator's word that a breach is meant.

    Attributes:
        what: Glob over subjects (`filesystem_write`), or over subject and kind (`filesystem_write:narrowed`).
        reason: Why.
    """

    what: Glob
    reason: Line

    def covers(self, breach: Breach) -> bool:
        """Whether it is about this breach."""
        return any(allows((self.what,), text) for text in (breach.subject, f"{breach.subject}:{breach.kind}"))


@dataclass(frozen=True)
class Waived:
    """What waivers leave.

    Attributes:
        standing: Breaches that no waiver covers.
        excused: The others, each with the first waiver that covers it.
        unused: Waivers that cover nothing, so that a misspelt one is noticed.
    """

    standing: tuple[Breach, ...]
    excused: tuple[tuple[Breach, Waiver], ...]
    unused: tuple[Waiver, ...]


def waived(found: Sequence[Breach], waivers: Sequence[Waiver]) -> Waived:
    """Tell the breaches that an operator has waived from those that stand."""
    by = {breach: next((waiver for waiver in waivers if waiver.covers(breach)), None) for breach in found}
    return Waived(
        standing=tuple(breach for breach, waiver in by.items() if waiver is None),
        excused=tuple((breach, waiver) for breach, waiver in by.items() if waiver is not None),
        unused=tuple(waiver for waiver in waivers if not any(waiver.covers(breach) for breach in found)),
    )


def breaches(stable: Offer, canary: Offer) -> tuple[Breach, ...]:
    """Promises of the stable version that the canary would break; none if it keeps them all. Never raises.

    Args:
        stable: What clients know.
        canary: What would answer them.
    """
    return (
        *_protocols(stable, canary),
        *_each("tool", stable.tools, canary.tools, _tool),
        *_each("prompt", stable.prompts, canary.prompts, _prompt),
        *(
            Breach(uri, Kind.GONE, f"resource {uri} is gone", uri)
            for uri in sorted(stable.resources - canary.resources)
        ),
    )


def _protocols(stable: Offer, canary: Offer) -> Iterator[Breach]:
    for version in sorted(stable.protocols - canary.protocols):
        before, after = sorted(stable.protocols), sorted(canary.protocols)
        yield Breach(PROTOCOL, Kind.GONE, f"protocol {version} is no longer spoken", shown(before), shown(after))


def _each(
    what: str,
    before: Mapping[str, Json],
    after: Mapping[str, Json],
    compare: Callable[[str, Json, Json], Iterator[Breach]],
) -> Iterator[Breach]:
    for name in sorted(before):
        if name not in after:
            yield Breach(name, Kind.GONE, f"{what} {name} is gone", shown(before[name]))
            continue
        try:
            found = list(compare(name, before[name], after[name]))
        except (RecursionError, TypeError, ValueError, AttributeError) as error:
            text = f"{what} {name} cannot be compared: {type(error).__name__}"
            found = [Breach(name, Kind.CANNOT_TELL, text, shown(before[name]), shown(after[name]))]
        yield from _few(name, found)


def _few(name: str, found: list[Breach]) -> Iterator[Breach]:
    yield from found[:MOST_PER_ITEM]
    rest = found[MOST_PER_ITEM:]
    for kind in dict.fromkeys(breach.kind for breach in rest):
        count = sum(breach.kind is kind for breach in rest)
        yield Breach(name, kind, f"{name}: {count} more of kind {kind}")


def _tool(name: str, before: Json, after: Json) -> Iterator[Breach]:
    if before == after:
        return
    old, new = before.get("inputSchema", True), after.get("inputSchema", True)
    for difference in differences(old, new):
        yield _input_breach(name, difference)
    yield from _headers(name, old, new)
    yield from _output(name, before, after)
    yield from _effects(name, before, after)


def _output(name: str, before: Json, after: Json) -> Iterator[Breach]:
    old, new = before.get("outputSchema"), after.get("outputSchema")
    if old is None:
        return
    if new is None:
        yield Breach(name, Kind.OUTPUT, f"{name}: it no longer has an output schema", shown(old))
        return
    # What the canary may answer has to be something that stable might have answered.
    for difference in differences(new, old):
        kind = Kind.CANNOT_TELL if difference.sort is Sort.UNSURE else Kind.OUTPUT
        text = _OUTPUT_WORDS[difference.sort].format(where=_where("output", difference), what=difference.detail)
        yield Breach(name, kind, f"{name}: {text}", _said(difference.second), _said(difference.first))


def _input_breach(name: str, difference: Difference) -> Breach:
    kind, words = _INPUT_WORDS[difference.sort]
    text = words.format(where=_where("argument", difference), what=difference.detail)
    return Breach(name, kind, f"{name}: {text}", _said(difference.first), _said(difference.second))


def _said(part: object) -> str:
    return "" if part is None else shown(part)


def _where(what: str, difference: Difference) -> str:
    path = ".".join(difference.path).replace(".[]", "[]")
    return f"{what} {path}" if path else {"argument": "the arguments", "output": "the output"}[what]


_UNSURE: Final = "{where}: what a change of {what} means cannot be told"
_INPUT_WORDS: Final[Mapping[Sort, tuple[Kind, str]]] = {
    Sort.TYPE: (Kind.NARROWED, "{where} no longer takes {what}"),
    Sort.VALUES: (Kind.NARROWED, "{where} no longer takes {what}"),
    Sort.BOUND: (Kind.NARROWED, "{where}: {what} is stricter"),
    Sort.REQUIRED: (Kind.REQUIRED, "{where} is required now"),
    Sort.REMOVED: (Kind.REMOVED, "{where} is gone, and unknown arguments are refused"),
    Sort.CLOSED: (Kind.NARROWED, "{where}: what is not named is refused now"),
    Sort.NOTHING: (Kind.NARROWED, "{where}: nothing is taken any more"),
    Sort.UNSURE: (Kind.CANNOT_TELL, _UNSURE),
}
_OUTPUT_WORDS: Final[Mapping[Sort, str]] = {
    Sort.TYPE: "{where} can be {what} now",
    Sort.VALUES: "{where} can be {what} now",
    Sort.BOUND: "{where}: {what} is wider",
    Sort.REQUIRED: "{where} is not always there any more",
    Sort.REMOVED: "{where} is new, and nothing but what was named was promised",
    Sort.CLOSED: "{where}: more than is named can be there now",
    Sort.NOTHING: "{where} can be there now, and never was",
    Sort.UNSURE: _UNSURE,
}


def _headers(name: str, before: object, after: object) -> Iterator[Breach]:
    """A client sends the headers that stable's list asks for, and the canary refuses a call without its own."""
    old, new = (dict(islice(_marked(schema, schema, ()), MOST_ARGUMENTS)) for schema in (before, after))
    for path in sorted(old.keys() & new.keys()):
        was, now = old[path], new[path]
        if was != now:
            text = f"argument {'.'.join(path)}: {HEADER} was {was or 'none'}, is {now or 'none'}"
            yield Breach(name, Kind.HEADER, f"{name}: {text}", shown(was), shown(now))


def _marked(schema: object, root: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every argument that can be reached by names alone, and the header it is sent in, None for none."""
    members = resolved(schema, root).get("properties")
    if len(path) == MOST_DEEP or not isinstance(members, Mapping):
        return
    for key, member in members.items():
        here = (*path, str(key))
        marked = resolved(member, root).get(HEADER)
        yield here, marked.lower() if isinstance(marked, str) else marked
        yield from _marked(member, root, here)


@dataclass(frozen=True)
class _Effect:
    hint: str
    default: bool
    worse: bool
    now: str


_EFFECTS: Final = (
    _Effect("readOnlyHint", default=False, worse=False, now="it changes something now"),
    _Effect("destructiveHint", default=True, worse=True, now="it may destroy something now"),
    _Effect("idempotentHint", default=False, worse=False, now="to call it twice is no longer to call it once"),
    _Effect("openWorldHint", default=True, worse=True, now="it reaches beyond the platform now"),
)


def _effects(name: str, before: Json, after: Json) -> Iterator[Breach]:
    old, new = _hints(before), _hints(after)
    for effect in _EFFECTS:
        if new[effect.hint] is effect.worse and old[effect.hint] is not effect.worse:
            text = f"{name}: {effect.hint} was {shown(old[effect.hint])}, is {shown(new[effect.hint])}: {effect.now}"
            yield Breach(name, Kind.EFFECT, text, _said(before.get("annotations")), _said(after.get("annotations")))


def _hints(tool: Json) -> dict[str, bool]:
    """What a client takes from the annotations, with the specification's defaults (schema 2026-07-28).

    A tool that only reads destroys nothing, and reading twice is reading once, whatever it says of that.
    """
    said = tool.get("annotations")
    given = said if isinstance(said, Mapping) else {}
    hints = {
        effect.hint: value if isinstance(value := given.get(effect.hint), bool) else effect.default
        for effect in _EFFECTS
    }
    if hints["readOnlyHint"]:
        hints |= {"destructiveHint": False, "idempotentHint": True}
    return hints


def _prompt(name: str, before: Json, after: Json) -> Iterator[Breach]:
    old, new = _arguments(before), _arguments(after)
    for argument in sorted(old.keys() - new.keys()):
        yield Breach(name, Kind.REMOVED, f"{name}: argument {argument} is gone", shown(old[argument]))
    for argument in sorted(new):
        if new[argument].get("required") is True and old.get(argument, {}).get("required") is not True:
            was = shown(old[argument]) if argument in old else ""
            yield Breach(name, Kind.REQUIRED, f"{name}: argument {argument} is required now", was, shown(new[argument]))


def _arguments(prompt: Json) -> dict[str, Json]:
    listed = prompt.get("arguments")
    found: Iterable[object] = listed if isinstance(listed, list) else ()
    return {str(item["name"]): item for item in found if isinstance(item, Mapping) and "name" in item}
