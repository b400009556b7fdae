"""How long gaps are, as the first pass of a card tells: `gap_lengths.py CARD [--gaps 240] [--out FILE]`.

Gaps of 1 to 6 tokens, each length as often, in texts that the recipe never trains on (`train/valid.jsonl.gz`
of AIOS_DATA). In half of the texts the odds are fitted by which those of NULL are multiplied, so that lengths
are right on the mean: how long gaps were in training is not how long they are here. Measured on the other
half, with those odds and without: lengths within one token, too long and too short.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion.denoiser import Ask, Reading
from ai_os_diffusion.inference.denoising.gap_lengths import is_over
from ai_os_diffusion.inference.denoising.gaps import GappedText
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from diffusion_card import ABOUT
from infill import Bench, Gap, drawn
from measure import data_dir, report
from models import card_file, converted, is_given

_ROOM, _TOLD, _WORDS = 8, 64, 40


def texts(data: Path, count: int) -> list[str]:
    """The first words of texts that nothing was trained on, line breaks as spaces."""
    with gzip.open(data / "train" / "valid.jsonl.gz", "rt", encoding="utf-8") as lines:
        words = [json.loads(line)["text"].split() for line in lines]
    long = [" ".join(own[:_WORDS]) for own in words if len(own) >= _WORDS]
    return random.Random(0).sample(long, min(count, len(long)))


def chances(engine: Any, bench: Bench, gaps: Sequence[Gap]) -> NDArray[np.float64]:
    """Of NULL at each position of each gap in a first pass, float64[n, room]."""
    settings = engine.diffusion_settings
    denoiser = SessionDenoiser(engine.core, engine.core.cards.in_use(ABOUT["kind"]), settings, frozenset())
    found = []
    for gap in gaps:
        text = GappedText.parse(f"{gap.before}{{}}{gap.after}", bench.encode, settings.mask_id, _ROOM)
        (read,) = denoiser.read([Reading(np.zeros(0, np.int32), len(text.ids), top_k=_TOLD)])
        (row,) = denoiser.predict([Ask(read, text.ids, np.arange(*text.gaps[0]))])
        found.append(np.where(row.top_ids == settings.null_id, row.top_confidence, 0).sum(axis=1))
    return np.clip(np.array(found, np.float64), 1e-6, 1 - 1e-6)


def told(chance: NDArray[np.float64], odds: float) -> NDArray[np.int64]:
    """Lengths by chances and odds, int64[n]."""
    own = is_over(chance, odds)
    return np.where(own.any(axis=1), own.argmax(axis=1), _ROOM)


def fitted(chance: NDArray[np.float64], lengths: NDArray[np.int64]) -> float:
    """The odds by which those of NULL are multiplied: with them lengths are right on the mean."""
    turning = np.unique((1 - chance) / chance)
    off = [abs(told(chance, odds).mean() - lengths.mean()) for odds in turning]
    return float(turning[int(np.argmin(off))])


def judged(chance: NDArray[np.float64], lengths: NDArray[np.int64], odds: float) -> dict[str, float]:
    """Per cent of gaps."""
    off = told(chance, odds) - lengths
    return {
        name: round(100 * float(share.mean()), 1)
        for name, share in (
            ("exact", off == 0),
            ("within_one", abs(off) <= 1),
            ("too_long", off > 1),
            ("too_short", off < -1),
        )
    }


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--gaps", type=int, default=240)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="write the odds, as a card's config holds them")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=options.threads) as engine,
    ):
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        bench = Bench(engine)
        asked = list(
            drawn([Gap(text, "", "") for text in texts(data_dir(as_argument=False), options.gaps)], bench)
        )
        chance = chances(engine, bench, asked)
        lengths = np.array([len(bench.encode(gap.missing)) for gap in asked])
    half = len(asked) // 2
    odds = round(fitted(chance[:half], lengths[:half]), 3)
    if options.out:
        options.out.write_text(json.dumps({"null_odds": odds}) + "\n", encoding="utf-8")
    report(
        gaps=[half, len(asked) - half],
        null_odds=odds,
        without=judged(chance[half:], lengths[half:], 1.0),
        with_them=judged(chance[half:], lengths[half:], odds),
    )


if __name__ == "__main__":
    main()
