"""How good a card is at the kinds of its recipe, on passages kept from training: `judging.py CARD`.

Values count as equal where they are after SQuAD's normalisation. `benchmarks/` measures the rest: questions
of `squad_dev_a`, answers beyond pointing, gaps, likelihood.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from examples import Examples

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training import Example
from ai_os_diffusion.utils.answer_match import plain, word_f1

KINDS = {"grounded": 16, "unanswerable": 16, "yes_no": 32, "two_parts": 32, "template": 16}
"""Kinds that are judged, and the positions of an answer."""


def write(engine: ArrowEngine, example: Example, room: int) -> list[str]:
    """What the engine writes for each written piece of an example."""
    if not example.has_gaps:
        return [str(engine.diffuse(example.prompt, max_tokens=room, block_length=room))]
    # Each slot has the same room, so that its length tells nothing.
    text = "".join("{}" if piece.written else piece.text for piece in example.pieces)
    found = engine.diffuse(example.prompt, infill=text, max_fill=example.room, sampler="threshold")
    return found.fills


def judge(engine: ArrowEngine, examples: Examples, count: int) -> dict[str, float]:
    """Percentages of equal values by kind, of slots rightly left empty, of verdicts; F1 of longer answers."""
    found, rng = {}, random.Random(1)
    for kind, room in KINDS.items():
        drawn = [examples.draw(kind, rng) for _ in range(count)]
        slots = [
            (said, piece.text)
            for example in drawn
            for said, piece in zip(
                write(engine, example, room),
                (piece for piece in example.pieces if piece.written),
                strict=True,
            )
        ]
        full = [(said, text) for said, text in slots if text]
        found[kind] = _percent([plain(said) == plain(text) for said, text in full])
        if kind in ("grounded", "yes_no", "two_parts"):
            found[f"{kind}_f1"] = _percent([word_f1(said, text) for said, text in full])
        if kind == "yes_no":
            found["verdict"] = _percent([_verdict(said) == _verdict(text) for said, text in full])
        if kind == "template":
            found["left_empty"] = _percent([not said.strip() for said, text in slots if not text])
    return found


def _verdict(answer: str) -> str:
    """The word before the reason."""
    return plain(answer.partition(":")[0])


def _percent(values: list[float]) -> float:
    return round(100 * sum(values) / max(1, len(values)), 2)


def main() -> None:
    """Judge a card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("card", type=Path)
    parser.add_argument("--data", default="$AIOS_DATA", help="folder with reader/ and train/")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--count", type=int, default=250, help="examples of each kind")
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    with ArrowEngine(resolve_model(a.base), device=a.device) as engine:
        engine.attach(a.card)
        print(json.dumps(judge(engine, Examples(a.data, held_out=True), a.count)))


if __name__ == "__main__":
    main()
