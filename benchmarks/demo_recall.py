"""The demo's recall@5 by sentence-transformers fp32 and exact search, over the passages the demo stored.

Run `make demo` first.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from measure import report
from models import source_folder

os.environ["HF_HUB_OFFLINE"] = "1"
PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    from sentence_transformers import SentenceTransformer

    from ai_os_diffusion.storage import ArrowStorage

    store = PROJECT / ".cache" / "demo" / "store"
    if not store.is_dir():
        sys.exit("the demo's store is not here: run `make demo` first")
    lines = (PROJECT / "examples/demo/questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    with ArrowStorage(store, read_only=True) as storage:
        memories = [(memory["content"], memory["metadata"]["source"]) for memory in storage.iter()]
    texts = [text for text, _ in memories]
    pages = np.array([Path(source).name.removesuffix(".md") for _, source in memories])
    peer = SentenceTransformer(str(source_folder("minilm")), device="cpu")
    passages = peer.encode(texts, normalize_embeddings=True)
    scores = peer.encode([row["question"] for row in questions], normalize_embeddings=True) @ passages.T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    found = [bool(set(pages[top]) & set(row["pages"])) for top, row in zip(nearest, questions, strict=True)]
    report(
        questions=len(questions), passages=len(texts), sentence_transformers_recall_at_5=float(np.mean(found))
    )


if __name__ == "__main__":
    main()
