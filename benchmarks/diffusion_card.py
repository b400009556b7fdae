"""What a diffusion card answers on SmolLM2: `diffusion_card.py CARD [--questions 500]`.

CARD is its safetensors file, converted here as `aios convert` does, or the card itself. Questions of
`squad_dev_a` (AIOS_DATA) on their own paragraph: the prompt is read once, its tokens seeing each other;
behind it a block of 16 masks is filled, each pass committing what it is sure of (arXiv:2505.22618).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measure import data_dir, report
from models import converted
from squad import judged, questions

MASK, NULL, START, END = 4, 16, 1, 2
BLOCK = 16
THRESHOLD = 0.9


def prompt(tokenizer, context: str, question: str) -> np.ndarray:
    """A user's turn without a system's, and the beginning of the answer."""
    said = f"user\n{context}\n\nQuestion: {question}\nAnswer:"
    turn, newline, answer = tokenizer.encode(
        [said, "\n", "assistant\n"], add_special_tokens=False, padding=False, split_special_tokens=True
    ).ids
    return np.concatenate([[START], turn, [END], newline, [START], answer]).astype(np.int32)


def answer(core, ids: np.ndarray) -> tuple[list[int], int]:
    """Ids of a block behind a prompt, and the passes that it took."""
    session = core.session(len(ids) + BLOCK)
    session.prefill(ids, causal=False)
    block = np.full(BLOCK, MASK, np.int32)
    passes = 0
    while len(is_open := np.flatnonzero(block == MASK)):
        passes += 1
        chosen, sure, *_ = session.predict(block, is_open, forbidden=[MASK])
        taken = (sure >= THRESHOLD) | (sure == sure.max())
        block[is_open[taken]] = chosen[taken]
    return block.tolist(), passes


def text(tokenizer, ids: list[int]) -> str:
    """What stands before the end of the turn."""
    ids = ids[: ids.index(END)] if END in ids else ids
    return tokenizer.decode([one for one in ids if one != NULL])


def card_file(path: Path, base: Path, folder: Path) -> Path:
    """The card, converted from what was given for it."""
    from ai_os_diffusion.models.cards import convert_card

    if path.is_dir():
        path = path / "card.safetensors"
    if path.suffix == ".parquet":
        return path
    convert_card(path, folder / "diffusion.parquet", base=base, about={"kind": "diffusion"})
    return folder / "diffusion.parquet"


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--questions", type=int, default=500)
    options = parser.parse_args()
    if options.card is None or not options.card.exists():
        print(f"skipped: {Path(sys.argv[0]).name} needs a diffusion card for smollm2 as its argument")
        print(json.dumps({"benchmark": "diffusion_card", "skipped": "no card"}))
        return
    # Those that the recipe judges its cards by.
    asked = random.Random(0).sample(questions(data_dir(as_argument=False)), options.questions)
    base = converted("smollm2", None)
    with tempfile.TemporaryDirectory() as folder, ArrowEngine(base) as engine:
        engine.attach(card_file(options.card, base, Path(folder)))
        prompts = [prompt(engine.tokenizer, one.paragraph, one.text) for one in asked]
        begun = time.perf_counter()
        written = [answer(engine.core, ids) for ids in prompts]
        seconds = time.perf_counter() - begun
        figures = judged(asked, [text(engine.tokenizer, ids) for ids, _ in written])
    report(
        questions=len(asked),
        **figures,
        passes=round(sum(passes for _, passes in written) / len(written), 2),
        questions_per_s=round(len(asked) / seconds, 2),
    )


if __name__ == "__main__":
    main()
