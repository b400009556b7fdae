"""Likelihood of WikiText-2 valid under a diffusion card: `elbo.py CARD [--windows 64]`.

The negative evidence lower bound of masked diffusion is, for every noise schedule, the mean over k = 1...L of
the mean loss of k masked tokens among L - k that stand (arXiv:2406.07524, arXiv:2110.02037): windows of 512
tokens of the text as it comes (`<unk>` kept), which see all of themselves, each with one k of an even spread
over 1...L and k positions drawn at random. Beside it what the decoder without the card loses on the same
windows from left to right. Nats and perplexity are per model token.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_card import ABOUT, TRAINED
from measure import data_dir, report
from models import card_file, converted, is_given
from parity import wikitext

WINDOW = 512


def windows(ids: NDArray[np.int32], count: int) -> list[NDArray[np.int32]]:
    """Windows without overlap, spread over the whole text."""
    whole = len(ids) // WINDOW
    chosen = np.unique(np.linspace(0, whole - 1, min(count, whole)).round().astype(int))
    return [ids[at * WINDOW : (at + 1) * WINDOW] for at in chosen]


def masked_counts(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many tokens are masked in each window: one of each of equal parts of 1...L, in random order."""
    spread = (np.arange(count) + rng.random(count)) / count
    return rng.permutation(1 + np.floor(spread * WINDOW).astype(np.int64))


def masked_loss(engine: Any, ids: NDArray[np.int32], count: int, rng: np.random.Generator) -> float:
    """Mean loss, in nats, of `count` tokens masked at random."""
    rows = np.sort(rng.permutation(len(ids))[:count])
    canvas = ids.copy()
    canvas[rows] = TRAINED["mask_id"]
    session = engine.core.session(len(ids), engine.core.cards.in_use("diffusion"))
    logits = session.predict(canvas, rows, logits=True)[-1].astype(np.float64)
    logits[:, TRAINED["mask_id"]] = -np.inf
    most = logits.max(axis=1)
    logs = np.log(np.exp(logits - most[:, None]).sum(axis=1)) + most
    return float((logs - logits[np.arange(count), ids[rows]]).mean())


def summary(losses: Sequence[float]) -> dict[str, float]:
    """Nats, their standard error over windows, and the perplexity with the same."""
    nats = float(np.mean(losses))
    error = float(np.std(losses, ddof=1) / math.sqrt(len(losses)))
    return {
        "nats": round(nats, 4),
        "standard_error": round(error, 4),
        "perplexity": round(math.exp(nats), 2),
        "perplexity_standard_error": round(math.exp(nats) * error, 2),
    }


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of a forward pass; by default one for each core")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    text = wikitext(data_dir(as_argument=False))
    base = converted("smollm2", None)
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(base, device="cpu", num_threads=options.threads) as engine,
    ):
        engine.attach(card_file(options.card, base, Path(folder), ABOUT))
        ids = engine.tokenizer.encode(text, padding=False, split_special_tokens=True).flat_ids
        parts = windows(ids, options.windows)
        rng = np.random.default_rng(options.seed)
        begun = time.perf_counter()
        losses = [
            masked_loss(engine, part, count, rng)
            for part, count in zip(parts, masked_counts(len(parts), rng).tolist(), strict=True)
        ]
        seconds = time.perf_counter() - begun
        causal = [float(engine.core.token_nll(part).mean()) for part in parts]
    report(
        windows=len(parts),
        diffusion_bound=summary(losses),
        left_to_right=summary(causal),
        seconds=round(seconds, 1),
    )


if __name__ == "__main__":
    main()
