"""Answers by diffusion on a GPU beside transformers' own decoding of the same backbone.

    torch_diffusion.py [--device DEVICE] [--models FOLDER] [--short]

Needs the pulled model `smollm2-diffusion`, and transformers. Questions behind the notes of `everyday/` that
answer them; a block of 16 against 16 tokens by `generate` of transformers, in the type that the device
computes in by default. Batches of 1, 8 and 64 texts; medians of runs in turn, the prompt included. Without a
GPU it is skipped; `--device cpu --short` tries that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.config import load_config
from ai_os_diffusion.diffusion import DiffusionCore, DiffusionRequest
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from ai_os_diffusion.inference.device_utils import get_best_device, resolve_device
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from measure import interleave, report
from models import in_transformers
from writers import prompt_of

os.environ["HF_HUB_OFFLINE"] = "1"
EVERYDAY = Path(__file__).resolve().parent / "everyday"
BLOCK = 16
Prompts = Sequence[NDArray[np.int32]]


def prompts_of(engine: ArrowEngine, count: int) -> Prompts:
    """Questions behind the note that answers them, over again where there are fewer."""
    with (EVERYDAY / "questions.jsonl").open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row.get("source")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in (EVERYDAY / "notes").iterdir()}
    chosen = [rows[at % len(rows)] for at in range(count)]
    return [prompt_of(engine, texts[row["source"]], row["question"]) for row in chosen]


class Denoising:
    """Our own: a block behind each prompt, all of a batch in one pass.

    Args:
        engine: with its diffusion card.
    """

    def __init__(self, engine: ArrowEngine) -> None:
        cards = engine.core.cards.in_use("diffusion")
        config = cards.descriptions[0].config
        self._settings = DiffusionSettings.of(config, "card: config", engine.metadata.vocab_size)
        self._core = DiffusionCore(
            SessionDenoiser(engine.core, cards, self._settings, frozenset(self._settings.end_ids))
        )
        self.passes = 0.0

    def __call__(self, prompts: Prompts) -> None:
        """Answers them."""
        block = np.full(BLOCK, self._settings.mask_id, np.int32)
        requests = [
            DiffusionRequest(
                prompt, (block,), DiffusionOptions(seed=0).sampler_of(self._settings, [block], by_token=False)
            )
            for prompt in prompts
        ]
        self.passes = sum(one.passes for one in self._core.write(requests)) / len(prompts)


class Transformers:
    """The backbone in transformers, with the weights that our file holds, dequantised.

    Args:
        engine: holds the weights.
        device: of torch.
        dtype: of torch.
    """

    def __init__(self, engine: ArrowEngine, device: str, dtype: Any) -> None:
        file = engine.weights.native
        model = in_transformers(engine.metadata, {name: file.dequantize(name) for name in file.names})
        model.generation_config.pad_token_id = 0
        self._model = model.to(device, dtype)
        self._device = device

    def __call__(self, prompts: Prompts) -> None:
        """Writes 16 tokens behind each."""
        import torch

        longest = max(map(len, prompts))
        ids = torch.zeros((len(prompts), longest), dtype=torch.long)
        seen = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            seen[row, longest - len(prompt) :] = 1
        with torch.inference_mode():
            self._model.generate(
                ids.to(self._device),
                attention_mask=seen.to(self._device),
                do_sample=False,
                min_new_tokens=BLOCK,
                max_new_tokens=BLOCK,
            ).cpu()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default=get_best_device())
    parser.add_argument("--models", type=Path, default=load_config().models_dir)
    parser.add_argument("--short", action="store_true")
    asked = parser.parse_args()
    if asked.device == "cpu" and not asked.short:
        print("skipped: torch_diffusion.py needs a GPU; --device cpu --short tries that it runs")
        print(json.dumps({"benchmark": "torch_diffusion", "skipped": "no GPU"}))
        return
    import torch

    device = resolve_device(asked.device)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    figures: dict[str, dict[str, float]] = {}
    with ArrowEngine(asked.models / "smollm2-diffusion", device=device, backend="torch") as engine:
        ours, theirs = Denoising(engine), Transformers(engine, device, dtype)
        for count in [1, 2] if asked.short else [1, 8, 64]:
            prompts = prompts_of(engine, count)
            runs: dict[str, Callable[[], None]] = {
                "diffusion": lambda prompts=prompts: ours(prompts),
                "transformers": lambda prompts=prompts: theirs(prompts),
            }
            taken = interleave(runs, 1 if asked.short else 7)
            figures[f"{count} at once"] = {
                **{f"{name}, answers/s": round(count / one, 1) for name, one in taken.items()},
                **{f"{name}, tokens/s": round(count * BLOCK / one, 1) for name, one in taken.items()},
                "passes": round(ours.passes, 2),
                "times_as_fast": round(taken["transformers"] / taken["diffusion"], 2),
            }
    report(
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
        torch=torch.__version__,
        dtype=str(dtype),
        **figures,
    )


if __name__ == "__main__":
    main()
