"""What a reader card finds on MiniLM: `reader_card.py CARD [--questions 2500]`.

CARD is its safetensors file, converted here as `aios convert` does, or the card itself. Of each of the first
questions of `squad_dev_a` (AIOS_DATA) the best span of its own paragraph, on an int8 and a float32 base; and
how well the relevance at [CLS] and the margin over "no answer" tell the paragraph from another question's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, judged, questions


@dataclass(frozen=True, slots=True)
class Found:
    """The best span of a passage."""

    text: str
    margin: float
    relevance: float


def read(engine, pairs: list[tuple[str, str]]) -> list[Found]:
    """The best span of each passage for its question."""
    found = []
    for question, passage in pairs:
        (reading,) = engine.read(question, [passage])
        best = reading.spans[0]
        found.append(Found(passage[best.start : best.end], best.margin, reading.relevance or 0.0))
    return found


def auroc(good: list[float], bad: list[float]) -> float:
    """Chance that one of the good scores higher than one of the bad."""
    order = np.argsort(np.argsort(np.array(good + bad), kind="stable"), kind="stable")
    ranks = int(order[: len(good)].sum()) - len(good) * (len(good) - 1) // 2
    return round(ranks / (len(good) * len(bad)), 4)


def measured(folder: Path, card: Path, asked: list[Question]) -> dict[str, float]:
    """One base under the card."""
    from ai_os_diffusion.inference import ArrowEngine

    own = [(question.text, question.paragraph) for question in asked]
    # Paragraphs of one article follow each other; a few questions further there is another of it.
    further = asked[10:] + asked[:10]
    others = [
        (question.text, other.paragraph)
        for question, other in zip(asked, further, strict=True)
        if other.paragraph != question.paragraph
    ]
    with ArrowEngine(folder) as engine:
        engine.attach(card)
        begun = time.perf_counter()
        found = read(engine, own)
        seconds = time.perf_counter() - begun
        wrong = read(engine, others)
    return {
        **judged(asked, [one.text for one in found]),
        "auroc_margin": auroc([one.margin for one in found], [one.margin for one in wrong]),
        "auroc_relevance": auroc([one.relevance for one in found], [one.relevance for one in wrong]),
        "passages_per_s": round(len(own) / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, default=2500)
    options = parser.parse_args()
    if not is_given(options.card, "reader card for minilm"):
        return
    asked = questions(data_dir(as_argument=False))[: options.questions]
    bases = {precision: converted("minilm", precision) for precision in ("int8", "fp32")}
    with tempfile.TemporaryDirectory() as folder:
        card = card_file(options.card, bases["int8"], Path(folder), {"kind": "reader"})
        figures = {precision: measured(base, card, asked) for precision, base in bases.items()}
    report(questions=len(asked), by_base=figures)


if __name__ == "__main__":
    main()
