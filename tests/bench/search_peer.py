"""The peer in its own environment: reads projects and questions, prints what it found. Imports nothing of ours."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy
from model2vec import StaticModel
from semble import SembleIndex
from tokenizers import Tokenizer


def model_from(vectors: Path, tokenizer: Path, folder: Path) -> str:
    """A static model of the same MiniLM: a vector for each word of its vocabulary."""
    made = StaticModel(numpy.load(vectors).astype(numpy.float32), Tokenizer.from_file(str(tokenizer)), normalize=True)
    made.save_pretrained(str(folder))
    return str(folder)


def main() -> None:
    """One JSON document in, one out."""
    asked: dict[str, Any] = json.load(sys.stdin)
    model = model_from(Path(asked["vectors"]), Path(asked["tokenizer"]), Path(asked["model"]))
    answers: dict[str, dict[str, list[list[list[Any]]]]] = {}
    seconds = {"index": 0.0, "query": 0.0}
    for project in asked["projects"]:
        began = time.perf_counter()
        index = SembleIndex.from_path(project["folder"], model_path=model)
        seconds["index"] += time.perf_counter() - began
        found: dict[str, list[list[list[Any]]]] = {}
        for side, alpha in (("hybrid", None), ("bm25", 0.0)):
            began = time.perf_counter()
            found[side] = [
                [
                    [hit.chunk.file_path, hit.chunk.start_line, hit.chunk.end_line, len(hit.chunk.content)]
                    for hit in index.search(question, top_k=10, alpha=alpha)
                ]
                for question in project["questions"]
            ]
            seconds["query"] += time.perf_counter() - began
        answers[project["name"]] = found
    json.dump({"answers": answers, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
