"""Fits how likely a reader's answer is right, and measures it: `answer_calibration.py CARD [--out FILE]`.

CARD is a reader card, or its safetensors file. It is fitted on questions of `reader/extractive.jsonl.gz`
(AIOS_DATA), or of --rows FILE in the same form, which the card should not have been trained on, and of
--pairs FILE, rows of `training/reader_card` to packages that are held out: each is asked of the passages of
its source, one in four a second time with its document and every passage that holds an accepted answer taken
away. The threshold keeps 95 % of those that can be answered. It is measured on `squad_dev_a`, over all its
paragraphs, with the article taken away where it is asked again. --out writes the card with both in its
description; --measure takes what CARD says and fits nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.redescribed import redescribed
from ai_os_diffusion.utils.statistics.calibration import Calibration
from measure import data_dir, report
from models import card_file, converted, is_given
from open_questions import Pool, Read, pairs_pool, read_all, row_pools, squad_pool
from uncertainty import auroc, calibration_error

_COMPETING = 3
"""Answers of a question that are fitted to: the best, and those it is chosen from."""

_KEPT = 0.95

SOURCES = re.compile("SQuAD1|SQuAD-train|TyDi|QED|COVID|SleepQA|Hotpot|MuSiQue|AfriQA")
"""Whose questions stand by themselves: nobody can ask many passages what "the king" did."""


def fitted(read: Sequence[Read]) -> Judge:
    """A calibration of what was read, and the threshold that keeps most of what can be answered."""
    examples = [(one, found) for one in read for found in one.found[:_COMPETING]]
    calibration = Calibration.fit(
        [found.features for _, found in examples], [one.is_right(found) for one, found in examples]
    )
    judge = Judge(calibration, 0.0)
    sure = [judge.ranked(one.found)[0].confidence for one in read if one.found and not one.removed]
    return replace(judge, threshold=round(float(np.quantile(np.array(sure), 1 - _KEPT)), 4))


def measured(read: Sequence[Read], judge: Judge) -> dict[str, float]:
    """What the first answers are worth, and what is known of it before."""
    first = [(one, judge.ranked(one.found)[0]) for one in read if one.found]
    chance = np.array([ranked.confidence or 0.0 for _, ranked in first])
    right = np.array([one.is_right(ranked.candidate) for one, ranked in first])
    removed = np.array([one.removed for one, _ in first])
    believed = np.array([ranked.is_believed for _, ranked in first])
    there = [(one, ranked.candidate) for one, ranked in first if not one.removed]
    kept = np.quantile(chance[~removed], 1 - _KEPT)
    figures = {
        "exact": 100 * np.mean([one.is_exact(best) for one, best in there]),
        "f1": 100 * np.mean([one.f1(best) for one, best in there]),
        "right": right[~removed].mean(),
        "auroc_right": auroc(chance, right),
        "auroc_right_of_answerable": auroc(chance[~removed], right[~removed]),
        "calibration_error": calibration_error(chance, right),
        "calibration_error_of_answerable": calibration_error(chance[~removed], right[~removed]),
        "auroc_answerable": auroc(chance, ~removed),
        "answered_without_article_at_95": (chance[removed] >= kept).mean(),
        "answered": believed[~removed].mean(),
        "answered_without_article": believed[removed].mean(),
        "right_of_answered": right[~removed & believed].mean(),
        "several_answers": np.mean(
            [sum(own.is_believed for own in judge.ranked(one.found)) > 1 for one in read]
        ),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file, compressed or not."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        yield from map(json.loads, lines)


def main() -> None:
    """Read, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a reader card, or its source")
    parser.add_argument("--rows", type=Path, help="to fit on; by default those of AIOS_DATA")
    parser.add_argument("--pairs", type=Path, help="held-out rows of `training/reader_card`, .jsonl.gz")
    parser.add_argument("--questions", type=int, default=1500, help="to fit on")
    parser.add_argument("--measured", type=int, default=1000, help="questions of squad_dev_a")
    parser.add_argument("--seed", type=int, default=503)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", action="store_true", help="take the card as it is")
    parser.add_argument("--out", type=Path, help="the card with its calibration")
    options = parser.parse_args()
    if not is_given(options.card, "reader card for minilm"):
        return
    from ai_os_diffusion.inference import ArrowEngine

    data = data_dir(as_argument=False)
    base = converted("minilm", None)
    with tempfile.TemporaryDirectory() as folder, ArrowEngine(base, device=options.device) as engine:
        file = card_file(options.card, base, Path(folder), {"kind": "reader"})
        engine.attach(file)
        card = Card(file)
        judge = Judge.of(card.description.config, str(file))
        fit: dict[str, float] = {}
        if not options.measure:
            rows = rows_of(options.rows or data / "reader" / "extractive.jsonl.gz")
            asked = (row for row in rows if options.rows or SOURCES.search(row["source"]))
            pools: Iterable[Pool] = row_pools(asked, options.questions, options.seed)
            if options.pairs:
                pools = chain(pools, [pairs_pool(options.pairs, options.seed)])
            read = list(chain.from_iterable(read_all(engine, pool) for pool in pools))
            judge = fitted(read)
            fit = measured(read, judge)
        if judge.calibration is None:
            raise SystemExit(f"{file}: holds no calibration; leave out --measure to fit one")
        held = list(read_all(engine, squad_pool(data, options.measured, options.seed)))
        figures = measured(held, judge)
        if options.out is not None:
            config = {**card.description.config, **judge.to_config()}
            metrics = {**card.description.metrics, "answers_on_squad_dev_a": figures}
            redescribed(card, options.out, replace(card.description, config=config, metrics=metrics))
    weights = {name: round(own.weight, 3) for name, own in judge.calibration.features.items()}
    report(fitted_on=fit, squad_dev_a=figures, threshold=judge.threshold, weights=weights)


if __name__ == "__main__":
    main()
