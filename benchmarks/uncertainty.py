"""How well a diffusion card knows when it is wrong: `uncertainty.py CARD [--processes 8] [--out FILE]`.

Questions of `squad_dev_a` (AIOS_DATA) on their own paragraph, by `engine.diffuse`, and a quarter as many on
another one of their article that does not answer them. An answer is wrong when it equals none of the accepted
ones as SQuAD compares; where nothing answers, declining is right. A calibration is fitted to the questions of
each half of the paragraphs and measured on those of the other, all of them and the answerable alone: AUROC of
ranking wrong answers, and the expected calibration error over ten bins of equal size (arXiv:1706.04599), the
mean of both. Beside it the negative log-product of the confidences alone, and the time of the estimate.
--out writes one that is fitted to all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Calibration, Trajectory, UncertaintyEstimator
from ai_os_diffusion.utils.answer_match import plain
from diffusion_card import ABOUT
from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, questions

_BINS = 10


class Answer(NamedTuple):
    """What was said, and what is known of its being right."""

    text: str
    trajectory: Trajectory
    evidence: dict[str, float]


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


def halves(asked: Sequence[Question], count: int | None) -> tuple[list[Question], list[Question]]:
    """Questions of each half of the paragraphs, and some that nothing answers."""
    paragraphs = sorted({one.paragraph for one in asked})
    random.Random(0).shuffle(paragraphs)
    first = set(paragraphs[: len(paragraphs) // 2])
    drawn = random.Random(1).sample(asked, len(asked))
    fitted, measured = ([one for one in drawn if (one.paragraph in first) == side] for side in (True, False))
    return with_unanswered(fitted, count), with_unanswered(measured, count)


def with_unanswered(asked: Sequence[Question], count: int | None) -> list[Question]:
    """The first questions, and a quarter as many on another paragraph in which no answer of theirs stands.

    Both are of the same article, and the paragraph of one of the questions.
    """
    others: dict[str, set[str]] = {}
    for one in asked:
        others.setdefault(one.article, set()).add(one.paragraph)
    rng = random.Random(2)
    kept, found = list(asked[:count]), []
    for one in rng.sample(asked, len(asked)):
        silent = [
            text
            for text in sorted(others[one.article])
            if not any(answer.lower() in text.lower() for answer in one.answers)
        ]
        if silent and len(found) < len(kept) // 4:
            found.append(replace(one, paragraph=rng.choice(silent), answers=(ABOUT["config"]["declines"],)))
    return kept + found


def answers_of(card: Path, asked: Sequence[Question], threads: int | None) -> tuple[list[Answer], float]:
    """What a card says, and the seconds it took."""
    from ai_os_diffusion.inference import ArrowEngine

    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=threads) as engine,
    ):
        engine.attach(card_file(card, base, Path(folder), ABOUT))
        begun = time.perf_counter()
        written = [engine.diffuse(one.text, context=one.paragraph) for one in asked]
        seconds = time.perf_counter() - begun
    return [Answer(one.text, one.trajectory, one.evidence) for one in written], seconds


def answers_by(
    processes: int, card: Path, asked: Sequence[Question], threads: int | None
) -> tuple[list[Answer], float]:
    """The same by several processes, each with an engine of its own."""
    if processes == 1:
        return answers_of(card, asked, threads)
    parts = [asked[number::processes] for number in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(answers_of, [card] * processes, parts, [threads] * processes))
    said: list[Answer | None] = [None] * len(asked)
    for number, (own, _) in enumerate(found):
        said[number::processes] = own
    return [one for one in said if one is not None], sum(seconds for _, seconds in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, help="answerable ones of each half; by default all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each process; by default one for each core")
    parser.add_argument("--out", type=Path, help="write the calibration, as a card's config holds it")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    sides = halves(questions(data_dir(as_argument=False)), options.questions)
    said, writing_s = answers_by(options.processes, options.card, [*sides[0], *sides[1]], options.threads)
    written = said[: len(sides[0])], said[len(sides[0]) :]
    wrong = [
        np.array([is_wrong(question, one.text) for question, one in zip(side, own, strict=True)])
        for side, own in zip(sides, written, strict=True)
    ]
    folds = [
        measured(written[at], wrong[at], fit(written[1 - at], wrong[1 - at]), sides[at]) for at in (0, 1)
    ]
    if options.out:
        whole = fit([*written[0], *written[1]], np.concatenate(wrong))
        options.out.write_text(json.dumps(whole.to_dict(), indent=2) + "\n", encoding="utf-8")
    report(
        questions=[len(side) for side in sides],
        wrong=[round(float(side.mean()), 3) for side in wrong],
        **{name: round(float(np.mean([fold[name] for fold in folds])), 4) for name in folds[0]},
        cost=round(1 + estimating_s(said, fit(written[0], wrong[0])) / writing_s, 5),
    )


def fit(said: Sequence[Answer], wrong: NDArray[np.bool_]) -> Calibration:
    """The calibration of answers that were judged."""
    return Calibration.fit([one.trajectory.features() | one.evidence for one in said], wrong.tolist())


def measured(
    said: Sequence[Answer],
    wrong: NDArray[np.bool_],
    calibration: Calibration,
    asked: Sequence[Question],
) -> dict[str, float]:
    """Figures of a calibration on answers that it was not fitted to."""
    estimator = UncertaintyEstimator(calibration)
    chances = np.array([estimator(one.trajectory, **one.evidence) for one in said])
    products = np.array([product(one.trajectory) for one in said])
    answerable = np.array([one.answers != (ABOUT["config"]["declines"],) for one in asked])
    return {
        "auroc": auroc(chances, wrong),
        "auroc_answerable": auroc(chances[answerable], wrong[answerable]),
        "auroc_answerable_of_the_product_alone": auroc(products[answerable], wrong[answerable]),
        "calibration_error": calibration_error(chances, wrong),
        "calibration_error_answerable": calibration_error(chances[answerable], wrong[answerable]),
    }


def estimating_s(said: Sequence[Answer], calibration: Calibration) -> float:
    """Seconds that the estimate of all takes."""
    estimator = UncertaintyEstimator(calibration)
    begun = time.perf_counter()
    for one in said:
        estimator(one.trajectory, **one.evidence)
    return time.perf_counter() - begun


def product(trajectory: Trajectory) -> float:
    """Negative logarithm of the product of a text's confidences."""
    return -float(np.log(np.maximum(trajectory.confidences, 1e-30)).sum())


if __name__ == "__main__":
    main()
