"""Quality of MiniLM's embeddings: STS-B dev Spearman and SQuAD recall@1/5/10.

Native fp32 and int8 beside sentence-transformers, with exact search for all.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np

from measure import data_dir, report
from models import converted, source_folder

os.environ["HF_HUB_OFFLINE"] = "1"


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Correlation of ranks, ties sharing their mean rank."""
    ranks = []
    for values in (left, right):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append(((ends - counts + ends - 1) / 2)[inverse])
    return float(np.corrcoef(*ranks)[0, 1])


def stsb(data: Path, encode) -> float:
    """Spearman of cosine similarity with the human score."""
    with gzip.open(data / "stsb/dev.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    left, right = encode([row[1] for row in rows]), encode([row[2] for row in rows])
    return spearman((left * right).sum(1), np.array([float(row[0]) for row in rows]))


def rows_of(file: Path) -> list[dict]:
    """The rows of a compressed JSON-lines file."""
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def squad(data: Path, encode) -> dict[str, float]:
    """Share of questions whose paragraph is among the nearest 1, 5 and 10."""
    corpus = rows_of(data / "squad_dev_a/corpus.jsonl.gz")
    questions = rows_of(data / "squad_dev_a/questions.jsonl.gz")
    place = {row["id"]: index for index, row in enumerate(corpus)}
    passages = encode([row["text"] for row in corpus])
    scores = encode([row["question"] for row in questions]) @ passages.T
    gold = np.array([place[row["paragraph_id"]] for row in questions])
    better = (scores > scores[np.arange(len(gold)), gold][:, None]).sum(1)
    return {f"recall@{k}": round(float((better < k).mean()), 4) for k in (1, 5, 10)}


def main() -> None:
    from sentence_transformers import SentenceTransformer

    from ai_os_diffusion.inference import ArrowEngine

    data = data_dir()
    peer = SentenceTransformer(str(source_folder("minilm")), device="cpu")
    encoders = {
        "sentence-transformers fp32": lambda texts: peer.encode(texts, normalize_embeddings=True),
        "native fp32": ArrowEngine(converted("minilm", "fp32")).encode,
        "native int8": ArrowEngine(converted("minilm", "int8")).encode,
    }
    report(
        stsb_dev_spearman={name: round(stsb(data, encode), 5) for name, encode in encoders.items()},
        squad_dev_a={name: squad(data, encode) for name, encode in encoders.items()},
    )


if __name__ == "__main__":
    main()
