"""What a pass of many rows costs beside a pass of one: SmolLM2-135M-Instruct as its Q4_1 file stores it.

Three ratios, each of two things timed in turn: a block of 32 rows that see each other beside one decoding
step, both behind 64 tokens, once with the last row wanted and once predicting every row; tokens a second of 8
streams beside those of one; the first token of a prompt of 500 that was read before beside that of a new one.
Two threads. The ratio is that of the best runs: other work on the machine only ever adds time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine
from measure import report
from models import converted

THREADS = 2
BEHIND = 64
BLOCK = 32
STREAMS = 8
STEPS = 16
PROMPT = 500
ROUNDS = 15


def best(candidates: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Least seconds of each candidate, which are run in turn and time themselves, after one warm-up each."""
    for run in candidates.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            taken[name].append(run())
    return {name: min(times) for name, times in taken.items()}


def timed(run: Callable[[], object], times: int = 1) -> float:
    """Seconds of one of `times` runs."""
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def blocks(engine: ArrowEngine, ids: NDArray[np.int32]) -> dict[str, float]:
    """Seconds of a decoding step and of a block, behind the same tokens."""
    block = ids[BEHIND : BEHIND + BLOCK]
    sessions = {name: engine.core.session(2 * BEHIND + BLOCK) for name in ("step", "block", "predicted")}
    for session in sessions.values():
        session.prefill(ids[:BEHIND])

    def step() -> float:
        session = sessions["step"]
        session.truncate(BEHIND)
        session.push(int(ids[BEHIND]))
        return timed(lambda: session.push(int(ids[BEHIND])), STEPS)

    def whole() -> float:
        session = sessions["block"]
        taken = timed(lambda: session.prefill(block, causal=False))
        session.truncate(BEHIND)
        return taken

    def predicted() -> float:
        rows = np.arange(BLOCK)
        return timed(lambda: sessions["predicted"].predict(block, rows))

    return best({"decoding step": step, "block": whole, "block, every row predicted": predicted})


def streams(engine: ArrowEngine, ids: NDArray[np.int32]) -> dict[str, float]:
    """Tokens a second of one stream and of several that share their passes."""

    def run(count: int) -> Callable[[], float]:
        sessions = [engine.core.session(BEHIND + STEPS) for _ in range(count)]
        token = ids[:1]

        def rate() -> float:
            for index, session in enumerate(sessions):
                session.truncate(0)
                session.prefill(ids[index : index + BEHIND])
            tokens = [token] * count
            return timed(lambda: _native.Session.prefill_all(sessions, tokens), STEPS)

        return rate

    taken = best({"1": run(1), str(STREAMS): run(STREAMS)})
    return {name: int(name) / seconds for name, seconds in taken.items()}


def beginnings(folder: Path, ids: NDArray[np.int32]) -> dict[str, float]:
    """Seconds to the logits behind a prompt, all of it new and but for its last token read before."""
    engines = {
        name: ArrowEngine(folder, num_threads=THREADS, prefix_cache_bytes=size)
        for name, size in (("cold", 0), ("hit", None))
    }

    def first_token(engine: ArrowEngine) -> float:
        session = engine.core.session(PROMPT + 1)
        return timed(lambda: session.prefill(ids[:PROMPT]))

    return best({name: lambda engine=engine: first_token(engine) for name, engine in engines.items()})


def main() -> None:
    folder = converted("smollm2", None)
    engine = ArrowEngine(folder, num_threads=THREADS, prefix_cache_bytes=0)
    ids = np.random.default_rng(0).integers(1000, 40_000, PROMPT).astype(np.int32)
    block, rates, first = blocks(engine, ids), streams(engine, ids), beginnings(folder, ids)
    step = block.pop("decoding step")
    report(
        threads=THREADS,
        isa=_native.active_isa(),
        ms={"decoding step": round(step * 1e3, 2)}
        | {name: round(seconds * 1e3, 2) for name, seconds in (block | first).items()},
        decoding_steps_a_block_of_32_costs={name: round(taken / step, 2) for name, taken in block.items()},
        tokens_per_s_of_8_streams_to_1=round(rates[str(STREAMS)] / rates["1"], 2),
        first_token_cold_to_hit=round(first["cold"] / first["hit"], 1),
    )


if __name__ == "__main__":
    main()
