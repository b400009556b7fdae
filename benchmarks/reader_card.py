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
from numpy.typing import NDArray

from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, judged, questions

HEAD = "qa_outputs"
QUESTION_TOKENS = 40
WINDOW, OVERLAP = 300, 100
SPAN_TOKENS = 30
BATCH = 256
"""Windows scored in one call."""


@dataclass(frozen=True, slots=True)
class Window:
    """A question and a part of a passage: ids, token types, and where each token of the part stands.

    Attributes:
        owner: index of its pair.
        ids: int32[length].
        types: uint8[length].
        first: index of the passage's first token.
        places: int64[tokens, 2], begin and end of each in characters of the passage.
    """

    owner: int
    ids: NDArray[np.int32]
    types: NDArray[np.uint8]
    first: int
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """The best span of a passage."""

    text: str
    margin: float
    relevance: float


def windows(tokenizer, pairs: list[tuple[str, str]]):
    """`[CLS] question [SEP] passage [SEP]`, long passages in parts that overlap."""
    asked = tokenizer.encode(
        [text for text, _ in pairs], max_length=QUESTION_TOKENS + 2, padding=False, split_special_tokens=True
    )
    told = tokenizer.encode(
        [passage for _, passage in pairs],
        add_special_tokens=False,
        padding=False,
        split_special_tokens=True,
        return_offsets=True,
    )
    for owner, (head, body, places) in enumerate(zip(asked.ids, told.ids, told.offsets, strict=True)):
        last = max(0, len(body) - OVERLAP)
        for start in range(0, max(1, last), WINDOW - OVERLAP):
            part = slice(start, start + WINDOW)
            # The question's own end parts it from the passage, and ends the passage too.
            ids = np.concatenate([head, body[part], head[-1:]])
            types = np.ones(len(ids), np.uint8)
            types[: len(head)] = 0
            yield Window(owner, ids, types, len(head), places[part])


def best_span(scores: NDArray[np.float32]) -> tuple[int, int, float]:
    """First and last token with the greatest sum of scores[tokens, (start, end)], and that sum."""
    start, end = scores[:, 0], scores[:, 1]
    sums = start[:, None] + end[None, :]
    apart = np.arange(len(end))[None, :] - np.arange(len(start))[:, None]
    sums = np.where((apart >= 0) & (apart < SPAN_TOKENS), sums, -np.inf)
    first, last = divmod(int(sums.argmax()), len(end))
    return first, last, float(sums[first, last])


def read(engine, pairs: list[tuple[str, str]]) -> list[Found]:
    """The best span of each passage for its question, over the windows by margin."""
    found: list[Found | None] = [None] * len(pairs)
    parts = list(windows(engine.tokenizer, pairs))
    for at in range(0, len(parts), BATCH):
        batch = parts[at : at + BATCH]
        bounds = np.cumsum([0, *(len(part.ids) for part in batch)])
        ids = np.concatenate([part.ids for part in batch])
        types = np.concatenate([part.types for part in batch])
        scores = engine.core.head_scores((ids, bounds), HEAD, types)
        for part, own in zip(batch, np.split(scores, bounds[1:-1]), strict=True):
            first, last, score = best_span(own[part.first : -1])
            margin = score - float(own[0, 0] + own[0, 1])
            before = found[part.owner]
            relevance = max(float(own[0, 2]), before.relevance if before else -np.inf)
            if before is None or margin > before.margin:
                passage = pairs[part.owner][1]
                text = passage[part.places[first, 0] : part.places[last, 1]]
                found[part.owner] = Found(text, margin, relevance)
            else:
                found[part.owner] = Found(before.text, before.margin, relevance)
    return [one for one in found if one is not None]


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
