"""Gaps in plain text, filled by a diffusion card and left to right: `infill.py CARD [--limit N]`.

CARD is its safetensors file, converted here as `aios convert` does, or the card itself. The texts of
`beyond_pointing/infill.jsonl` were written for this. First `engine.diffuse(infill=...)` fills gaps with as
many tokens as are missing (`min_fill` and `max_fill`), against as many that the same decoder writes without
the card behind what stands before the gap. Then gaps of 1 to 6 tokens are drawn in the same texts, and their
length is not told. Perplexity is that of the completed text under the decoder without the card.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from answers import lines_of
from diffusion_card import ABOUT
from measure import report
from models import card_file, converted, is_given
from values import words

TEXTS = Path(__file__).resolve().parent / "beyond_pointing" / "infill.jsonl"
LONGEST = 6
"""Tokens of a gap whose length is not told."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A text with a gap; the space before the gap belongs to it."""

    before: str
    missing: str
    after: str


@dataclass
class Filled:
    """What was put into gaps, and how well it fits."""

    exact: list[bool] = field(default_factory=list)
    tokens: list[bool] = field(default_factory=list)
    off_by: list[int] = field(default_factory=list)
    losses: list[NDArray[np.float32]] = field(default_factory=list)
    passes: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Per cent, perplexity, passes and ms a gap."""
        count = len(self.exact)
        return {
            "exact": round(100 * sum(self.exact) / count, 1),
            "token_accuracy": round(100 * sum(self.tokens) / len(self.tokens), 1),
            "within_one_token": round(100 * sum(abs(off) <= 1 for off in self.off_by) / count, 1),
            "too_long": round(100 * sum(off > 1 for off in self.off_by) / count, 1),
            "too_short": round(100 * sum(off < -1 for off in self.off_by) / count, 1),
            "perplexity": round(float(np.exp(np.concatenate(self.losses).mean(dtype=np.float64))), 2),
            "passes": round(self.passes / count, 2),
            "ms": round(1e3 * self.seconds / count, 1),
        }


class Bench:
    """Fills gaps with an engine and compares.

    Args:
        engine: with a diffusion card, which writes from left to right without it.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text."""
        return self._engine.tokenizer.encode(text, padding=False, split_special_tokens=True).flat_ids

    def by_diffusion(self, gaps: Sequence[Gap], room: int | None, **settings: Any) -> Filled:
        """Fill by `engine.diffuse`; room None is as much as is missing, neither more nor less."""
        found = Filled()
        for gap in gaps:
            length = len(self.encode(gap.missing)) if room is None else room
            least = length if room is None else 0
            begun = time.perf_counter()
            said = self._engine.diffuse(
                infill=f"{gap.before}{{}}{gap.after}", min_fill=least, max_fill=length, **settings
            )
            found.seconds += time.perf_counter() - begun
            found.passes += said.steps
            self._judge(found, gap, said.fills[0], said.tokens)
        return found

    def left_to_right(self, gaps: Sequence[Gap]) -> Filled:
        """Write as many tokens as are missing behind what stands before."""
        found = Filled()
        for gap in gaps:
            begun = time.perf_counter()
            said = self._engine.generate(gap.before, max_tokens=len(self.encode(gap.missing)))
            found.seconds += time.perf_counter() - begun
            found.passes += said.usage.completion_tokens
            self._judge(found, gap, said.text, said.tokens)
        return found

    def truth(self, gaps: Sequence[Gap]) -> float:
        """Perplexity of the texts as they were written."""
        found = Filled()
        for gap in gaps:
            self._judge(found, gap, gap.missing, self.encode(gap.missing).tolist())
        return found.figures()["perplexity"]

    def _judge(self, found: Filled, gap: Gap, fill: str, ids: Sequence[int]) -> None:
        expected = self.encode(gap.missing).tolist()
        found.exact.append(words(fill) == words(gap.missing))
        found.tokens += [at < len(ids) and ids[at] == id for at, id in enumerate(expected)]
        found.off_by.append(len(ids) - len(expected))
        text = f"{gap.before}{fill if fill[:1].isspace() or not fill else ' ' + fill}{gap.after}"
        found.losses.append(self._engine.core.token_nll(self.encode(text)))


def drawn(gaps: Sequence[Gap], bench: Bench, seed: int = 0) -> Iterator[Gap]:
    """Gaps of 1 to 6 tokens in the same texts, each length as often: whole words."""
    rng = random.Random(seed)
    for gap in gaps:
        text = gap.before + gap.missing + gap.after
        parts = text.split(" ")
        length = rng.randint(1, LONGEST)
        fits = [
            one
            for first in range(3, len(parts) - 1)
            for last in range(first + 1, min(first + LONGEST, len(parts) - 1) + 1)
            if len(bench.encode((one := _gap(parts, first, last)).missing)) == length
        ]
        yield rng.choice(fits)


def _gap(parts: Sequence[str], first: int, last: int) -> Gap:
    missing = " " + " ".join(parts[first:last])
    marks = len(missing) - len(missing.rstrip(".,;:?!"))
    kept = len(missing) - marks
    after = " " + " ".join(parts[last:])
    return Gap(" ".join(parts[:first]), missing[:kept], missing[kept:] + after)


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--limit", type=int, help="only the first texts")
    parser.add_argument("--room", type=int, default=8, help="tokens of a gap whose length is not told")
    parser.add_argument("--threads", type=int, help="of a forward pass; by default one for each core")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    gaps = [
        Gap(row["before"].rstrip(), " " + row["gap"], row["after"])
        for row in lines_of(TEXTS)[: options.limit]
    ]
    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=options.threads) as engine,
    ):
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        bench = Bench(engine)
        unknown = list(drawn(gaps, bench))
        ways = {
            "as many tokens, one a pass": lambda: bench.by_diffusion(gaps, None),
            "as many tokens, left to right": lambda: bench.left_to_right(gaps),
            "length not told, one token a pass": lambda: bench.by_diffusion(unknown, options.room),
            "as many tokens, one pass": lambda: bench.by_diffusion(gaps, None, num_steps=1),
        }
        figures = {}
        for name, fill in ways.items():
            figures[name] = fill().figures()
            print(f"{name:>36}: {figures[name]}", flush=True)
        true = {"first": bench.truth(gaps), "length not told": bench.truth(unknown)}
    report(texts=len(gaps), perplexity_of_the_texts=true, by_way=figures)


if __name__ == "__main__":
    main()
