"""Passages near written questions, as `recall` finds them: `nearest.py PASSAGES OUT [QUESTIONS...]`.

PASSAGES is a file of `id` and `text` a line, QUESTIONS `questions_*` files of `passage` and `question`; `.gz`
and `.xz` are opened. All passages are one store, OUT/store, so those of other packages compete. For each file
of questions OUT gets a `near_*` file: `passage`, `question` and `near`, ids of the passages found, the best
first, the question's own among them. What OUT holds already is not done again; without QUESTIONS the store
is made.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.answers.fusion import Fusion
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.storage import ArrowStorage

_NEAR, _FUSED = 16, 30
"""Passages that are kept, and that each search finds, as `recall` asks for them."""
_AT_ONCE = 256

_store: ArrowStorage
_fusion: Fusion


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, compressed or not."""
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opened(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def open_store(folder: str, weights_sha256: str) -> None:
    """In a process that searches: the store, for reading."""
    global _store, _fusion
    _store, _fusion = ArrowStorage(folder, read_only=True), Fusion.of(weights_sha256)


def near(asked: tuple[str, np.ndarray, float]) -> list[str]:
    """Ids of the passages for a question, its vector and the share of it that the vocabulary breaks."""
    question, vector, broken = asked
    found = _store.query(vector, _FUSED, text=question, num_threads=1)
    order = _fusion.order([one.similarity for one in found], [one.bm25 for one in found], broken)
    return [str(found[index].memory["memory_id"]) for index in order[:_NEAR]]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("passages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("questions", type=Path, nargs="*")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    texts = {one["id"]: one["text"] for one in lines_of(options.passages)}
    folder = options.out / "store"
    with ArrowEngine(resolve_model("minilm")) as engine:
        with ArrowStorage(folder) as store:
            # Either nothing stands in it, or all: they are saved as one commit.
            if store.count() != len(texts):
                vectors = engine.encode_document(list(texts.values()))
                store.save_many(
                    {"memory_id": name, "content": text, "embedding": vector}
                    for (name, text), vector in zip(texts.items(), vectors, strict=True)
                )
        print(len(texts), "passages", round(time.monotonic() - begun, 1), flush=True)
        # Threads of the native code do not survive a fork.
        apart = multiprocessing.get_context("spawn")
        given = (str(folder), engine.metadata.source["weights_sha256"])
        with apart.Pool(options.workers, open_store, given) as pool:
            for path in options.questions:
                target = options.out / path.name.replace("questions", "near", 1)
                if target.exists():
                    continue
                rows = list(lines_of(path))
                asked = [row["question"] for row in rows]
                broken = map(engine.tokenizer.broken_share, asked)
                found = pool.imap(near, zip(asked, engine.encode_query(asked), broken, strict=True), _AT_ONCE)
                draft = target.with_name(f".{target.name}")
                with gzip.open(draft, "wt", 6, encoding="utf-8") as out:
                    for row, ids in zip(rows, found, strict=True):
                        told = {"passage": row["passage"], "question": row["question"], "near": ids}
                        out.write(json.dumps(told, ensure_ascii=False) + "\n")
                draft.rename(target)
                print(path.name, len(rows), "questions", round(time.monotonic() - begun, 1), flush=True)


if __name__ == "__main__":
    main()
