"""How well a diffusion card knows when it is wrong: `uncertainty.py CARD [--out CALIBRATION.json]`.

Questions of `squad_dev_a` (AIOS_DATA) on their own paragraph, by `engine.diffuse`, and a quarter as many on
another one of their article that does not answer them. An answer is wrong when it equals none of the accepted
ones as SQuAD compares; where nothing answers, declining is right. The calibration is fitted to the questions
of half of the paragraphs and measured on those of the other half, all of them and the answerable alone: AUROC
of ranking wrong answers, and the expected calibration error over ten bins of equal size (arXiv:1706.04599).
Beside it the negative log-product of the confidences alone, and the time that the estimate takes.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Calibration, Trajectory, UncertaintyEstimator
from ai_os_diffusion.utils.answer_match import plain
from diffusion_card import ABOUT
from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, questions

_BINS = 10


def auroc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Chance that a labelled one scores higher than one that is not."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    hits = int(labels.sum())
    return float((ranks[labels].sum() - hits * (hits + 1) / 2) / (hits * (len(labels) - hits)))


def calibration_error(chances: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    """Mean distance of the share of wrong ones to the predicted chance, over bins of equal size."""
    order = np.argsort(chances)
    return sum(
        abs(wrong[own].mean() - chances[own].mean()) * len(own) / len(order)
        for own in np.array_split(order, _BINS)
    )


def is_wrong(question: Question, said: str) -> bool:
    """Whether an answer equals none that counts."""
    return all(plain(said) != plain(answer) for answer in question.answers)


def halves(asked: Sequence[Question], count: int) -> tuple[list[Question], list[Question]]:
    """`count` questions to fit to and as many to measure on, of different paragraphs."""
    paragraphs = sorted({one.paragraph for one in asked})
    random.Random(0).shuffle(paragraphs)
    first = set(paragraphs[: len(paragraphs) // 2])
    drawn = random.Random(1).sample(asked, len(asked))
    sides = ([one for one in drawn if (one.paragraph in first) == side] for side in (True, False))
    fitted, measured = (side[:count] + unanswered(side[count:], asked, count // 4) for side in sides)
    return fitted, measured


def unanswered(drawn: Sequence[Question], asked: Sequence[Question], count: int) -> list[Question]:
    """Questions on another paragraph of their article in which no answer of theirs stands."""
    others: dict[str, set[str]] = {}
    for one in asked:
        others.setdefault(one.article, set()).add(one.paragraph)
    rng = random.Random(2)
    found = []
    for one in drawn:
        silent = [
            text
            for text in sorted(others[one.article])
            if not any(answer.lower() in text.lower() for answer in one.answers)
        ]
        if silent and len(found) < count:
            found.append(replace(one, paragraph=rng.choice(silent), answers=(ABOUT["config"]["declines"],)))
    return found


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, default=700, help="of each half")
    parser.add_argument("--out", type=Path, help="write the calibration, as a card's config holds it")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    sides = halves(questions(data_dir(as_argument=False)), options.questions)
    base = converted("smollm2", None)
    with tempfile.TemporaryDirectory() as folder, ArrowEngine(base, device="cpu") as engine:
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        begun = time.perf_counter()
        written = [[engine.diffuse(one.text, context=one.paragraph) for one in side] for side in sides]
        writing_s = time.perf_counter() - begun
    wrong = [
        np.array([is_wrong(question, text) for question, text in zip(side, said, strict=True)])
        for side, said in zip(sides, written, strict=True)
    ]
    fitted = [one.trajectory.features() | one.evidence for one in written[0]]
    calibration = Calibration.fit(fitted, wrong[0].tolist())
    estimator = UncertaintyEstimator(calibration)
    begun = time.perf_counter()
    chances = np.array([estimator(one.trajectory, **one.evidence) for one in written[1]])
    estimating_s = time.perf_counter() - begun
    if options.out:
        options.out.write_text(json.dumps(calibration.to_dict(), indent=2) + "\n", encoding="utf-8")
    products = np.array([product(one.trajectory) for one in written[1]])
    answerable = np.arange(len(sides[1])) < options.questions
    report(
        questions=[len(side) for side in sides],
        wrong=[round(float(side.mean()), 3) for side in wrong],
        auroc=round(auroc(chances, wrong[1]), 4),
        auroc_answerable=round(auroc(chances[answerable], wrong[1][answerable]), 4),
        auroc_answerable_of_the_product_alone=round(auroc(products[answerable], wrong[1][answerable]), 4),
        calibration_error=round(calibration_error(chances, wrong[1]), 4),
        calibration_error_answerable=round(calibration_error(chances[answerable], wrong[1][answerable]), 4),
        cost=round(1 + estimating_s / writing_s * sum(map(len, sides)) / len(sides[1]), 5),
    )


def product(trajectory: Trajectory) -> float:
    """Negative logarithm of the product of a text's confidences."""
    return -float(np.log(np.maximum(trajectory.confidences, 1e-30)).sum())


if __name__ == "__main__":
    main()
