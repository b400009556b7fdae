"""What a diffusion card answers on SmolLM2: `diffusion_card.py CARD [--questions 500] [--retrieved 3]`.

CARD is its safetensors file, converted here as `aios convert` does, or the card itself. Questions of
`squad_dev_a` (AIOS_DATA) on their own paragraph, by `engine.diffuse(question, context=paragraph)`: the prompt
is read once, its tokens seeing each other; behind it a block is filled, each pass committing what it is sure
of (arXiv:2505.22618). With --retrieved N on none of their own but on the N of all 913 whose embeddings by
MiniLM are nearest to the question's; how often it is among them is told.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, judged, paragraphs, questions

# How the cards of training/diffusion_card are trained; it stands in a card once it was converted.
ABOUT = json.loads(
    (Path(__file__).resolve().parents[1] / "training/diffusion_card/about.json").read_text(encoding="utf-8")
)
TRAINED = ABOUT["config"]


def nearest(asked: Sequence[Question], texts: Sequence[str], count: int) -> list[list[str]]:
    """For each question the paragraphs that its embedding is nearest to, nearest first."""
    from ai_os_diffusion.inference import ArrowEngine

    with ArrowEngine(converted("minilm", None), device="cpu") as encoder:
        scores = encoder.encode([one.text for one in asked]) @ encoder.encode(list(texts)).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [[texts[at] for at in row] for row in order]


def share_with_own(asked: Sequence[Question], contexts: Sequence[Sequence[str]]) -> float:
    """Questions, in per cent, whose own paragraph is among what they are given."""
    has = [one.paragraph in found for one, found in zip(asked, contexts, strict=True)]
    return round(100 * sum(has) / len(has), 1)


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--threshold", type=float, default=TRAINED["threshold"])
    parser.add_argument("--extractive", action="store_true", help="hold answers to spans of the paragraph")
    parser.add_argument("--retrieved", type=int, metavar="N", help="on the nearest N of all paragraphs")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    # Those that the recipe judges its cards by.
    asked = random.Random(0).sample(questions(data_dir(as_argument=False)), options.questions)
    base = converted("smollm2", None)
    contexts: list[list[str]] = [[one.paragraph] for one in asked]
    if options.retrieved:
        texts = [row["text"] for row in paragraphs(data_dir(as_argument=False))]
        contexts = nearest(asked, texts, options.retrieved)
    with tempfile.TemporaryDirectory() as folder, ArrowEngine(base, device="cpu") as engine:
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        begun = time.perf_counter()
        written = [
            engine.diffuse(
                one.text, context=found, extractive=options.extractive, threshold=options.threshold
            )
            for one, found in zip(asked, contexts, strict=True)
        ]
        seconds = time.perf_counter() - begun
    report(
        questions=len(asked),
        **judged(asked, [one.text for one in written]),
        **({"own_paragraph_among_them": share_with_own(asked, contexts)} if options.retrieved else {}),
        passes=round(sum(one.steps for one in written) / len(written), 2),
        questions_per_s=round(len(asked) / seconds, 2),
        read_ms=round(1e3 * sum(one.timings.read_s for one in written) / len(written), 1),
        write_ms=round(1e3 * sum(one.timings.write_s for one in written) / len(written), 1),
    )


if __name__ == "__main__":
    main()
