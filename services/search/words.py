"""Words of texts and questions, and where a text is best divided. Pure.

Every regular expression here is ours and takes time linear in the text: what it reads comes from anybody.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Generic, TypeVar

__all__ = [
    "LONGEST_WORD",
    "Kept",
    "code_words",
    "defined_names",
    "divide",
    "identifiers",
    "parts",
    "query_words",
    "words_of",
]

T = TypeVar("T")

LONGEST_WORD = 80
"""Longer ones are no words that anybody would look for, but data."""

_WORD = re.compile(r"\w+")
# What is no word in ASCII, as blanks: most code is, and is split by them several times as fast as by the expression.
_NO_WORD = bytes(code if _WORD.match(chr(code)) else ord(" ") for code in range(128)).ljust(256)
_KEPT_WORDS = 1 << 17
_MIXED = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]\d|\d[A-Za-z]")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\da-zA-Z_]+")
_QUERY_WORDS = 48
# Words that say nothing about code, whoever writes them in a question. No word of a programming language is here
# that anybody would look for.
_STOP = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do", "does", "each",
        "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "my",
        "no", "not", "of", "on", "or", "our", "should", "so", "some", "such", "than", "that", "the", "their", "them",
        "then", "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where",
        "which", "while", "who", "why", "will", "with", "would", "you", "your",
    )
)  # fmt: skip
# Lines begin by "\n" here and not by "^": a first character that is known is sought many times as fast. For the same
# reason blanks are not given back, and what follows them is looked at by its first letter.
_DEFINES = re.compile(
    r"\n[ \t]{0,12}+(?=[a-z])(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe"
    r"|extern|inline|const|override|virtual|sealed|partial|pub(?:\([a-z: ]{1,20}\))?)[ \t]+){0,5}"
    r"(?:def|class|function\*?|func|fn|struct|interface|trait|enum|impl|type|module|namespace|macro_rules!|record"
    r"|object|protocol|mod)[ \t]+(?:\([^)\n]{0,80}\)[ \t]*)?([A-Za-z_$][\w$]{0,80})"
)
_ASSIGNS = re.compile(r"\n(?:export[ \t]+)?(?:const|let|var)[ \t]+([A-Za-z_$][\w$]{0,80})[ \t]*[=:]")
_C_LIKE = re.compile(
    r"\n[ \t]{0,8}+[A-Za-z_][\w:<>,\[\]*& \t]{0,100}?[ \t*&]([A-Za-z_~]\w{0,80})\([^;{}\n]{0,200}\)?[^;\n]{0,40}$", re.M
)
_NO_NAMES = frozenset(("if", "for", "while", "switch", "return", "catch", "else", "sizeof", "new", "throw", "await"))
_LEADS = ("@", "#", "//", "/*", "*", '"""')
_C_ENDINGS = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".java", ".cs", ".js", ".ts", ".tsx", ".jsx", ".php")
_LEAST_LINES = 5
_MOST_LINES = 60


class Kept(dict[str, T], Generic[T]):
    """What a function says of a word, asked once: a look into a dict is all that each further one costs."""

    def __init__(self, function: Callable[[str], T]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, word: str) -> T:
        found = self._function(word)
        if len(word) <= LONGEST_WORD:
            if len(self) >= _KEPT_WORDS:
                self.clear()
            self[word] = found
        return found


def _mixed_parts(word: str) -> tuple[str, ...]:
    return tuple(_CAMEL.findall(word)) if not word.islower() and _MIXED.search(word) else ()


def _is_several(word: str) -> bool:
    return len(word) <= LONGEST_WORD and ("_" in word.strip("_") or bool(_mixed_parts(word)))


_SEVERAL = Kept(_is_several)


def words_of(text: str) -> list[str]:
    """The words of a text, identifiers as they are, in the order of their places."""
    return text.encode().translate(_NO_WORD).decode().split() if text.isascii() else _WORD.findall(text)


def identifiers(words: Iterable[str]) -> list[str]:
    """Those words that are identifiers of several, in snake case or mixed case."""
    return list(filter(_SEVERAL.__getitem__, words))


def parts(words: Iterable[str]) -> list[str]:
    """The words inside of identifiers in mixed case: `readFile` → read, File; with repetition, so that their number
    counts as that of other words does."""
    return list(chain.from_iterable(map(_mixed_parts, words)))


def code_words(text: str) -> str:
    """A text with the words inside of its identifiers after it."""
    more = parts(words_of(text))
    return f"{text} {' '.join(more)}" if more else text


def query_words(query: str, *, all_words: bool = False) -> list[str]:
    """The words of a question, those inside of identifiers as well, each once; without those that say nothing,
    unless there are no others."""
    wholes = words_of(query)
    words = [piece for word in wholes for piece in word.split("_") if piece]
    found = list(dict.fromkeys(word.lower() for word in [*words, *parts(wholes)]))
    telling = [word for word in found if word not in _STOP]
    return (found if all_words or not telling else telling)[:_QUERY_WORDS]


def defined_names(text: str, path: str) -> list[tuple[int, str]]:
    """Where definitions start, in characters, and what they define; by how lines begin, so not every one."""
    # A match begins at the end of the line before: where its own line begins in the text without what is put before.
    text = "\n" + text
    found = [(match.start(), match.group(1)) for match in _DEFINES.finditer(text)]
    if path.endswith(_C_ENDINGS):
        found += [(match.start(), match.group(1)) for match in _ASSIGNS.finditer(text)]
        found += [
            (match.start(), match.group(1))
            for match in _C_LIKE.finditer(text)
            if match.group(1) not in _NO_NAMES and match.group().split(None, 1)[0] not in _NO_NAMES
        ]
    return sorted(set(found))


def divide(lines: Sequence[str], starts: Sequence[int]) -> list[tuple[int, int]]:
    """Parts of a file, as first line and the line after the last, from 0.

    Args:
        lines: The file's.
        starts: Lines at which definitions start; comments and decorators above belong to them.
    """
    cuts = [0]
    for start in starts:
        top = start
        while top > 0 and lines[top - 1].lstrip().startswith(_LEADS):
            top -= 1
        if top - cuts[-1] >= _LEAST_LINES:
            cuts.append(top)
    cuts.append(len(lines))
    return [
        (begin, min(begin + _MOST_LINES, last))
        for first, last in pairwise(cuts)
        for begin in range(first, last, _MOST_LINES)
    ]
