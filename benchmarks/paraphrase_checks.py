"""What the base's checks tell of two questions: `paraphrase_checks.py [--pairs 200]`, AIOS_DATA set.

Questions of `squad_dev_a` on one paragraph, near each other for the encoder (a cosine of .8 or more): those
that have the same answer ask the same, for the most part; those that have different answers do not. How well
a check tells the first from the second is an AUROC: the answer that is less likely, without the passage and
behind it, and the question that is harder to get back, each as `Paraphraser` measures it.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ai_os_diffusion.evolution import QAPair
from ai_os_diffusion.evolution.paraphrases import Paraphraser
from ai_os_diffusion.inference import ArrowEngine
from measure import data_dir, report
from models import converted
from squad import Question, questions

ALIKE = 0.8
THREADS = 8

Two = tuple[Question, Question]


def auroc(same: list[float], different: list[float]) -> float:
    """How often a check finds less in two that ask the same."""
    wins = np.subtract.outer(np.array(different), np.array(same))
    return float((wins > 0).mean() + (wins == 0).mean() / 2)


def near(asked: list[Question], encoder: ArrowEngine) -> tuple[list[Two], list[Two]]:
    """Two questions that are near each other, of the same answer and of different ones."""
    groups = defaultdict(list)
    for question in asked:
        groups[question.paragraph].append(question)
    same, different = [], []
    for group in groups.values():
        vectors = encoder.encode([question.text for question in group])
        for (one, a), (other, b) in itertools.combinations(zip(group, vectors, strict=True), 2):
            if a @ b >= ALIKE and one.text != other.text:
                both = [{answer.lower() for answer in question.answers} for question in (one, other)]
                (same if both[0] & both[1] else different).append((one, other))
    return same, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="of each kind, at most")
    options = parser.parse_args()
    data, figures = data_dir(as_argument=False), {}
    with (
        ArrowEngine(converted("minilm", None), device="cpu") as encoder,
        ArrowEngine(converted("smollm2", None), device="cpu") as engine,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        kinds = [
            random.Random(0).sample(kind, min(len(kind), options.pairs))
            for kind in near(questions(data), encoder)
        ]
        writer = Paraphraser(engine)

        def answered(two: Two, reads: bool) -> float:
            one, other = two
            pair = QAPair(one.text, one.answers[0])
            read = replace(pair, passage=one.paragraph) if reads else pair
            return writer.less_likely(read, [other.text])[0]

        def lost(two: Two) -> float:
            one, other = two
            return writer.lost(QAPair(one.text, one.answers[0]), [other.text])[0]

        checks = {
            "answer": lambda two: answered(two, False),
            "answer, passage read": lambda two: answered(two, True),
            "way back": lost,
        }
        for name, check in checks.items():
            same, different = (list(pool.map(check, kind)) for kind in kinds)
            figures[name] = round(auroc(same, different), 3)
            print(name, figures[name], flush=True)
    report(same=len(kinds[0]), different=len(kinds[1]), **figures)


if __name__ == "__main__":
    main()
