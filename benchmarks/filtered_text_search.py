"""Search by words under filters that let 1, 10⁻² and 10⁻⁴ of 57,600 passages through: cost, and correctness.

Filtered answers are compared with what is left of the ranking of all passages. Figures are microseconds of
processor time; the first query of a filter also reads the metadata of every passage, which is remembered.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from measure import data_dir, report
from text_search import passages, rows_of

QUERIES = 200
# All that hold a word are read for it.
COMPARED = 5
TOP_K = 10
EVERY = {"1": 1, "1e-2": 100, "1e-4": 10_000}


def microseconds(view, queries: list[str], filter: dict | None) -> float:
    """Median over the queries, without reading memories."""
    taken = []
    for query in queries:
        start = time.process_time_ns()
        view.search_text(query, 0, filter=filter)
        taken.append((time.process_time_ns() - start) / 1e3)
    return round(statistics.median(taken))


def is_right(view, query: str, ranked: list, share: str) -> bool:
    """Whether a filter leaves the best of the allowed that hold a word of the query, in the order of all."""
    left = [(memory["memory_id"], score) for memory, score in ranked if memory["metadata"][share]]
    hits = view.search_text(query, TOP_K, filter={share: True})
    return [(memory["memory_id"], score) for memory, score in hits] == left[:TOP_K]


def main() -> None:
    """Measure on one core."""
    from ai_os_diffusion.storage import ArrowStorage

    data = data_dir()
    texts = passages(data)
    questions = rows_of(data / "squad_dev_a/questions.jsonl.gz")
    queries = [row["question"] for row, _ in zip(questions, range(QUERIES), strict=False)]
    vectors = np.random.default_rng(0).standard_normal((len(texts), 8), dtype=np.float32)
    figures: dict[str, object] = {"passages": len(texts)}
    with tempfile.TemporaryDirectory() as name:
        with ArrowStorage(Path(name), durability="none") as store:
            store.save_many(
                {
                    "memory_id": f"p{number:06}",
                    "content": text,
                    "embedding": vector,
                    "metadata": {share: number % every == 0 for share, every in EVERY.items()},
                }
                for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
            )
            store.compact()
        with ArrowStorage(Path(name), read_only=True) as store:
            view = store.snapshot()
            microseconds(view, queries, None)
            figures["unfiltered"] = microseconds(view, queries, None)
            for share in EVERY:
                first = microseconds(view, queries[:1], {share: True})
                figures[share] = {"first": first, "then": microseconds(view, queries, {share: True})}
            right = dict.fromkeys(EVERY, 0)
            for query in queries[:COMPARED]:
                ranked = view.search_text(query, len(texts))
                right = {share: right[share] + is_right(view, query, ranked, share) for share in EVERY}
            figures["right"] = {share: f"{count} of {COMPARED}" for share, count in right.items()}
    report(**figures)


if __name__ == "__main__":
    main()
