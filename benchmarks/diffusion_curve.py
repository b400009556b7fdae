"""Quality by passes, and answers a second: `diffusion_curve.py CARD [--causal CARD] [--questions 500]`.

CARD is a diffusion card for smollm2, --causal one for the next token that was trained on the same examples;
each a safetensors file, converted here as `aios convert` does, or a card. Questions of `squad_dev_a`
(AIOS_DATA) on their own paragraph, those of `diffusion_card.py`. First the curve: 1 to 32 steps (arXiv:
2502.09992) and thresholds (arXiv:2505.22618). Prompts are read once for all of them, and several questions
share a pass, which changes no answer. Then, one question at a time and in turn, the seconds behind the prompt
at threshold 0.9, at one token a pass, and from left to right.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.diffusion import DiffusionCore, DiffusionRequest, Written
from ai_os_diffusion.diffusion.denoiser import Reading
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from diffusion_card import ABOUT, TRAINED
from measure import data_dir, report
from models import card_file, converted, is_given
from squad import Question, card_questions, judged
from writers import LeftToRight, prompt_of

STEPS = (1, 2, 4, 8, 16, 32)
TIMED = (0.5, 0.7, 0.9)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BLOCK = 16
LONGEST = 32
"""Room of the answers of 32 steps; all others have one block."""

TOGETHER = 16
"""Questions that share a pass."""


class ReadOnce:
    """A denoiser that reads each prompt once: a block leaves nothing behind, so a reading serves again.

    Args:
        denoiser: reads and predicts.
    """

    def __init__(self, denoiser: SessionDenoiser) -> None:
        self._denoiser = denoiser
        self._read: dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def read(self, asked: Sequence[Reading]) -> list[Any]:
        """As `Denoiser.read`, with room for the longest answer."""
        new = [one for one in asked if one.prompt.tobytes() not in self._read]
        found = self._denoiser.read([replace(one, room=LONGEST) for one in new])
        self._read.update(zip((one.prompt.tobytes() for one in new), found, strict=True))
        return [self._read[one.prompt.tobytes()] for one in asked]


def answer_of(engine: ArrowEngine, written: Written) -> str:
    """The text of a block up to its end."""
    ids = written.canvases[0].ids.tolist()
    ends = [at for at, id in enumerate(ids) if id in TRAINED["end_ids"]]
    kept = [id for id in ids[: ends[0] if ends else None] if id != TRAINED["null_id"]]
    return engine.tokenizer.decode(kept).strip()


def settings_of_curve(most_steps: int) -> Iterator[tuple[str, int, DiffusionOptions]]:
    """Name, room and options of each point."""
    for steps in (one for one in STEPS if one <= most_steps):
        yield f"{steps} steps", max(BLOCK, steps), DiffusionOptions(num_steps=steps, seed=0)
    for threshold in THRESHOLDS:
        yield f"threshold {threshold}", BLOCK, DiffusionOptions(threshold=threshold, seed=0)


def curve(engine: ArrowEngine, asked: Sequence[Question], most_steps: int) -> dict[str, dict[str, float]]:
    """Exact match, F1 and passes of each point."""
    cards = engine.core.cards.in_use("diffusion")
    settings = DiffusionSettings.of(cards.descriptions[0].config, "card: config", engine.metadata.vocab_size)
    said: dict[str, list[str]] = {}
    passes: dict[str, int] = {}
    for start in range(0, len(asked), TOGETHER):
        prompts = [prompt_of(engine, one.paragraph, one.text) for one in asked[start : start + TOGETHER]]
        denoiser = ReadOnce(SessionDenoiser(engine.core, cards, settings, frozenset(settings.end_ids)))
        for name, room, options in settings_of_curve(most_steps):
            block = np.full(room, settings.mask_id, np.int32)
            sampler = options.sampler_of(settings, [block], by_token=False)
            found = DiffusionCore(denoiser).write(
                [DiffusionRequest(prompt, (block,), sampler) for prompt in prompts]
            )
            said.setdefault(name, []).extend(answer_of(engine, one) for one in found)
            passes[name] = passes.get(name, 0) + sum(one.passes for one in found)
    return {
        name: {**judged(asked, said[name]), "passes": round(passes[name] / len(asked), 2)} for name in said
    }


def speeds(
    engine: ArrowEngine, causal: ArrowEngine | None, asked: Sequence[Question]
) -> dict[str, dict[str, float]]:
    """Answers a second behind the prompt, question by question in turn."""
    peer = LeftToRight(causal, has_card=True, in_slots=True) if causal else None
    seconds: dict[str, float] = {}
    passes: dict[str, int] = {}
    for at, one in enumerate(asked):
        ours = {
            **{
                f"threshold {threshold}": engine.diffuse(one.text, context=one.paragraph, threshold=threshold)
                for threshold in TIMED
            },
            "one token a pass": engine.diffuse(one.text, context=one.paragraph, num_steps=BLOCK),
        }
        taken = {name: (said.timings.write_s, said.steps) for name, said in ours.items()}
        if peer:
            said = peer.answer([one.paragraph], one.text)
            taken["left to right"] = said.write_s, said.passes
        # The first warms up.
        for name, (own, steps) in taken.items() if at else ():
            seconds[name] = seconds.get(name, 0.0) + own
            passes[name] = passes.get(name, 0) + steps
    count = len(asked) - 1
    figures = {
        name: {"answers_per_s": round(count / own, 2), "passes": round(passes[name] / count, 2)}
        for name, own in seconds.items()
    }
    for name, own in seconds.items():
        figures[name]["times_as_long"] = round(own / seconds["threshold 0.9"], 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a card, its source, or the folder of that")
    parser.add_argument("--causal", type=Path, help="one for the next token")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--most-steps", type=int, default=STEPS[-1], help="leaves out the slowest points")
    parser.add_argument("--timed", type=int, default=100, help="questions for the speeds; 0 leaves them out")
    parser.add_argument("--threads", type=int, help="of a forward pass; by default one for each core")
    options = parser.parse_args()
    if not is_given(options.card, "diffusion card for smollm2"):
        return
    asked = card_questions(data_dir(as_argument=False))
    base = converted("smollm2", None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def opened(card: Path, about: dict[str, Any]) -> ArrowEngine:
            engine = stack.enter_context(ArrowEngine(base, device="cpu", num_threads=options.threads))
            engine.attach(card_file(card, base, folder, about))
            return engine

        engine = opened(options.card, ABOUT)
        points = curve(engine, asked[: options.questions], options.most_steps) if options.questions else {}
        for name, own in points.items():
            print(f"{name:>16}: {own}", flush=True)
        causal = (
            opened(options.causal, {"kind": "causal", "row_ids": ABOUT["row_ids"]})
            if options.causal
            else None
        )
        timed = speeds(engine, causal, asked[: options.timed + 1]) if options.timed else {}
    report(questions=min(len(asked), options.questions), curve=points, timed=options.timed, speeds=timed)


if __name__ == "__main__":
    main()
