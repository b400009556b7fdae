"""Search by words at 57,600 passages, beside bm25s: queries and indexed passages a second, recall on SQuAD.

Figures are per second of one core's time, as the system counts it: what else runs on the machine does not
count, though it slows a core that it shares. Indexing takes all cores, and is also told by the clock. The
vectors are of eight numbers: nothing is embedded.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from measure import data_dir, report

PASSAGES = 57_600
PASSAGE_CHARS = 900
QUERIES = 1_000
SOURCES = ("squad_train", "wikipedia_demo", "openstax_textbooks", "novels", "oasst1_en", "p3_sample")
K1, B = 0.9, 0.4


def rows_of(file: Path) -> Iterator[dict]:
    """The rows of a compressed JSON-lines file."""
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def passages(data: Path) -> list[str]:
    """Lines of the training pool, put together to passages, each once."""
    found: dict[str, None] = {}
    for source in SOURCES:
        for row in rows_of(data / f"train/{source}.jsonl.gz"):
            passage = ""
            for line in f"{row['prompt']}\n{row['text']}".split("\n"):
                if passage and len(passage) + len(line) > PASSAGE_CHARS:
                    found[passage] = None
                    passage = ""
                passage += line + "\n"
            found[passage] = None
            if len(found) >= PASSAGES:
                return list(found)[:PASSAGES]
    return list(found)


def filled(folder: Path, texts: list[str]):
    """A closed store of texts, opened again for reading."""
    from ai_os_diffusion.storage import ArrowStorage

    vectors = np.random.default_rng(0).standard_normal((len(texts), 8), dtype=np.float32)
    with ArrowStorage(folder, durability="none") as store:
        store.save_many(
            {"memory_id": f"p{number:06}", "content": text, "embedding": vector}
            for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        )
        store.compact()
    return ArrowStorage(folder, read_only=True)


def seconds_of(candidates: Mapping[str, Callable[[], object]], repeats: int = 2) -> dict[str, float]:
    """Median seconds of processor time of each candidate, run in turn after one warm-up each."""
    for run in candidates.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


class Peer:
    """bm25s with the same k1 and b, English stems and stop words, as its authors measure it."""

    def __init__(self, texts: list[str]) -> None:
        import bm25s
        import Stemmer

        self._stemmer = Stemmer.Stemmer("english")
        start = time.process_time()
        tokens = bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)
        self._index = bm25s.BM25(k1=K1, b=B)
        self._index.index(tokens, show_progress=False)
        self.indexing_s = time.process_time() - start

    def tokens(self, queries: list[str]):
        """Queries taken apart."""
        import bm25s

        return bm25s.tokenize(queries, stopwords="en", stemmer=self._stemmer, show_progress=False)

    def search(self, tokens, top_k: int) -> np.ndarray:
        """Rows int64[n, top_k], best first."""
        found, _ = self._index.retrieve(tokens, k=top_k, show_progress=False, n_threads=1)
        return found


def peer_of(texts: list[str]) -> Peer | None:
    """The peer, where it is installed."""
    try:
        return Peer(texts)
    except ImportError:
        return None


def speed(data: Path) -> dict[str, object]:
    """Queries and passages a second."""
    from ai_os_diffusion.storage import ArrowStorage

    texts = passages(data)
    questions = rows_of(data / "squad_dev_a/questions.jsonl.gz")
    queries = [row["question"] for row, _ in zip(questions, range(QUERIES), strict=False)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        store = filled(folder, texts)
        view = store.snapshot()
        candidates = {
            "no memory read": lambda: [view.search_text(query, 0) for query in queries],
            "ten memories read": lambda: [view.search_text(query, 10) for query in queries],
        }
        peer = peer_of(texts)
        if peer is not None:
            tokens = peer.tokens(queries)
            candidates["bm25s, rows alone"] = lambda: peer.search(tokens, 10)
            candidates["bm25s, from texts to rows"] = lambda: peer.search(peer.tokens(queries), 10)
        seconds = seconds_of(candidates)
        stats = store.stats()
        store.close()
        with ArrowStorage(folder) as writer:
            indexing = seconds_of({"": writer.rebuild_text_index})[""]
            start = time.perf_counter()
            writer.rebuild_text_index()
            by_clock = time.perf_counter() - start
    figures: dict[str, object] = {
        "passages": len(texts),
        "mean_chars": round(sum(map(len, texts)) / len(texts)),
        "queries_per_core_s": {name: round(len(queries) / taken) for name, taken in seconds.items()},
        "indexed_per_core_s": {"ours": round(len(texts) / indexing)},
        "indexed_per_s_by_the_clock": round(len(texts) / by_clock),
        "bytes": {name: stats[f"{name}_bytes"] for name in ("table", "vector", "text_index")},
    }
    if peer is not None:
        figures["indexed_per_core_s"]["bm25s"] = round(len(texts) / peer.indexing_s)
    return figures


def recall(data: Path) -> dict[str, dict[str, float]]:
    """Share of questions whose paragraph is among the best 1, 5 and 10."""
    corpus = list(rows_of(data / "squad_dev_a/corpus.jsonl.gz"))
    questions = list(rows_of(data / "squad_dev_a/questions.jsonl.gz"))
    place = {row["id"]: number for number, row in enumerate(corpus)}
    gold = np.array([place[row["paragraph_id"]] for row in questions])
    texts = [row["text"] for row in corpus]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        store = filled(Path(name) / "store", texts)
        rows = np.full((len(questions), 10), -1)
        for number, row in enumerate(questions):
            hits = store.search_text(row["question"], 10, k1=K1, b=B)
            rows[number, : len(hits)] = [int(memory["memory_id"][1:]) for memory, _ in hits]
        store.close()
    found["ours"] = rows
    peer = peer_of(texts)
    if peer is not None:
        found["bm25s"] = peer.search(peer.tokens([row["question"] for row in questions]), 10)
    return {
        name: {
            f"recall@{k}": round(float((rows[:, :k] == gold[:, None]).any(1).mean()), 4) for k in (1, 5, 10)
        }
        for name, rows in found.items()
    }


def main() -> None:
    """Measure on one core."""
    data = data_dir()
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    report(**speed(data), squad_dev_a=recall(data))


if __name__ == "__main__":
    main()
