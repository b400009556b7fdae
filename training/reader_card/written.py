"""Questions that a larger model wrote, as rows for a reader: `written.py FOLDER OUT [--part train]`.

FOLDER holds `passages_PART.jsonl.xz`, `questions_PART-*.jsonl.gz`, and what `nearest.py` found for these,
`near_PART-*.jsonl.gz`. Of each question its own passage, where its answer stands letter by letter, and those
that are found beside it and do not hold the answer: the first ones, which a user would see, and some behind.
Some questions stand a second time, their own passage left out. Where `judged_PART-*.jsonl.gz` is there,
questions whose passage is judged less likely than --least to answer them are left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nearest import lines_of

from ai_os_diffusion import _native
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.models.local_models import resolve_model

_FIRST, _FURTHER = 5, 1
_ABSENT_EVERY = 6
"""One question in so many stands again without its passage."""
_SPAN = 30
"""Most tokens of a span, as the recipe has it; longer answers are blocks, which begin with their sentence."""

Row = dict[str, Any]
Near = Mapping[tuple[str, str], list[str]]
"""Ids by the id of a passage and a question to it."""


def flat(text: str) -> str:
    """Lower case, with single spaces."""
    return " ".join(text.lower().split())


def parts_of(folder: Path, name: str) -> Iterator[Row]:
    """The lines of all parts of a file, in the order of their names."""
    for path in sorted(folder.glob(f"{name}-*.jsonl.gz")):
        yield from lines_of(path)


def answer_of(question: Mapping[str, Any], text: str, tokens: int) -> Row | None:
    """A passage with its answer, a span or the beginning of a block; None where it does not stand there."""
    start, said = question["start"], question["answer"]
    if not said.strip() or text[start : start + len(said)] != said:
        return None
    is_block = tokens > _SPAN
    if is_block:
        first, last = _native.sentences(said)[0]
        start, said = start + first, said[first:last].rstrip()
    return {
        "text": text,
        "answers": [{"start": start, "text": said}],
        "relevant": True,
        "block": is_block,
    }


def kind_of(question: Mapping[str, Any], is_absent: bool) -> str:
    """The kind of a row."""
    if is_absent:
        return "written_absent"
    return "written" if question["language"] == "en" else "written_foreign"


def rows(questions: list[Row], passages: Mapping[str, Row], near: Near, sizes: list[int]) -> Iterator[Row]:
    """The rows of some questions, `sizes` being the tokens of their answers."""
    texts = {name: one["text"] for name, one in passages.items()}
    plain = {name: flat(text) for name, text in texts.items()}
    for question, tokens in zip(questions, sizes, strict=True):
        own, asked = question["passage"], question["question"]
        told = answer_of(question, texts[own], tokens)
        if told is None:
            continue
        said = {flat(question["answer"]), flat(told["answers"][0]["text"])}
        others = [
            name
            for name in near[own, asked]
            if name in plain and plain[name] != plain[own] and not any(one in plain[name] for one in said)
        ]
        rng = random.Random(zlib.crc32(f"{own} {asked}".encode()))
        chosen = others[:_FIRST]
        chosen += rng.sample(others[_FIRST:], min(_FURTHER, len(others[_FIRST:])))
        if not chosen:
            continue
        negatives = [{"text": texts[name]} for name in chosen]
        for is_absent in (False, True)[: 1 if rng.randrange(_ABSENT_EVERY) else 2]:
            yield {
                "question": asked,
                "passages": negatives if is_absent else [told, *negatives],
                "kind": kind_of(question, is_absent),
                "source": passages[own]["package"],
                "licence": passages[own]["licence"],
            }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="train")
    parser.add_argument("--least", type=float, default=0.5, help="P(yes) of the judge")
    parser.add_argument("--most", type=int, help="questions that are drawn of all")
    options = parser.parse_args()
    folder, part = options.folder, options.part
    (file,) = folder.glob(f"passages_{part}.jsonl*")
    passages = {one["id"]: one for one in lines_of(file)}
    judged = {(one["passage"], one["question"]): one["yes"] for one in parts_of(folder, f"judged_{part}")}
    near = {(one["passage"], one["question"]): one["near"] for one in parts_of(folder, f"near_{part}")}
    asked = []
    for one in parts_of(folder, f"questions_{part}"):
        key = one["passage"], one["question"]
        # Passages may have been taken out since they were asked of.
        if key in near and key[0] in passages and judged.get(key, 1.0) >= options.least:
            asked.append(one)
    print(len(passages), "passages", len(near), "questions", len(judged), "judged", len(asked), "kept")
    if options.most and options.most < len(asked):
        asked = random.Random(0).sample(asked, options.most)
    tokenizer = FastTokenizer(resolve_model("minilm"))
    sizes = tokenizer.count([one["answer"] for one in asked]).tolist()
    counts: Counter[str] = Counter()
    with gzip.open(options.out, "wt", 1, encoding="utf-8") as out:
        for row in rows(asked, passages, near, sizes):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[row["kind"]] += 1
            counts["blocks"] += row["passages"][0].get("block", False)
            counts["passages"] += len(row["passages"])
    print(dict(counts), len({one["package"] for one in passages.values()}), "packages")


if __name__ == "__main__":
    main()
