"""What a reader card finds on MiniLM: `reader_card.py CARD [--questions 2500] [--open 500] [--pairs FILE]`.

CARD is its safetensors file, converted here as `aios convert` does, or the card itself. Of each of the first
questions of `squad_dev_a` (AIOS_DATA) the best span of its own paragraph, on an int8 and a float32 base; and
how well the relevance at [CLS] and the margin over "no answer" tell the paragraph from another question's.
With `--open`, over the ten nearest of all paragraphs by the base's vectors, on the int8 base: the answer of
the greatest margin, and the same where the question's whole article is missing. With `--pairs`, rows as
`aios train-reader` takes them, each kind of question by itself. With `--forms`, over that many
questions and their ten nearest paragraphs, the card merged and with factors beside. Errors are deviations of
bootstrap samples.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.reading.reading import Reading
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.answer_match import plain, word_f1
from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, judged, paragraphs, questions

NEAREST = 10
KEPT = 0.95
"""Part of the questions with an answer that a threshold keeps answering."""
SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Found:
    """The best span of a passage."""

    text: str
    margin: float
    relevance: float


def read(engine: ArrowEngine, pairs: list[tuple[str, str]]) -> list[Found]:
    """The best span of each passage for its question; those of one question are read together."""
    found = []
    for question, own in itertools.groupby(pairs, key=lambda pair: pair[0]):
        passages = [passage for _, passage in own]
        for passage, reading in zip(passages, engine.read(question, passages), strict=True):
            best = reading.spans[0]
            found.append(Found(passage[best.start : best.end], best.margin, reading.relevance or 0.0))
    return found


def auroc(good: list[float], bad: list[float]) -> float:
    """Chance that one of the good scores higher than one of the bad."""
    order = np.argsort(np.argsort(np.array(good + bad), kind="stable"), kind="stable")
    ranks = int(order[: len(good)].sum()) - len(good) * (len(good) - 1) // 2
    return round(ranks / (len(good) * len(bad)), 4)


def deviation(values: list[float], others: list[float] | None = None) -> float:
    """Of the mean over bootstrap samples, in per cent; of AUROC where there are two lists."""
    rng, arrays = np.random.default_rng(0), [np.array(one) for one in (values, others) if one is not None]
    found = []
    for _ in range(SAMPLES):
        drawn = [array[rng.integers(len(array), size=len(array))] for array in arrays]
        found.append(
            float(drawn[0].mean()) if others is None else auroc(drawn[0].tolist(), drawn[1].tolist())
        )
    return round((100 if others is None else 1) * float(np.std(found)), 3)


def over_all(engine: ArrowEngine, card: Path, asked: list[Question], data: Path) -> dict[str, float]:
    """Answers over the nearest of all paragraphs, and what is answered where the article is missing."""
    rows = paragraphs(data)
    titles = np.array([row["title"] for row in rows])
    texts = [row["text"] for row in rows]
    scores = engine.encode([one.text for one in asked]) @ engine.encode(texts).T
    engine.attach(card)

    def best(is_removed: bool) -> tuple[list[Found], list[bool]]:
        pairs, held = [], []
        for question, own in zip(asked, scores, strict=True):
            allowed = np.where(titles == question.article, -np.inf, own) if is_removed else own
            chosen = np.argsort(-allowed, kind="stable")[:NEAREST]
            pairs += [(question.text, texts[i]) for i in chosen]
            held.append(question.paragraph in [texts[i] for i in chosen])
        found = read(engine, pairs)
        groups = [found[at : at + NEAREST] for at in range(0, len(found), NEAREST)]
        return [max(group, key=lambda one: one.margin) for group in groups], held

    said, held = best(is_removed=False)
    gone, _ = best(is_removed=True)
    right = [
        any(plain(one.text) == plain(text) for text in q.answers) for q, one in zip(asked, said, strict=True)
    ]
    f1 = [max(word_f1(one.text, text) for text in q.answers) for q, one in zip(asked, said, strict=True)]
    margins, others = [one.margin for one in said], [one.margin for one in gone]
    threshold = float(np.quantile(margins, 1 - KEPT))
    by_right = [
        [m for m, is_right in zip(margins, right, strict=True) if is_right is kind] for kind in (True, False)
    ]
    return {
        **{f"open_{name}": value for name, value in judged(asked, [one.text for one in said]).items()},
        "open_f1_error": deviation(f1),
        "recall_at_10": round(sum(held) / len(held), 3),
        "auroc_removed": auroc(margins, others),
        "auroc_removed_error": deviation(margins, others),
        "answered_removed": round(sum(margin >= threshold for margin in others) / len(others), 3),
        "auroc_right": auroc(*by_right),
    }


def forms(
    bases: dict[str, Path], card: Path, asked: list[Question], data: Path
) -> dict[str, dict[str, float]]:
    """What the card finds merged and with factors beside, on each base, against factors beside float32.

    It has them beside in a mix, here with a card of no effect.
    """
    texts = [row["text"] for row in paragraphs(data)]
    opened = Card(card)
    about = replace(opened.description, name="another", kind="skill", rank=0, heads=("another",), config={})
    found: dict[str, list[list[Reading]]] = {}
    seconds: dict[str, list[float]] = {}
    pairs: list[tuple[str, list[str]]] = []
    for precision, base in sorted(bases.items()):
        with ArrowEngine(base) as engine, tempfile.TemporaryDirectory() as folder:
            if not pairs:
                scores = engine.encode([one.text for one in asked]) @ engine.encode(texts).T
                nearest = np.argsort(-scores, kind="stable")[:, :NEAREST]
                pairs = [(q.text, [texts[i] for i in own]) for q, own in zip(asked, nearest, strict=True)]
            head = np.zeros((1, engine.dimension), np.float32)
            another = Card.write(Path(folder) / "another.parquet", about, [("another.weight", head)])
            engine.attach(opened)
            for question, passages in pairs:
                for form in ("beside", "merged"):
                    with engine.using(another) if form == "beside" else nullcontext():
                        begun = time.perf_counter()
                        readings = engine.read(question, passages)
                        seconds.setdefault(f"{precision}_{form}", []).append(time.perf_counter() - begun)
                    found.setdefault(f"{precision}_{form}", []).append(readings)
    exact = found["fp32_beside"]
    return {
        form: {**alike(readings, exact), "ms": round(1e3 * float(np.median(seconds[form])), 1)}
        for form, readings in found.items()
    } | {"int8_merged_to_beside": alike(found["int8_merged"], found["int8_beside"])}


def alike(some: list[list[Reading]], others: list[list[Reading]]) -> dict[str, float]:
    """How often two find the same best span in a passage and for a question, and how far margins differ."""

    def place(reading: Reading) -> tuple[int, int]:
        return reading.spans[0].start, reading.spans[0].end

    def answer(readings: list[Reading]) -> tuple[int, tuple[int, int]]:
        best = int(np.argmax([one.margin for one in readings]))
        return best, place(readings[best])

    both = [pair for one, other in zip(some, others, strict=True) for pair in zip(one, other, strict=True)]
    seen = [(one, other) for one, other in both if other.margin > 0]
    apart = [abs(one.margin - other.margin) for one, other in both]
    return {
        "same_span": round(float(np.mean([place(one) == place(other) for one, other in both])), 4),
        "same_span_where_seen": round(float(np.mean([place(one) == place(other) for one, other in seen])), 4),
        "same_answer": round(
            float(np.mean([answer(one) == answer(other) for one, other in zip(some, others, strict=True)])), 4
        ),
        "margin_apart": round(float(np.mean(apart)), 4),
        "margin_apart_p99": round(float(np.quantile(apart, 0.99)), 4),
    }


def by_kind(engine: ArrowEngine, file: Path, most: int) -> dict[str, dict[str, float]]:
    """Of each kind of question of a file: the right passage first by margin and by relevance, spans, none."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    kinds: dict[str, list[dict]] = {}
    for row in random.Random(0).sample(rows, len(rows)):
        kinds.setdefault(row["kind"], []).append(row)
    told = {}
    for kind, some in sorted(kinds.items()):
        some = some[:most]
        found = read(engine, [(row["question"], one["text"]) for row in some for one in row["passages"]])
        exact, f1, by_margin, by_relevance, best = [], [], [], [], []
        at = 0
        for row in some:
            own = found[at : at + len(row["passages"])]
            at += len(own)
            best.append(max(one.margin for one in own))
            first = row["passages"][0]
            if not first.get("relevant", bool(first.get("answers"))):
                continue
            by_margin.append(own[0].margin == max(one.margin for one in own))
            by_relevance.append(own[0].relevance == max(one.relevance for one in own))
            if answers := [answer["text"] for answer in first.get("answers", ())]:
                exact.append(any(plain(own[0].text) == plain(text) for text in answers))
                f1.append(max(word_f1(own[0].text, text) for text in answers))
        told[kind] = {"questions": len(some), "margin_above_0": round(float(np.mean(np.array(best) > 0)), 3)}
        for name, values in (
            ("first_by_margin", by_margin),
            ("first_by_relevance", by_relevance),
            ("exact", exact),
            ("f1", f1),
        ):
            if values:
                told[kind][name] = round(float(np.mean(values)), 3)
    return told


def measured(folder: Path, card: Path, asked: list[Question]) -> dict[str, float]:
    """One base under the card."""
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
    f1 = [max(word_f1(one.text, text) for text in q.answers) for q, one in zip(asked, found, strict=True)]
    return {
        **judged(asked, [one.text for one in found]),
        "f1_error": deviation(f1),
        "auroc_margin": auroc([one.margin for one in found], [one.margin for one in wrong]),
        "auroc_relevance": auroc([one.relevance for one in found], [one.relevance for one in wrong]),
        "passages_per_s": round(len(own) / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, default=2500)
    parser.add_argument("--open", type=int, default=0, help="questions that are asked over all paragraphs")
    parser.add_argument("--pairs", type=Path, help="rows of questions, .jsonl.gz")
    parser.add_argument("--most", type=int, default=60, help="of each kind in --pairs")
    parser.add_argument("--forms", type=int, default=0, help="questions to compare merged and beside by")
    parser.add_argument("--base", choices=("int8", "fp32"), action="append")
    options = parser.parse_args()
    if not is_given(options.card, "reader card for minilm"):
        return
    data = data_dir(as_argument=False)
    every = questions(data)
    asked = every[: options.questions]
    bases = {precision: converted("minilm", precision) for precision in options.base or ("int8", "fp32")}
    first = next(iter(bases.values()))
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        card = card_file(options.card, first, Path(folder), {"kind": "reader"})
        figures["by_base"] = {precision: measured(base, card, asked) for precision, base in bases.items()}
        if options.open:
            with ArrowEngine(first) as engine:
                figures["over_all"] = over_all(
                    engine, card, random.Random(0).sample(every, options.open), data
                )
        if options.forms:
            figures["forms"] = forms(bases, card, random.Random(1).sample(every, options.forms), data)
        if options.pairs:
            with ArrowEngine(first) as engine:
                engine.attach(card)
                figures["by_kind"] = by_kind(engine, options.pairs, options.most)
    report(questions=len(asked), **figures)


if __name__ == "__main__":
    main()
