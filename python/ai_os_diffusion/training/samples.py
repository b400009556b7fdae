"""What a card writes while it is trained, by the engine that will use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.text_encoder import TextEncoder

__all__ = ["write_samples"]

_MOST_TOKENS = 64


def write_samples(recipe: Recipe, base: Path, encoder: TextEncoder, card: Card, out: Path, step: int) -> None:
    """Add to `samples.txt` what the card answers to the recipe's prompts and fills into its gaps.

    Args:
        recipe: names them.
        base: folder of the model.
        encoder: of its prompts.
        card: as it is now.
        out: folder of the run.
        step: how far the run is.
    """
    report = recipe.report
    if not report.prompts and not report.infill:
        return
    from ai_os_diffusion.inference import ArrowEngine

    folder = out / "model" if recipe.method == "full" else base
    lines = [f"== step {step}"]
    with ArrowEngine(folder, device="cpu") as engine:
        engine.attach(card)
        for prompt in report.prompts:
            if recipe.objective == "causal":
                ids = np.array(encoder.prompt(prompt), np.int32)
                said = str(engine.generate(ids, max_tokens=_MOST_TOKENS, temperature=0.0))
            else:
                said = str(engine.diffuse(prompt))
            lines += [f"> {prompt}", said]
        for text in report.infill:
            lines += [f"> {text}", str(engine.diffuse(infill=text))]
    with (out / "samples.txt").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
