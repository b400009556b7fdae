"""Decoder speed: SmolLM2-135M-Instruct as its Q4_1 file stores it, native, beside llama.cpp on the same file.

A prompt of 256 tokens; 128 greedy tokens from an empty context; both in one, counted in new tokens.
Two threads. llama.cpp is built by its Python package, without AMX; the Makefile says why.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from measure import interleave, report
from models import converted, source_folder

THREADS = 2
PROMPT = 256
TOKENS = 128


def native(folder: Path):
    """(prefill, decode after `PROMPT` tokens, decode from one token) of this library."""
    from ai_os_diffusion.inference import ArrowEngine

    engine = ArrowEngine(folder, num_threads=THREADS, prefix_cache_bytes=0)
    ids = np.arange(1000, 1000 + PROMPT, dtype=np.int32)

    def run(prompt: int, tokens: int) -> None:
        session = engine.core.session(prompt + tokens)
        session.prefill(ids[:prompt])
        if tokens:
            session.generate(tokens)

    return run


def llama(file: Path):
    """The same of llama.cpp."""
    from llama_cpp import Llama, llama_get_logits_ith

    model = Llama(
        str(file),
        n_ctx=PROMPT + TOKENS + 8,
        n_batch=512,
        n_threads=THREADS,
        n_threads_batch=THREADS,
        logits_all=False,
        verbose=False,
    )
    ids = list(range(1000, 1000 + PROMPT))

    def run(prompt: int, tokens: int) -> None:
        model.reset()
        model.eval(ids[:prompt])
        for _ in range(tokens):
            logits = np.ctypeslib.as_array(llama_get_logits_ith(model.ctx, -1), (model.n_vocab(),))
            model.eval([int(logits.argmax())])

    return run


def main() -> None:
    source = source_folder("smollm2")
    gguf = next(source.glob("*.gguf")) if source.is_dir() else source
    runs = {"native": native(converted("smollm2", None)), "llama.cpp": llama(gguf)}
    prefill = interleave({name: lambda run=run: run(PROMPT, 0) for name, run in runs.items()})
    empty = interleave({name: lambda run=run: run(1, TOKENS) for name, run in runs.items()})
    both = interleave({name: lambda run=run: run(PROMPT, TOKENS) for name, run in runs.items()})
    rates = {
        "prefill 256": {name: PROMPT / taken for name, taken in prefill.items()},
        "decode 128, empty context": {name: TOKENS / taken for name, taken in empty.items()},
        "prefill 256 and decode 128": {name: TOKENS / taken for name, taken in both.items()},
    }
    report(
        threads=THREADS,
        tokens_per_s={
            what: {name: round(rate, 1) for name, rate in by.items()} for what, by in rates.items()
        },
        ratio_to_llama_cpp={what: round(by["native"] / by["llama.cpp"], 2) for what, by in rates.items()},
    )


if __name__ == "__main__":
    main()
