"""Questions about code with known answers, made from installed packages: nothing is kept in the repository but this.

A function's own description is the question, and the function is the answer. So that nobody finds it by its own words,
descriptions are taken out of the code, a question that holds the function's name is left out, and projects, not
questions, are divided into those that weights were chosen by and those that are reported.
"""

from __future__ import annotations

import ast
import hashlib
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path

KINDS = ("sentence", "words", "symbol")
LICENCES = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python-2|MPL", re.I)
LEAST_FILES, MOST_FILES = 10, 700
LEAST_QUESTIONS, MOST_QUESTIONS = 25, 40


@dataclass(frozen=True)
class Question:
    """A question whose answer is a function.

    Args:
        kind: One of `KINDS`.
        text: What is asked.
        path: The file that answers it.
        line: Where the function begins.
    """

    kind: str
    text: str
    path: str
    line: int


@dataclass(frozen=True)
class Project:
    """A package's code without descriptions, and questions about it."""

    name: str
    folder: Path
    questions: tuple[Question, ...]

    @property
    def reported(self) -> bool:
        """Whether it is one of those that are reported; the others are those that weights were chosen by."""
        return hashlib.blake2b(self.name.encode(), digest_size=1).digest()[0] % 2 == 0


def projects(folder: Path) -> Iterator[Project]:
    """Every installed package that is fit for it, copied beneath `folder`."""
    for distribution in sorted(metadata.distributions(), key=lambda one: one.name.lower()):
        said = [distribution.metadata.get_all(field) or [] for field in ("License-Expression", "License", "Classifier")]
        licence = " ".join(chain.from_iterable(said))
        files = [Path(str(path)) for path in distribution.files or () if path.suffix == ".py"]
        if LICENCES.search(licence) and LEAST_FILES <= len(files) <= MOST_FILES and distribution.name != "tekup-mcp":
            made = _project(distribution, files, folder / distribution.name)
            if made is not None:
                yield made


def _project(distribution: metadata.Distribution, files: list[Path], folder: Path) -> Project | None:
    found: list[Question] = []
    for path in files:
        source = Path(str(distribution.locate_file(path)))
        try:
            text = source.read_text("utf-8")
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError):
            continue
        found += _questions(str(path), tree)
        put = folder / path
        put.parent.mkdir(parents=True, exist_ok=True)
        put.write_text(_without_descriptions(text, tree), "utf-8")
    chance = random.Random(distribution.name)
    asked = Counter(question.text for question in found)
    single = [question for question in found if asked[question.text] == 1]
    kept = [question for kind in KINDS for question in _some(chance, [one for one in single if one.kind == kind])]
    if sum(question.kind == "sentence" for question in kept) < LEAST_QUESTIONS:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Project(distribution.name, folder, tuple(kept))


def _some(chance: random.Random, found: list[Question]) -> list[Question]:
    return chance.sample(found, min(MOST_QUESTIONS, len(found)))


def _questions(path: str, tree: ast.Module) -> Iterator[Question]:
    tested = re.search(r"(^|/)(tests?|testing|_vendor|vendored?)/|(^|/)test_", path) is not None
    for node in ast.walk(tree):
        if tested or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", node.name)]
        if len(words) > 1 and not node.name.startswith("__"):
            yield Question("symbol", node.name, path, line)
        if len(words) > 2 and not node.name.startswith("__"):
            yield Question("words", " ".join(words), path, line)
        sentence = _first_sentence(ast.get_docstring(node) or "")
        if sentence and node.name.strip("_").lower() not in re.findall(r"\w+", sentence.lower()):
            yield Question("sentence", sentence, path, line)


def _first_sentence(description: str) -> str:
    paragraph = " ".join(description.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=[a-z)])\.(?:\s|$)", paragraph)[0]
    sentence = re.sub(r"[`*]|:[a-z]+:", "", sentence)
    return sentence if 5 <= len(sentence.split()) <= 30 and sentence.isascii() else ""


def _without_descriptions(text: str, tree: ast.Module) -> str:
    """The text with every description emptied; its lines keep their numbers."""
    lines = text.split("\n")
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                for number in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[number] = ""
                lines[first.lineno - 1] = " " * first.col_offset + "..."
    return "\n".join(lines)
