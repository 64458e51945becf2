"""Definitions and names in source text, by tree-sitter and the tag queries of its grammars. Pure.

A grammar is loaded when its first file comes. A text that its grammar cannot read in full still gives what could be
read: tree-sitter goes on after an error.
"""

import functools
import importlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

__all__ = ["EXTENSIONS", "Source", "Symbol", "Unreadable", "language_of"]

_READ_S = 1.0
"""A megabyte of code takes a third of it; one of brackets that never close takes minutes."""
_PART_BYTES = 64 << 10
_MOST_STEPS = 10_000**2

_BASH_TAGS = "(function_definition name: (word) @name) @definition.function"
_CSHARP_TAGS = """
(class_declaration name: (identifier) @name) @definition.class
(struct_declaration name: (identifier) @name) @definition.class
(record_declaration name: (identifier) @name) @definition.class
(interface_declaration name: (identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(namespace_declaration name: (_) @name) @definition.module
(method_declaration name: (identifier) @name) @definition.method
(constructor_declaration name: (identifier) @name) @definition.method
(property_declaration name: (identifier) @name) @definition.property
"""
# TypeScript's own tags hold only what it adds to JavaScript. C's and C++'s own take every use of a type for one.
_C_TAGS = """
(struct_specifier name: (type_identifier) @name body: (_)) @definition.class
(enum_specifier name: (type_identifier) @name body: (_)) @definition.enum
(union_specifier name: (type_identifier) @name body: (_)) @definition.class
(type_definition declarator: (type_identifier) @name) @definition.type
(function_definition declarator: (function_declarator declarator: (identifier) @name)) @definition.function
(function_definition declarator: (pointer_declarator
  declarator: (function_declarator declarator: (identifier) @name))) @definition.function
(preproc_def name: (identifier) @name) @definition.constant
(preproc_function_def name: (identifier) @name) @definition.macro
"""
_CPP_TAGS = """
(class_specifier name: (type_identifier) @name body: (_)) @definition.class
(namespace_definition name: (_) @name) @definition.module
(function_definition declarator: (function_declarator
  declarator: (qualified_identifier name: (identifier) @name))) @definition.method
(function_definition declarator: (function_declarator declarator: (field_identifier) @name)) @definition.method
(function_definition declarator: (reference_declarator
  (function_declarator declarator: [(identifier) (field_identifier)] @name))) @definition.function
"""


@dataclass(frozen=True)
class _Grammar:
    """A language: the module of its grammar, the function in it, and what is added to the grammar's own tags."""

    module: str
    function: str = "language"
    own_tags: bool = True
    more: str = ""
    inherits: str = ""


_GRAMMARS = {
    "python": _Grammar("tree_sitter_python"),
    "javascript": _Grammar("tree_sitter_javascript"),
    "typescript": _Grammar("tree_sitter_typescript", "language_typescript", inherits="tree_sitter_javascript"),
    "tsx": _Grammar("tree_sitter_typescript", "language_tsx", inherits="tree_sitter_javascript"),
    "go": _Grammar("tree_sitter_go"),
    "rust": _Grammar("tree_sitter_rust"),
    "java": _Grammar("tree_sitter_java"),
    "c": _Grammar("tree_sitter_c", own_tags=False, more=_C_TAGS),
    "cpp": _Grammar("tree_sitter_cpp", own_tags=False, more=_C_TAGS + _CPP_TAGS),
    "csharp": _Grammar("tree_sitter_c_sharp", own_tags=False, more=_CSHARP_TAGS),
    "ruby": _Grammar("tree_sitter_ruby"),
    "php": _Grammar("tree_sitter_php", "language_php"),
    "bash": _Grammar("tree_sitter_bash", own_tags=False, more=_BASH_TAGS),
}

EXTENSIONS = {
    **dict.fromkeys((".py", ".pyi"), "python"),
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), "javascript"),
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    **dict.fromkeys((".c", ".h"), "c"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), "cpp"),
    ".cs": "csharp",
    ".rb": "ruby",
    ".php": "php",
    **dict.fromkeys((".sh", ".bash"), "bash"),
}
"""Which grammar reads files of a name's ending."""

_NO_CODE = ("comment", "string", "char", "heredoc", "regex", "text")
_CODE_IN_STRINGS = ("interpolation", "substitution", "template_substitution", "expansion")


@dataclass(frozen=True)
class Symbol:
    """A definition.

    Args:
        name: What it defines.
        kind: `class`, `function`, `method`, `constant`, …, as the grammar's tags say.
        first_line: Where it starts, from 1.
        last_line: Where it ends.
        name_line: Where its name stands.
        column: Where in that line, in bytes from 0.
        container: Names of the definitions around it, outermost first, joined by dots.
    """

    name: str
    kind: str
    first_line: int
    last_line: int
    name_line: int
    column: int
    container: str = ""


def language_of(path: str) -> str | None:
    """The language of a file by its name, None when no grammar is here for it."""
    return EXTENSIONS.get(PurePosixPath(path).suffix.lower())


@functools.cache
def _grammar(language: str) -> tuple[Language, Query]:
    wanted = _GRAMMARS[language]
    module = importlib.import_module(wanted.module)
    loaded = Language(getattr(module, wanted.function)())
    tags = [wanted.more]
    if wanted.inherits:
        tags.insert(0, importlib.import_module(wanted.inherits).TAGS_QUERY)
    if wanted.own_tags:
        tags.append(module.TAGS_QUERY)
    return loaded, Query(loaded, "\n".join(tags))


class Unreadable(ValueError):
    """A text that its grammar would take too long to read."""


class Source:
    """A text that was read by its grammar.

    Args:
        content: Its bytes.
        language: One of `EXTENSIONS`.

    Raises:
        Unreadable: It takes too long; no code that anybody works with does.
    """

    def __init__(self, content: bytes, language: str) -> None:
        loaded, self._tags = _grammar(language)
        until_s = time.thread_time() + _READ_S  # its own, so that a busy machine leaves no file unread
        try:
            self._tree: Tree = Parser(loaded).parse(
                lambda at, _: content[at : at + _PART_BYTES], progress_callback=lambda *_: time.thread_time() > until_s
            )
        except ValueError as error:
            raise Unreadable(str(error)) from error
        if _is_endless(self._tree.root_node):
            raise Unreadable("too much of it is no code")

    def symbols(self) -> list[Symbol]:
        """Its definitions in the order of their places."""
        found: dict[tuple[int, int], tuple[Node, Node, str]] = {}
        for _, captured in QueryCursor(self._tags).matches(self._tree.root_node):
            name = captured.get("name")
            for kind, nodes in captured.items():
                if name and kind.startswith("definition."):
                    found.setdefault((name[0].start_byte, name[0].end_byte), (nodes[0], name[0], kind[11:]))
        return _nested(sorted(found.values(), key=lambda one: (one[0].start_byte, -one[0].end_byte)))

    def is_code(self, line: int, column: int) -> bool:
        """Whether what stands in a line (from 1) at a byte (from 0) is code, and neither comment nor text."""
        node = self._tree.root_node.descendant_for_point_range((line - 1, column), (line - 1, column))
        while node is not None:
            if any(part in node.type for part in _CODE_IN_STRINGS):
                return True
            if node.is_named and any(part in node.type for part in _NO_CODE) and "identifier" not in node.type:
                return False
            node = node.parent
        return True


def _is_endless(root: Node) -> bool:
    """Whether a query would take too long: it passes all parts of what could not be read once for each of them.

    A query cannot be stopped: tree-sitter (0.26) calls back from threads that do not hold the interpreter.
    """
    steps, nodes = 0, [root]
    while nodes:
        node = nodes.pop()
        if node.has_error:
            steps += node.child_count**2
            if steps > _MOST_STEPS:
                return True
            nodes += node.children
    return False


def _nested(found: Iterable[tuple[Node, Node, str]]) -> list[Symbol]:
    symbols: list[Symbol] = []
    around: list[tuple[int, str]] = []
    for node, name, kind in found:
        while around and around[-1][0] <= node.start_byte:
            around.pop()
        text = (name.text or b"").decode("utf-8", "replace")
        symbols.append(
            Symbol(
                name=text,
                kind=kind,
                first_line=node.start_point.row + 1,
                last_line=max(node.start_point.row, node.end_point.row - (node.end_point.column == 0)) + 1,
                name_line=name.start_point.row + 1,
                column=name.start_point.column,
                container=".".join(outer for _, outer in around),
            )
        )
        around.append((node.end_byte, text))
    return symbols
