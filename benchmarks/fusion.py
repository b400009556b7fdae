"""Chooses how much words count beside vectors: `fusion.py [--found FILE] [--out FILE]`.

Questions of `reader/extractive.jsonl.gz` and `reader/rank.jsonl.gz` (AIOS_DATA), of many sources and
languages, each to some hundred passages of its own source, in a store that searches both ways; with --pairs
those of `training/reader_card` to held-out packages; with --demo the everyday questions of `examples/demo` to
the store that `make demo` fills; with --real those of `real_documents/tune.jsonl`, to the store that
`real_documents.py --store` fills. Chosen are two numbers, how much words count where the encoder's
vocabulary holds all of a question and where it holds none: the pair with the most passages first and among
the first five, of those that fall below the better search on no source. They are told of the same questions,
and of those that nothing was chosen on, real documents and `squad_dev_a` over all its paragraphs: the share
whose passage is first, among the first five and ten. --found keeps what both searches found, or takes what
is there, so that nothing is searched. --out writes the encoder's weights to `answers/fusion.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np

from ai_os_diffusion.answers.candidates import words_of
from ai_os_diffusion.answers.fusion import Fusion
from ai_os_diffusion.answers.names import names_of, says_title
from ai_os_diffusion.storage import ArrowStorage
from answer_calibration import rows_of
from judging import flat
from measure import data_dir, report
from models import converted
from open_questions import FUSED, Pool, pairs_pool, rank_pools, row_pools, squad_pool, stored
from real_documents import SETS, answers, languages_of

Order = Callable[[Sequence[float], Sequence[float], float, Sequence[bool]], list[int]]

DEPTHS = (1, 5, 10)
WHOLE = [number / 10 for number in range(1, 13)]
SPLIT = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
_LONG_WORDS = 15
_OTHER = "other languages"
_REAL = "real documents"
_REAL_SLICES = tuple(f"{_REAL}: {name}" for name in ("English", "other languages", "across languages"))
_SQUAD, _EVERYDAY = "squad_dev_a", "everyday questions"
_OWN = (_SQUAD, "pairs", _EVERYDAY, *_REAL_SLICES)
_NOT_CHOSEN_ON = (_SQUAD, *_REAL_SLICES)
_QUESTIONS = Path(__file__).resolve().parents[1] / "examples" / "demo" / "questions.jsonl"


@dataclass(frozen=True)
class Found:
    """What two searches found for a question.

    Attributes:
        question: what was asked.
        pool: where.
        similarities: of each candidate.
        scores: BM25 of each.
        gold: indices of the passages that answer among them.
        broken: share of the question's tokens that are fragments of words.
        said: whether the question says the title of each candidate's document; empty where they have none.
    """

    question: str
    pool: str
    similarities: Sequence[float]
    scores: Sequence[float]
    gold: Sequence[int]
    broken: float
    said: Sequence[bool] = ()

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
                    engine.tokenizer.broken_share(one.text),
                )
            )
        return rows


def found_in_documents(engine, folder: Path) -> list[Found]:
    """Both searches for the questions that may be looked at, over a store of real documents."""
    lines = (SETS / "tune.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["lines"] and not row["before"]]
    return _found_in_store(engine, folder, lambda row: f"{_REAL}: {languages_of(row)}", rows, answers)


def found_in_demo(engine, folder: Path) -> list[Found]:
    """Both searches for everyday questions, over the store that the demo filled."""
    rows = [json.loads(line) for line in _QUESTIONS.read_text(encoding="utf-8").splitlines()]

    def is_answered(row, passage) -> bool:
        return any(Path(source).name.removesuffix(".md") in row["pages"] for source in passage[1])

    return _found_in_store(engine, folder, lambda _: _EVERYDAY, rows, is_answered)


def _found_in_store(engine, folder: Path, pool_of, rows, is_answered) -> list[Found]:
    """Both searches for questions, each of the pool that is named for it, over a store."""
    found = []
    with ArrowStorage(folder, read_only=True) as store:
        vectors = engine.encode_query([row["question"] for row in rows])
        for row, vector in zip(rows, vectors, strict=True):
            hits = store.query(vector, FUSED, text=row["question"])
            told = [(flat(hit.memory["content"]), hit.memory["metadata"]) for hit in hits]
            gold = [
                index
                for index, (text, about) in enumerate(told)
                if is_answered(row, (text, about.get("sources") or [about["source"]]))
            ]
            near, words = [hit.similarity for hit in hits], [hit.bm25 for hit in hits]
            broken = engine.tokenizer.broken_share(row["question"])
            said = [says_title(row["question"], about.get("headings")) for _, about in told]
            found.append(Found(row["question"], pool_of(row), near, words, gold, broken, said))
    return found


def recall(rows: Sequence[Found], order: Order, depth: int) -> float:
    """Share of questions with a passage that answers among the first."""
    firsts = [set(order(row.similarities, row.scores, row.broken, row.said)[:depth]) for row in rows]
    return float(
        np.mean([bool(first.intersection(row.gold)) for first, row in zip(firsts, rows, strict=True)])
    )


def by_one(which: int) -> Order:
    """The order of one search alone."""
    return lambda *scores: np.argsort(-np.array(scores[which]), kind="stable").tolist()


def chosen(sources: Mapping[str, Sequence[Found]]) -> tuple[float, float]:
    """How much words count: never below the better search, and with the most passages found."""
    better = {name: max(recall(rows, by_one(which), 5) for which in (0, 1)) for name, rows in sources.items()}

    def worth(weights: tuple[float, float]) -> tuple[float, float]:
        order = Fusion(*weights).order
        own = {name: recall(rows, order, 5) for name, rows in sources.items()}
        below = sum(max(0.0, better[name] - value) for name, value in own.items())
        first = [recall(rows, order, 1) for rows in sources.values()]
        return -round(below, 9), float(np.mean([*own.values(), *first]))

    return max(product(WHOLE, SPLIT), key=worth)


def all_found(engine, options: argparse.Namespace) -> list[Found]:
    """What both searches find for all questions."""
    data = data_dir(as_argument=False)
    count, seed = options.questions // 3, options.seed
    extractive = data / "reader" / "extractive.jsonl.gz"
    pools: Iterable[Pool] = chain(
        row_pools(rows_of(extractive), count, seed),
        row_pools(rows_of(extractive), count, seed, lambda language: len(language) == 2 and language != "en"),
        rank_pools(rows_of(data / "reader" / "rank.jsonl.gz"), count, seed),
        [squad_pool(data, count, seed)],
        [pairs_pool(options.pairs, seed)] if options.pairs else [],
    )
    rows = list(chain.from_iterable(found_in(engine, pool) for pool in pools)) if count else []
    if options.demo:
        rows += found_in_demo(engine, options.demo)
    if options.real:
        rows += found_in_documents(engine, options.real)
    return rows


def kept(file: Path | None, find: Callable[[], list[Found]]) -> list[Found]:
    """What a file holds of an earlier search; else what is found, which goes there."""
    if file is not None and file.exists():
        return [Found(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = find()
    if file is not None:
        file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    return rows


def write(out: Path, engine, weights: tuple[float, float]) -> None:
    """Put an encoder's weights into `fusion.json`, in place of those it has there."""
    told = json.loads(out.read_text(encoding="utf-8"))
    source = engine.model_info["source"]
    row = {"name": source["name"], "weights_sha256": source["weights_sha256"]}
    others = [own for own in told["encoders"] if own["weights_sha256"] != row["weights_sha256"]]
    told["encoders"] = [*others, {**row, "whole": weights[0], "split": weights[1]}]
    out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Search, choose, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--questions", type=int, default=1200, help="of open data; 0 searches none of it")
    parser.add_argument("--seed", type=int, default=503)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=Path, help="held-out rows of `training/reader_card`, .jsonl.gz")
    parser.add_argument("--demo", type=Path, help="the store of `make demo`")
    parser.add_argument("--real", type=Path, help="a store of real documents")
    parser.add_argument("--found", type=Path, help="what both searches found, one JSON object a question")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from ai_os_diffusion.inference import ArrowEngine

    with ArrowEngine(converted(options.encoder, None), device=options.device) as engine:
        rows = kept(options.found, lambda: all_found(engine, options))
        sources: dict[str, list[Found]] = {}
        for row in rows:
            if row.source not in _NOT_CHOSEN_ON:
                sources.setdefault(row.source, []).append(row)
        fusion = Fusion(*chosen(sources)) if sources else Fusion.of(engine.metadata.source["weights_sha256"])
        weights = fusion.whole, fusion.split
        if options.out is not None:
            write(options.out, engine, weights)
    slices: dict[str, list[Found]] = {}
    for row in rows:
        for kind in row.slices:
            slices.setdefault(kind, []).append(row)
    orders: dict[str, Order] = {
        "vectors": by_one(0),
        "words": by_one(1),
        "sum": Fusion(1.0).order,
        "chosen": Fusion(*weights).order,
    }
    figures = {
        kind: {
            "questions": len(own),
            **{name: [round(recall(own, order, k), 4) for k in DEPTHS] for name, order in orders.items()},
        }
        for kind, own in sorted(slices.items())
    }
    report(encoder=options.encoder, recall_at_1_5_10=figures, whole=weights[0], split=weights[1])


if __name__ == "__main__":
    main()
