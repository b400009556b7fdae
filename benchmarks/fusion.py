"""Fits the order of what vectors and words find, and measures it: `fusion.py [--questions N] [--out FILE]`.

Questions of `reader/extractive.jsonl.gz` and `reader/rank.jsonl.gz` (AIOS_DATA), of many sources and
languages, each to some hundred passages of its own source, in a store that searches both ways. Fitted on
every second question; of the others, and of `squad_dev_a` over all its paragraphs, the share whose passage is
first, among the first five and ten: by vectors, by words, by the sum of standard scores, and by what was
fitted, for slices of questions. --out writes `answers/fusion.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ai_os_diffusion.answers.candidates import words_of
from ai_os_diffusion.answers.fusion import Fusion, fusion_features
from ai_os_diffusion.answers.names import names_of
from ai_os_diffusion.utils.statistics.calibration import Calibration
from answer_calibration import rows_of
from measure import data_dir, report
from models import converted
from open_questions import FUSED, Pool, rank_pools, row_pools, squad_pool, stored

DEPTHS = (1, 5, 10)
_LONG_WORDS = 15


@dataclass(frozen=True)
class Found:
    """What two searches found for a question.

    Attributes:
        question: what was asked.
        pool: where.
        similarities: of each candidate.
        scores: BM25 of each.
        gold: index of the passage that answers among them; None where neither found it.
    """

    question: str
    pool: str
    similarities: Sequence[float]
    scores: Sequence[float]
    gold: int | None

    @property
    def slices(self) -> list[str]:
        """What kind of question it is."""
        language = self.pool.rpartition(" ")[2]
        kinds = [self.pool if self.pool == "squad_dev_a" else "all others"]
        if language.isascii() and len(language.split("-")[0]) == 2 and language != "en":
            kinds.append("other languages")
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
                    ids.index(gold) if gold in ids else None,
                )
            )
        return rows


def fitted(rows: Iterable[Found]) -> Fusion:
    """A fusion of what was found."""
    examples: list[Mapping[str, float]] = []
    answers: list[bool] = []
    for row in rows:
        if row.gold is not None:
            features = fusion_features(row.question, row.similarities, row.scores)
            examples += features
            answers += [index == row.gold for index in range(len(features))]
    return Fusion(Calibration.fit(examples, answers))


def recalls(rows: Sequence[Found], fusion: Fusion) -> dict[str, list[float]]:
    """Shares of questions whose passage is among the first, by each way to order."""

    def places(row: Found) -> dict[str, int | None]:
        if row.gold is None:
            return dict.fromkeys(("vectors", "words", "sum", "fitted"))
        features = fusion_features(row.question, row.similarities, row.scores)
        by = {
            "vectors": np.array(row.similarities),
            "words": np.array(row.scores),
            "sum": np.array([one["vector"] + one["words"] for one in features]),
        }
        ranks: dict[str, int | None] = {
            name: int((values > values[row.gold]).sum()) for name, values in by.items()
        }
        ranks["fitted"] = fusion.order(row.question, row.similarities, row.scores).index(row.gold)
        return ranks

    ranked = [places(row) for row in rows]
    return {
        name: [
            round(float(np.mean([rank[name] is not None and rank[name] < depth for rank in ranked])), 4)
            for depth in DEPTHS
        ]
        for name in ("vectors", "words", "sum", "fitted")
    }


def main() -> None:
    """Search, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=503)
    parser.add_argument("--device", default="cpu")
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
    fusion = fitted(rows[::2])
    held = [*rows[1::2], *squad]
    slices: dict[str, list[Found]] = {}
    for row in held:
        for kind in row.slices:
            slices.setdefault(kind, []).append(row)
    figures = {kind: {"questions": len(own), **recalls(own, fusion)} for kind, own in sorted(slices.items())}
    calibration = fusion.calibration
    if options.out is not None:
        told = {"fitted_by": "benchmarks/fusion.py", "calibration": calibration.to_dict()}
        options.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    weights = {name: round(own.weight, 3) for name, own in calibration.features.items()}
    report(recall_at_1_5_10=figures, weights=weights)


if __name__ == "__main__":
    main()
