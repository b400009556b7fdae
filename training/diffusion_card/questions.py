"""New questions about passages: one card asks, and what another card answers right is kept.

    aios train-diffusion --config recipe.toml --out asking \
        --set 'objective="causal"' --set data.kinds.question=1 --set optimizer.seconds=140 \
        --set report.infill=[]
    python questions.py --asking asking/card.parquet --answering run/card.parquet --out written.jsonl.gz

As `reader/written.jsonl.gz` in the folder of the data they are drawn from by training. Source: round-trip
consistency, arXiv:1906.05416.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from open_data import OpenData, is_held_out, sentences
from passages import ask_back, span

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training import Recipe
from ai_os_diffusion.training.text_encoder import TextEncoder
from ai_os_diffusion.utils.answer_match import word_f1

AGREES = 0.8
"""Least F1 of what the second card answers with the answer that was asked about."""

TEMPERATURE, TOP_P = 0.8, 0.9
_MOST_TOKENS = 32
_RECIPE = Path(__file__).with_name("recipe.toml")


def candidates(data: OpenData, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Passages without those kept for judging, each with an answer that stands in it once."""
    texts = [*data.contexts, *data.prose]
    while True:
        whole = rng.choice(texts)
        parts = sentences(whole)
        if len(parts) < 3 or is_held_out(whole):
            continue
        begin = rng.randrange(max(1, len(parts) - 3))
        passage = " ".join(parts[begin : begin + rng.randint(3, 9)])
        if not 200 <= len(passage) <= 1500:
            continue
        for _ in range(3):
            answer = span(rng, rng.choice(parts[begin : begin + 9]))
            if answer and passage.count(answer) == 1:
                yield passage, answer


class Questions:
    """Asks by one card and answers by another, on the base that both belong to.

    Args:
        base: folder of the model.
        asking: trained for the next token on the kind `question`.
        answering: writes by diffusion.
        device: of both.
    """

    def __init__(self, base: Path, asking: Path, answering: Path, device: str = "auto") -> None:
        self._encoder = TextEncoder(base, Recipe.read(_RECIPE).card, masks=False)
        self._asking, self._answering = (ArrowEngine(base, device=device) for _ in range(2))
        self._asking.attach(asking)
        self._answering.attach(answering)

    def row(self, passage: str, answer: str, seed: int) -> dict[str, Any] | None:
        """A row as of `extractive.jsonl.gz`, where a question was found that is answered so."""
        ids = np.array(self._encoder.prompt(ask_back(passage, answer)), np.int32)
        asked = self._asking.generate(
            ids, max_tokens=_MOST_TOKENS, temperature=TEMPERATURE, top_p=TOP_P, seed=seed
        )
        question = str(asked).strip()
        if not question.endswith("?"):
            return None
        if word_f1(str(self._answering.diffuse(question, context=passage)), answer) < AGREES:
            return None
        return {
            "question": question,
            "context": passage,
            "answers": [{"text": answer, "start": passage.index(answer)}],
            "source": "written",
            "lang": "en",
        }


def main() -> None:
    """Write until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with reader/ and train/")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--asking", type=Path, required=True, help="card trained on the kind `question`")
    parser.add_argument("--answering", type=Path, required=True, help="card that answers by diffusion")
    parser.add_argument("--out", type=Path, required=True, help="file of what is written")
    parser.add_argument("--seconds", type=float, required=True, help="time to write for")
    parser.add_argument("--threads", type=int, default=64, help="questions at a time: they share passes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    found = candidates(OpenData(a.data, held_out=False), random.Random(a.seed))
    questions = Questions(resolve_model(a.base), a.asking, a.answering, a.device)
    kept, tried, begun = 0, 0, time.monotonic()
    with gzip.open(a.out, "wt", encoding="utf-8") as out, ThreadPoolExecutor(a.threads) as pool:
        while time.monotonic() - begun < a.seconds:
            pairs = [next(found) for _ in range(8 * a.threads)]
            seeds = range(tried, tried + len(pairs))
            rows = [row for row in pool.map(questions.row, *zip(*pairs, strict=True), seeds) if row]
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            kept, tried = kept + len(rows), tried + len(pairs)
            print(json.dumps({"kept": kept, "tried": tried}), flush=True)


if __name__ == "__main__":
    main()
