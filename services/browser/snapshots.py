"""A page's accessibility tree as few characters as tell what is on it. Pure: text in, text out.

Playwright's tree is one line a node, two blanks a level, each with a ref and what else it knows. Most of that says
nothing to a reader: boxes around one thing, refs of what cannot be used, marks of the pointer. What is left out here
can still be had (`full`), and refs that are shown are Playwright's own: they stay as long as their element does.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Box", "Node", "changes", "found_lines", "lines_of", "parsed"]

_LINE = re.compile(r"(?P<indent> *)- (?P<rest>[^\n]*)")
_CONTINUED = re.compile(r"\n(?! *- ) *")
# `role "name" [mark] [mark]: text`; a name may hold anything, so marks count only where they stand.
_NODE = re.compile(r'(?P<head>[a-z]+(?: "(?:[^"\\]|\\.)*"| /.*?/)?)(?P<marks>(?: \[[^\]]*\])*)(?P<tail>:.*|)')
_QUOTED = re.compile(r"'(?P<single>(?:[^']|'')*)'(?P<tail>:.*|)")
_MARK = re.compile(r" \[([a-z]+)(?:=([^\]]*))?\]")
_ROLE = re.compile(r"[a-z]+")
_USED = frozenset(
    {
        *("button", "checkbox", "combobox", "link", "listbox", "menuitem", "menuitemcheckbox", "menuitemradio"),
        *("option", "radio", "searchbox", "slider", "spinbutton", "switch", "tab", "textbox", "treeitem", "iframe"),
    }
)
_PLACES = frozenset(
    {
        *(
            "main",
            "navigation",
            "banner",
            "contentinfo",
            "form",
            "search",
            "dialog",
            "alertdialog",
            "region",
            "article",
        ),
        *("table", "grid", "list", "tree", "tablist", "menu", "toolbar", "group", "figure"),
    }
)
_BOXES = frozenset(
    {
        *(
            "generic",
            "none",
            "presentation",
            "rowgroup",
            "listitem",
            "row",
            "paragraph",
            "list",
            "table",
            "superscript",
        ),
        *("subscript", "emphasis", "strong", "cell"),
    }
)
_PLAIN = ("generic: ", "paragraph: ", "listitem: ", "emphasis: ", "strong: ", "superscript: ", "subscript: ")
_NAME = re.compile(r'[a-z]+ "((?:[^"\\]|\\.)*)"')
_HEADING = re.compile(r'heading(?P<name> ".*")? \[level=(?P<level>\d)\](?P<rest>.*)')
_CELL_LINES = 4
_DEEPEST = 400  # in blanks, two a level: what lies deeper is shown as if it lay there
_CONTEXT = 1
_DIFF_LINES = 20_000

Box = tuple[float, float, float, float]
"""x, y, width, height in CSS pixels, relative to the window."""


@dataclass
class Node:
    """A line of the tree with what is beneath it.

    Args:
        text: The line without its indentation, ref, box and marks.
        ref: Its ref, "" for none.
        box: Where it is, None when not asked for.
        pointer: The pointer changes over it, so that it can probably be clicked.
        children: Beneath it.
    """

    text: str
    ref: str = ""
    box: Box | None = None
    pointer: bool = False
    children: list["Node"] = field(default_factory=list)

    @cached_property
    def role(self) -> str:
        """Its role; "/url" and the like, and "" for text, are none."""
        found = _ROLE.match(self.text)
        return found[0] if found else ""

    @property
    def used(self) -> bool:
        """Whether it can be used: clicked, typed into, chosen."""
        return self.role in _USED or self.pointer

    @cached_property
    def called(self) -> frozenset[str]:
        """What it and the controls directly in it are called."""
        return frozenset((_name(self), *map(_name, _controls(self))))


def parsed(tree: str) -> list[Node]:
    """Playwright's tree as nodes."""
    top = Node("")
    open_nodes: list[tuple[int, Node]] = [(-1, top)]
    for line in _CONTINUED.sub(" ", tree).split("\n"):  # a page's own texts may hold what else ends a line
        match = _LINE.match(line)
        if match is None:
            continue
        depth = min(len(match["indent"]), _DEEPEST)
        while open_nodes[-1][0] >= depth:
            open_nodes.pop()
        node = _node(match["rest"])
        open_nodes[-1][1].children.append(node)
        open_nodes.append((depth, node))
    return top.children


def _node(rest: str) -> Node:
    # YAML's quotes, where a name would not be plain.
    if rest.startswith("'") and (quoted := _QUOTED.fullmatch(rest)):
        rest = quoted["single"].replace("''", "'") + quoted["tail"]
    match = _NODE.fullmatch(rest)
    if match is None:
        return Node(rest)
    head, said_of_it, tail = match["head"], match["marks"], match["tail"]
    marks = dict(_MARK.findall(said_of_it)) if said_of_it else {}
    ref, pointer, place = marks.pop("ref", ""), marks.pop("cursor", ""), marks.pop("box", "")
    if head == "generic":
        marks.pop("active", "")  # the body has it where nothing else does
    said = "".join(f" [{name}={value}]" if value else f" [{name}]" for name, value in marks.items())
    return Node(f"{head}{said}{tail}", ref, _box(place), pointer == "pointer")


def _box(place: str) -> Box | None:
    numbers = tuple(map(float, place.split(","))) if place else ()
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def lines_of(
    nodes: Iterable[Node], *, interactive: bool = False, within: Box | None = None, urls: bool = False
) -> list[str]:
    """The tree in few characters, one line a node.

    Args:
        nodes: Its top.
        interactive: Only what can be used, and headings.
        within: Only what touches this box.
        urls: With the targets of links.
    """
    lines: list[str] = []
    wanted = _Wanted(interactive, within, urls)
    for node in nodes:
        _write(node, 0, lines, wanted, outside=False)
    return lines


@dataclass(frozen=True)
class _Wanted:
    interactive: bool
    within: Box | None
    urls: bool

    def outside(self, node: Node, above: bool) -> bool:
        """Whether a node lies outside of what is wanted; text has no box, and lies where what holds it does."""
        if self.within is None or node.box is None:
            return above
        return not _touch(node.box, self.within)

    def keep(self, node: Node) -> bool:
        return not self.interactive or node.used or node.role == "heading"


def _touch(one: Box, other: Box) -> bool:
    across = one[0] < other[0] + other[2] and other[0] < one[0] + one[2]
    return across and one[1] < other[1] + other[3] and other[1] < one[1] + one[3]


def _write(node: Node, depth: int, lines: list[str], wanted: _Wanted, *, outside: bool) -> None:
    if node.text.startswith("/"):
        if wanted.urls and lines and not outside:
            lines[-1] += f" {node.text.rstrip(':')}"
        return
    outside = wanted.outside(node, outside)
    shown = not outside and wanted.keep(node) and not _says_nothing(node)
    joins = node.role in ("row", "combobox", "listbox") and not outside and not wanted.interactive
    if joins and (joined := _in_one_line(node, wanted)):
        lines.append(f"{' ' * depth}{joined}")
        return
    if shown:
        lines.append(f"{' ' * depth}{_shown(node)}")
    at = len(lines)
    for child in node.children:
        if not _repeats(child, node):
            _write(child, depth + shown, lines, wanted, outside=outside)
    if shown and at == len(lines) - 1 and node.role not in _PLACES:
        only = lines.pop()
        lines[-1] += f" > {only.strip()}"


def _repeats(child: Node, node: Node) -> bool:
    """A text that only says again what its control or the node around it is called."""
    if node.role in ("button", "link") and _said_in(child, _name(node)):
        return True
    said = _text(child)
    return said is not None and said in node.called


def _said_in(node: Node, name: str) -> bool:
    """Whether a name holds all that a node and what is in it say, and none of it is to be used."""
    if not name or node.used or node.text.startswith("/"):
        return False
    said = _name(node) or _text(node) or _after(node)
    return said in name and all(_said_in(child, name) for child in node.children)


def _controls(node: Node) -> list[Node]:
    """The controls that lie directly in a node, or in boxes directly in it."""
    return [
        found
        for child in node.children
        for found in (child.children if child.role == "generic" and len(child.children) == 1 else [child])
        if found.role in ("checkbox", "radio", "switch", "textbox", "combobox", "spinbutton", "slider", "searchbox")
    ]


def _text(node: Node) -> str | None:
    """What a node says where it is nothing but a text."""
    if node.children or node.pointer:
        if len(node.children) == 1 and not node.pointer and node.text.rstrip(":") == "generic":
            return _text(node.children[0])
        return None
    for plain in ("text: ", *_PLAIN):
        if node.text.startswith(plain):
            return node.text[len(plain) :].strip('"')
    return None


def _name(node: Node) -> str:
    """Its name, "" without one."""
    found = _NAME.match(node.text)
    return found[1] if found else ""


def _in_one_line(node: Node, wanted: _Wanted) -> str:
    """A row of a table, or a choice with its options; "" where it holds more than fits a line."""
    if node.role != "row":
        options = [child for child in node.children if child.role == "option"]
        if not options or len(options) != len(node.children):
            return ""
        names = (f"*{_name(one)}" if "[selected]" in one.text else _name(one) for one in options)
        return f"{_shown(Node(node.text, node.ref))} {' | '.join(names)}"
    parts = []
    for cell in node.children:
        inner: list[str] = []
        for child in cell.children:
            _write(child, 0, inner, wanted, outside=False)
        if len(inner) > _CELL_LINES:
            return ""
        parts.append(
            " ".join((*([] if inner else [_name(cell) or _text(cell) or _after(cell)]), *map(str.strip, inner)))
        )
    return f"row: {' | '.join(parts)}" if parts else ""


def _after(cell: Node) -> str:
    return cell.text.partition(": ")[2]


def _says_nothing(node: Node) -> bool:
    """A box with no name of its own: what is in it says all there is."""
    return node.text.rstrip(":") in _BOXES and (
        not node.pointer or any(child.used for child in node.children) or not node.children
    )


def _shown(node: Node) -> str:
    text = node.text.rstrip(":") if node.children else node.text
    if text.startswith("text: "):
        return text[len("text: ") :]
    if not node.pointer:
        for plain in _PLAIN:
            if text.startswith(plain):
                return text[len(plain) :]
    if level := _HEADING.fullmatch(text):
        return f"h{level['level']}{level['name'] or ''}{level['rest']}"
    if node.role in ("button", "link") and (named := _NAME.match(text)):
        text = re.sub(r": .*", "", text[named.end() :], count=1)
        text = f"{named[0]}{text}"
    # A place can be read or pictured by its ref; of all else only what can be used is spoken to.
    return f"{text} [{node.ref}]" if node.ref and (node.used or node.role in _PLACES) else text


def changes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What differs between two trees: lines that went with `-`, that came with `+`, with a line around them."""
    if max(len(before), len(now)) > _DIFF_LINES:
        return ["(too long to compare; take a new snapshot without diff)"]
    compared = difflib.unified_diff(before, now, lineterm="", n=_CONTEXT)
    return [line for line in compared if not line.startswith(("---", "+++"))]


def found_lines(lines: Sequence[str], wanted: Callable[[str], bool]) -> list[str]:
    """Lines that are wanted, each beneath the lines it lies under in the tree, and with what lies directly in it."""
    shown: list[str] = []
    above: list[tuple[int, int]] = []
    written: set[int] = set()
    for number, line in enumerate(lines):
        depth = _depth(line)
        while above and above[-1][0] >= depth:
            above.pop()
        above.append((depth, number))
        if wanted(line):
            for _, index in above:
                if index not in written:
                    written.add(index)
                    shown.append(lines[index])
    return shown


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
