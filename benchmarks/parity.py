"""How near the native backend comes to transformers on real weights.

MiniLM: cosine of 1,000 sentences of STS-B dev to transformers' fp32 vectors, fp32 and int8, native and torch
reference. SmolLM2-135M-Instruct: greedy tokens of ten prompts, logits, and perplexity on WikiText-2 valid
(`<unk>` kept, per model token, windows of 512 without overlap), where transformers computes in fp32 with the
weights our file holds, dequantised.
"""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
SENTENCES, TOKENS, WINDOW = 1000, 64, 512
PROMPTS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child.",
    "List three uses of a paper clip.",
    "How do I boil an egg?",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What is 17 times 3?",
    "Tell me a short story about a dragon.",
]


def sentences(data: Path, count: int = SENTENCES) -> list[str]:
    """Distinct sentences of STS-B dev."""
    with gzip.open(data / "stsb/dev.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return list(dict.fromkeys(text for row in rows for text in row[1:3]))[:count]


def wikitext(data: Path) -> str:
    """WikiText-2 valid as it comes."""
    with gzip.open(data / "wikitext2/valid.txt.gz", "rt", encoding="utf-8") as file:
        return file.read()


def reference_vectors(source: Path, texts: list[str]) -> np.ndarray:
    """Mean-pooled vectors of length 1, by transformers in fp32."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).float().eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = batch["attention_mask"][..., None]
            pooled = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(pooled).numpy())
    return np.concatenate(parts)


def encoder_figures(source: Path, texts: list[str], folders: dict[str, Path]) -> dict[str, Any]:
    """Mean and least cosine of each model to the reference."""
    from ai_os_diffusion.inference import ArrowEngine

    reference = reference_vectors(source, texts)
    engines = {f"minilm {name}": ArrowEngine(folder) for name, folder in folders.items()}
    if "fp32" in folders:
        engines["minilm fp32, torch reference"] = ArrowEngine(folders["fp32"], device="cpu", backend="torch")
    cosines = {name: (engine.encode(texts) * reference).sum(1) for name, engine in engines.items()}
    return {
        name: {"mean cosine": round(float(values.mean()), 7), "least": round(float(values.min()), 7)}
        for name, values in cosines.items()
    }


class DecoderTwins:
    """One decoder four times: as stored, and dequantised to fp32 natively, in torch and in transformers."""

    def __init__(self, folder: Path) -> None:
        from ai_os_diffusion.inference import ArrowEngine, InferenceCore
        from models import in_transformers

        self.engine = ArrowEngine(folder)
        data = self.engine.metadata
        file = self.engine.weights.native
        arrays = {name: file.dequantize(name) for name in file.names}
        self.stored = self.engine.core
        self.native = InferenceCore(arrays, data)
        self.torch = InferenceCore(arrays, data, backend="torch")
        self.reference = in_transformers(data, arrays)

    def prompt_ids(self, prompt: str) -> np.ndarray:
        """The prompt as a conversation of one turn."""
        turns = [{"role": "user", "content": prompt}]
        return np.asarray(self.engine.tokenizer.apply_chat_template(turns, tokenize=True))

    def reference_greedy(self, ids: np.ndarray) -> list[int]:
        """Tokens by transformers, end tokens ignored."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(ids.astype(np.int64))[None]
            out = self.reference.generate(
                batch,
                attention_mask=torch.ones_like(batch),
                do_sample=False,
                min_new_tokens=TOKENS,
                max_new_tokens=TOKENS,
                eos_token_id=None,
                pad_token_id=0,
            )
        return [int(id) for id in out[0, len(ids) :]]

    def greedy(self, core: Any, ids: np.ndarray) -> list[int]:
        """Tokens by one of ours, end tokens ignored."""
        from ai_os_diffusion import _native

        session, sampler, tokens = core.session(len(ids) + TOKENS), _native.Sampler(), []
        session.prefill(ids)
        for _ in range(TOKENS):
            tokens.append(session.sample(sampler)[0])
            session.push(tokens[-1])
        return tokens

    def reference_loss(self, ids: np.ndarray) -> tuple[float, int]:
        """Sum of the losses, in nats, of windows, and how many there are."""
        import torch

        total, count = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(ids) - 1, WINDOW):
                window = torch.from_numpy(ids[start : start + WINDOW].astype(np.int64))
                if len(window) > 1:
                    logits = self.reference(window[None]).logits[0, :-1]
                    total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
                    count += len(window) - 1
        return total, count


def same_prefix(left: list[int], right: list[int]) -> int:
    """Tokens until two lists differ."""
    pairs = enumerate(zip(left, right, strict=True))
    return next((index for index, (a, b) in pairs if a != b), len(left))


def decoder_figures(folder: Path, text: str, windows: int, prompts: int = len(PROMPTS)) -> dict[str, Any]:
    """Greedy agreement, logits and perplexity ratios to transformers on a text's first windows."""
    from ai_os_diffusion.inference.generation.perplexity import measure_perplexity

    twins = DecoderTwins(folder)
    agreement: dict[str, list[int]] = {"native": [], "torch": [], "stored": []}
    for prompt in PROMPTS[:prompts]:
        ids = twins.prompt_ids(prompt)
        expected = twins.reference_greedy(ids)
        for name, lengths in agreement.items():
            lengths.append(same_prefix(twins.greedy(getattr(twins, name), ids), expected))
    ids = twins.prompt_ids(PROMPTS[0])
    import torch

    with torch.inference_mode():
        logits = twins.reference(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    text_ids = twins.engine.tokenizer.encode(text, padding=False).flat_ids[: windows * WINDOW]
    total, count = twins.reference_loss(text_ids)
    reference = float(np.exp(total / count))
    return {
        f"smollm2 greedy, equal tokens of {TOKENS}": agreement,
        "smollm2 fp32 logits, greatest difference": float(np.abs(twins.native.logits(ids) - logits).max()),
        "smollm2 tokens scored": count,
        "smollm2 perplexity, transformers fp32": round(reference, 4),
        "smollm2 perplexity ratio, native fp32": round(
            measure_perplexity(twins.native, text_ids, WINDOW).perplexity / reference, 6
        ),
        "smollm2 perplexity ratio, as stored": round(
            measure_perplexity(twins.stored, text_ids, WINDOW).perplexity / reference, 6
        ),
    }


def main() -> None:
    """Measure everything; WINDOWS in the environment changes the share of WikiText-2 (default 64 windows)."""
    from measure import data_dir, report
    from models import converted, source_folder

    data = data_dir()
    folders = {name: converted("minilm", name) for name in ("fp32", "int8")}
    report(
        **encoder_figures(source_folder("minilm"), sentences(data), folders),
        **decoder_figures(converted("smollm2", None), wikitext(data), int(os.environ.get("WINDOWS", "64"))),
    )


if __name__ == "__main__":
    main()
