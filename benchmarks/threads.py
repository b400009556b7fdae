"""What more threads bring on a processor: `threads.py [--models FOLDER] [--rounds N]`.

MiniLM encodes 2,000 sentences, SmolLM2 reads a prompt of 1,024 tokens and writes 128 from an empty context,
at 1, 2, 4, ... threads up to the cores there are and at the default count, in turn. Other work on the machine
changes what is measured: pin this to cores of its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.config import load_config
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.cpu_info import get_cpu_info
from measure import interleave, report

SENTENCES = Path(__file__).resolve().parents[1] / "tests" / "parity" / "sentences.txt"
TEXTS, PROMPT, TOKENS = 2000, 1024, 128
DEFAULT = 0
"""The count of threads that an engine takes as: what suits this machine."""


def thread_counts(most: int) -> list[int]:
    """Powers of two up to `most`, that itself, and the default."""
    counts = {1 << power for power in range(most.bit_length()) if 1 << power <= most}
    return [*sorted(counts | {most}), DEFAULT]


def encoding(folder: Path, threads: int) -> Callable[[], object]:
    """Encodes the sentences."""
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = [f"{lines[index % len(lines)]} {index}" for index in range(TEXTS)]
    engine = ArrowEngine(folder, device="cpu", backend="native", num_threads=threads)
    return lambda: engine.encode(texts)


def decoding(folder: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Reads a prompt; writes."""
    engine = ArrowEngine(folder, device="cpu", backend="native", num_threads=threads)
    # New each time: what was read before is not read again.
    drawn = np.random.default_rng(threads)

    def ids(count: int) -> NDArray[np.int32]:
        return drawn.integers(1000, 40_000, count, dtype=np.int32)

    def read() -> None:
        engine.core.session(PROMPT).prefill(ids(PROMPT))

    def write() -> None:
        session = engine.core.session(1 + TOKENS)
        session.prefill(ids(1))
        session.generate(TOKENS)

    return {"prefill": read, "decode": write}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=load_config().models_dir)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    cpu = get_cpu_info()
    counts = thread_counts(cpu.logical_cores)
    runs: dict[str, dict[str, Callable[[], object]]] = {"encode": {}, "prefill": {}, "decode": {}}
    for threads in counts:
        name = str(threads) if threads else "default"
        runs["encode"][name] = encoding(asked.models / "minilm", threads)
        for what, run in decoding(asked.models / "smollm2", threads).items():
            runs[what][name] = run
    units = {"encode": TEXTS, "prefill": PROMPT, "decode": TOKENS}
    rates = {
        what: {name: units[what] / taken for name, taken in interleave(by, asked.rounds).items()}
        for what, by in runs.items()
    }
    report(
        logical_cores=cpu.logical_cores,
        default_threads=cpu.usable_cores,
        load=round(os.getloadavg()[0], 1),
        per_second={what: {name: round(rate, 1) for name, rate in by.items()} for what, by in rates.items()},
        times_one_thread={
            what: {name: round(rate / by["1"], 2) for name, rate in by.items()} for what, by in rates.items()
        },
        default_share_of_best={
            what: round(by["default"] / max(by.values()), 3) for what, by in rates.items()
        },
    )


if __name__ == "__main__":
    main()
