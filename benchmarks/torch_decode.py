"""The torch backend on a GPU: SmolLM2-135M reads and writes, MiniLM embeds; and the CPU's greedy tokens.

    torch_decode.py [--device DEVICE] [--models FOLDER] [--short]

Needs the pulled models `smollm2` and `minilm`; FOLDER holds them if it is not the configured one. Without a
GPU it is skipped; `--device cpu --short` tries that it runs. Rates are medians, in float32 and in what the
device computes in by default; results have arrived on the host when a run ends. Greedy tokens of ten prompts
are compared with the native core's, both in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.config import load_config
from ai_os_diffusion.inference import ArrowEngine, InferenceCore
from ai_os_diffusion.inference.device_utils import get_best_device, resolve_device
from measure import report
from parity import PROMPTS

BARS = {"decode, 1 text": 600.0, "decode, 64 texts": 10_000.0}
SENTENCES = Path(__file__).resolve().parents[1] / "tests" / "parity" / "sentences.txt"
PROMPT, GREEDY_TOKENS = 64, 64


class Told(dict[str, float]):
    """Rates, each told as soon as it is there: a run that is cut off leaves those before."""

    def __setitem__(self, what: str, rate: float) -> None:
        super().__setitem__(what, rate)
        print(f"{what:>34}: {rate:.1f} a second", flush=True)


def seconds(make: Callable[[], Any], run: Callable[[Any], Any], repeats: int) -> float:
    """Median seconds of `run` on what `make` makes each time, after one warm-up."""
    taken = []
    for _ in range(repeats + 1):
        made = make()
        start = time.perf_counter()
        run(made)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def ids_of(core: InferenceCore, count: int, seed: int) -> Any:
    """Tokens of no meaning."""
    return np.random.default_rng(seed).integers(0, core.config.vocab_size, count, dtype=np.int32)


def decoder_rates(engine: ArrowEngine, *, texts: list[int], tokens: int, repeats: int) -> dict[str, float]:
    """Tokens a second of reading and writing; blocks a second."""
    core, rates = engine.core, Told()

    def begun(count: int, prompt: int = PROMPT) -> list[Any]:
        sessions = [core.session(prompt + tokens) for _ in range(count)]
        type(sessions[0]).prefill_all(sessions, [ids_of(core, prompt, seed) for seed in range(count)])
        return sessions

    for count in texts:
        taken = seconds(
            lambda count=count: begun(count), lambda held: type(held[0]).generate_all(held, tokens), repeats
        )
        rates[f"decode, {count} text" + "s" * (count > 1)] = count * tokens / taken

    behind = 16 * tokens
    taken = seconds(lambda: begun(1, behind), lambda held: held[0].generate(tokens), repeats)
    rates[f"decode, 1 text behind {behind}"] = tokens / taken

    def write(seed: int) -> None:
        engine.generate(ids_of(core, PROMPT, seed), max_tokens=tokens, eos_token_id=[])

    for count in texts:
        with ThreadPoolExecutor(count) as pool:
            taken = seconds(
                lambda: None,
                lambda _, pool=pool, count=count: list(pool.map(write, range(count))),
                repeats,
            )
        rates[f"generate(), {count} thread" + "s" * (count > 1)] = count * tokens / taken
    read = min(2048, core.config.max_position_embeddings - 1)
    seeds = iter(range(1000, 10_000))
    taken = seconds(
        lambda: (core.session(read), ids_of(core, read, next(seeds))),
        lambda made: made[0].prefill(made[1]),
        repeats,
    )
    rates[f"prefill of {read}"] = read / taken
    session, rows, block = core.session(PROMPT + 32), np.arange(32), np.full(32, 1, np.int32)
    session.prefill(ids_of(core, PROMPT, 0))
    rates["blocks of 32 rows"] = 1 / seconds(lambda: None, lambda _: session.predict(block, rows), repeats)
    return rates


def encode_rate(engine: ArrowEngine, count: int, repeats: int) -> float:
    """Sentences a second."""
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = [f"{lines[index % len(lines)]} {index}" for index in range(count)]
    return count / seconds(lambda: None, lambda _: engine.encode(texts), repeats)


def greedy_agreement(folder: Path, device: str, prompts: list[str]) -> list[int]:
    """How many first tokens are those of the native core, of `GREEDY_TOKENS` for each prompt."""
    with ArrowEngine(folder, device="cpu", backend="native") as native:
        # The same numbers: the native core would round activations to integers for integer weights.
        weights = {name: native.weights.native.dequantize(name) for name in native.weights.native.names}
        cores = [
            InferenceCore(weights, native.metadata),
            InferenceCore(weights, native.metadata, device, "torch", dtype="float32"),
        ]
        agreed = []
        for prompt in prompts:
            ids = native.tokenizer.encode(prompt, padding=False).flat_ids
            written = []
            for core in cores:
                session = core.session(len(ids) + GREEDY_TOKENS)
                session.prefill(ids)
                written.append(session.generate(GREEDY_TOKENS))
            same = written[0] == written[1]
            agreed.append(int(same.argmin()) if not same.all() else GREEDY_TOKENS)
    return agreed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default=get_best_device())
    parser.add_argument("--models", type=Path, default=load_config().models_dir)
    parser.add_argument("--short", action="store_true")
    asked = parser.parse_args()
    if asked.device == "cpu" and not asked.short:
        print("skipped: torch_decode.py needs a GPU; --device cpu --short tries that it runs")
        print(json.dumps({"benchmark": "torch_decode", "skipped": "no GPU"}))
        return
    import torch

    device = resolve_device(asked.device)
    repeats, tokens = (1, 8) if asked.short else (5, 256)
    texts = [1, 2] if asked.short else [1, 8, 64]
    rates: dict[str, dict[str, float]] = {}
    for name, dtype in (("float32", "float32"), ("default", None)):
        on: dict[str, Any] = {"device": device, "backend": "torch", "dtype": dtype}
        with ArrowEngine(asked.models / "smollm2", **on) as engine:
            rates[name] = decoder_rates(engine, texts=texts, tokens=tokens, repeats=repeats)
        with ArrowEngine(asked.models / "minilm", **on) as engine:
            rates[name]["encode, sentences"] = encode_rate(engine, 64 if asked.short else 20_000, repeats)
    best = {bar: max(by.get(bar, 0.0) for by in rates.values()) for bar in BARS}
    report(
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
        torch=torch.__version__,
        per_second={name: {what: round(rate, 1) for what, rate in by.items()} for name, by in rates.items()},
        ratio_to_bar={bar: round(best[bar] / least, 2) for bar, least in BARS.items()},
        greedy_tokens_as_native=greedy_agreement(
            asked.models / "smollm2", device, PROMPTS[:1] if asked.short else PROMPTS
        ),
    )


if __name__ == "__main__":
    main()
