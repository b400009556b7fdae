"""Chooses how much words count beside vectors: `fusion.py [--pairs FILE] [--real STORE] [--out FILE]`.

Questions of `reader/extractive.jsonl.gz` and `reader/rank.jsonl.gz` (AIOS_DATA), of many sources and
languages, each to some hundred passages of its own source, in a store that searches both ways; with --pairs
those of `training/reader_card` to held-out packages; with --real those of `real_documents/tune.jsonl`, to
the store that `real_documents.py --store` fills. Chosen on the sources in the encoder's language: the weight
with the most passages among the first five, of those that fall below the better search on none. One number
of 21 is chosen, so it is told of the same questions, and beside them of other languages and of `squad_dev_a`
over all its paragraphs: the share whose passage is first, among the first five and ten. --out writes
`answers/fusion.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ai_os_diffusion.answers.candidates import words_of
from ai_os_diffusion.answers.fusion import Fusion
from ai_os_diffusion.answers.names import names_of
from ai_os_diffusion.storage import ArrowStorage
from answer_calibration import rows_of
from judging import flat
from measure import data_dir, report
from models import converted
from open_questions import FUSED, Pool, pairs_pool, rank_pools, row_pools, squad_pool, stored
from real_documents import SETS, answers

Order = Callable[[Sequence[float], Sequence[float]], list[int]]

DEPTHS = (1, 5, 10)
WEIGHTS = [number / 10 for number in range(21)]
_LONG_WORDS = 15
_OTHER = "other languages"
_REAL = "real documents"
_OWN = ("squad_dev_a", "pairs", _REAL)


@dataclass(frozen=True)
class Found:
    """What two searches found for a question.

    Attributes:
        question: what was asked.
        pool: where.
        similarities: of each candidate.
        scores: BM25 of each.
        gold: indices of the passages that answer among them.
    """

    question: str
    pool: str
    similarities: Sequence[float]
    scores: Sequence[float]
    gold: Sequence[int]

    @property
    def source(self) -> str:
        """Where it is from: a pool of its own, or the open data of one language or of all others."""
        if self.pool in _OWN:
            return self.pool
        language = self.pool.rpartition(" ")[2]
        is_other = language.isascii() and len(language.split("-")[0]) == 2 and language != "en"
        return _OTHER if is_other else "open data"

    @property
    def slices(self) -> list[str]:
        """What kind of question it is."""
        kinds = [self.source]
        if any(name in self.pool for name in ("TyDi", "QED", "MedQuAD", "ClapNQ", "PubMedQA")):
            kinds.append("asked without the passage")
        kinds.append("with names" if names_of(self.question) else "without names")
        if len(words_of(self.question)) >= _LONG_WORDS:
            kinds.append("long")
        return kinds


def found_in(engine, pool: Pool) -> list[Found]:
    """Both searches over a pool."""
    with tempfile.TemporaryDirectory() as folder, stored(engine, pool, Path(folder)) as store:
        asked = engine.encode_query([one.text for one in pool.questions])
        rows = []
        for one, vector in zip(pool.questions, asked, strict=True):
            hits = store.query(vector, FUSED, text=one.text)
            ids = [hit.memory["memory_id"] for hit in hits]
            gold = f"{one.gold}"
            rows.append(
                Found(
                    one.text,
                    pool.name,
                    [hit.similarity for hit in hits],
                    [hit.bm25 for hit in hits],
                    [ids.index(gold)] if gold in ids else [],
                )
            )
        return rows


def found_in_documents(engine, folder: Path) -> list[Found]:
    """Both searches for the questions that may be looked at, over a store of real documents."""
    lines = (SETS / "tune.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [row for row in map(json.loads, lines) if row["lines"] and not row["before"]]
    found = []
    with ArrowStorage(folder, read_only=True) as store:
        vectors = engine.encode_query([row["question"] for row in asked])
        for row, vector in zip(asked, vectors, strict=True):
            hits = store.query(vector, FUSED, text=row["question"])
            told = [(flat(hit.memory["content"]), hit.memory["metadata"]) for hit in hits]
            gold = [
                index
                for index, (text, about) in enumerate(told)
                if answers(row, (text, about.get("sources") or [about["source"]]))
            ]
            near, words = [hit.similarity for hit in hits], [hit.bm25 for hit in hits]
            found.append(Found(row["question"], _REAL, near, words, gold))
    return found


def recall(rows: Sequence[Found], order: Order, depth: int) -> float:
    """Share of questions with a passage that answers among the first."""
    firsts = [set(order(row.similarities, row.scores)[:depth]) for row in rows]
    return float(
        np.mean([bool(first.intersection(row.gold)) for first, row in zip(firsts, rows, strict=True)])
    )


def by_one(which: int) -> Order:
    """The order of one search alone."""
    return lambda *scores: np.argsort(-np.array(scores[which]), kind="stable").tolist()


def chosen(sources: Mapping[str, Sequence[Found]]) -> float:
    """How much words count: never below the better search, and with the most passages found."""
    better = {name: max(recall(rows, by_one(which), 5) for which in (0, 1)) for name, rows in sources.items()}

    def worth(weight: float) -> tuple[float, float]:
        own = {name: recall(rows, Fusion(weight).order, 5) for name, rows in sources.items()}
        below = sum(max(0.0, better[name] - value) for name, value in own.items())
        return -below, float(np.mean(list(own.values())))

    return max(WEIGHTS, key=worth)


def main() -> None:
    """Search, choose, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=503)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=Path, help="held-out rows of `training/reader_card`, .jsonl.gz")
    parser.add_argument("--real", type=Path, help="a store of real documents")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from ai_os_diffusion.inference import ArrowEngine

    data = data_dir(as_argument=False)
    count, seed = options.questions // 3, options.seed
    extractive = data / "reader" / "extractive.jsonl.gz"
    pools = chain(
        row_pools(rows_of(extractive), count, seed),
        row_pools(rows_of(extractive), count, seed, lambda language: len(language) == 2 and language != "en"),
        rank_pools(rows_of(data / "reader" / "rank.jsonl.gz"), count, seed),
    )
    with ArrowEngine(converted("minilm", None), device=options.device) as engine:
        rows = list(chain.from_iterable(found_in(engine, pool) for pool in pools))
        squad = found_in(engine, squad_pool(data, count, seed))
        if options.pairs:
            rows += found_in(engine, pairs_pool(options.pairs, seed))
        if options.real:
            rows += found_in_documents(engine, options.real)
    sources: dict[str, list[Found]] = {}
    for row in rows:
        if row.source != _OTHER:
            sources.setdefault(row.source, []).append(row)
    weight = chosen(sources)
    slices: dict[str, list[Found]] = {}
    for row in [*rows, *squad]:
        for kind in row.slices:
            slices.setdefault(kind, []).append(row)
    orders = {
        "vectors": by_one(0),
        "words": by_one(1),
        "sum": Fusion(1.0).order,
        "chosen": Fusion(weight).order,
    }
    figures = {
        kind: {
            "questions": len(own),
            **{name: [round(recall(own, order, k), 4) for k in DEPTHS] for name, order in orders.items()},
        }
        for kind, own in sorted(slices.items())
    }
    if options.out is not None:
        told = {"chosen_by": "benchmarks/fusion.py", "words_weight": weight}
        options.out.write_text(json.dumps(told) + "\n", encoding="utf-8")
    report(recall_at_1_5_10=figures, words_weight=weight)


if __name__ == "__main__":
    main()
