"""What recall finds for questions of `real_documents`: `recalled_passages.py STORE OUT [--judged PARTS]`.

STORE is that of `benchmarks/real_documents.py --store`. OUT gets a row a question of
`tune`: its passages, which of them are `right`, and whether any document answers it, as `judge_pairs.py`
takes them. With `--judged`, OUT is there already, and how a judge ranks is told beside recall.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parts import lines_of

_DEPTH = 20


def recalled(store: Path) -> Iterator[dict[str, Any]]:
    """Questions that can be searched alone, with their passages, best first."""
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.runtime import open_runtime
    from judging import flat
    from real_documents import answers, languages_of, questions_of

    with open_runtime(load_config(overrides={"storage.path": store})) as runtime:
        for question in questions_of("tune"):
            if question["before"]:
                continue
            hits = runtime.recall(question["question"], top_k=_DEPTH, min_similarity=-1.0).hits
            yield {
                "id": question["id"],
                "question": question["question"],
                "slice": languages_of(question),
                "answerable": bool(question["lines"]),
                "passages": [hit.text for hit in hits],
                "right": [
                    answers(question, (flat(hit.text), [hit.source, *(place.source for place in hit.also)]))
                    for hit in hits
                ],
            }


def ranks(rows: Sequence[dict[str, Any]], judged: dict[str, dict[str, Any]], by: str) -> dict[str, Any]:
    """Shares of answerable questions with a right passage among the first."""
    found = []
    for row in rows:
        if row["answerable"]:
            scores = (
                judged[row["id"]][by] if by != "recall" else [-place for place in range(len(row["right"]))]
            )
            order = sorted(range(len(scores)), key=lambda at: -scores[at])
            found.append(next((place for place, at in enumerate(order) if row["right"][at]), _DEPTH))
    count = max(1, len(found))
    return {
        "questions": len(found),
        **{
            f"first {depth}": round(sum(rank < depth for rank in found) / count, 3)
            for depth in (1, 3, 5, _DEPTH)
        },
    }


def area(scores: Sequence[float], good: Sequence[bool]) -> float:
    """AUROC."""
    high = [score for score, is_good in zip(scores, good, strict=True) if is_good]
    low = [score for score, is_good in zip(scores, good, strict=True) if not is_good]
    wins = sum((one > other) + 0.5 * (one == other) for one in high for other in low)
    return round(wins / max(1, len(high) * len(low)), 3)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--judged", help="parts by a pattern")
    options = parser.parse_args()
    if not options.judged:
        with options.out.open("w", encoding="utf-8") as out:
            for row in recalled(options.store):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    given = Path(options.judged)
    judged = {row["id"]: row for path in sorted(given.parent.glob(given.name)) for row in lines_of(path)}
    rows = [row for row in lines_of(options.out) if row["id"] in judged]
    for name in (None, *sorted({row["slice"] for row in rows})):
        some = [row for row in rows if name in (None, row["slice"])]
        for by in ("recall", "yes", "likelihood"):
            print(name or "all", by, ranks(some, judged, by))
    pairs = [
        (score, right)
        for row in rows
        for score, right in zip(judged[row["id"]]["yes"], row["right"], strict=True)
    ]
    print("yes, right passage or not: AUROC", area(*zip(*pairs, strict=True)))
    best = [max(judged[row["id"]]["yes"]) for row in rows]
    print("greatest yes, answerable or not: AUROC", area(best, [row["answerable"] for row in rows]))


if __name__ == "__main__":
    main()
