"""What a question costs: `ask.py [--reader CARD] [--questions 50]`.

The paragraphs of `squad_dev_a` (AIOS_DATA), else the notes of `everyday/`, are added to a store. Warm:
questions to an open runtime, ten passages each, told apart into recalling, reading and deciding. Cold: `aios
ask` as a whole process. Beside seconds of the clock stands the time of all cores together: on a machine that
is shared the first says less than the second divided by the cores.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.answers.decision import decide
from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import Runtime, open_runtime
from answers import EVERYDAY, lines_of
from measure import report

COLD_RUNS = 7
PROGRAM = "from ai_os_diffusion.cli.main import run; run()"


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call returns, its seconds by the clock, and those of all cores."""
    wall, cores = time.perf_counter(), time.process_time()
    value = run()
    return value, time.perf_counter() - wall, time.process_time() - cores


def median_ms(seconds: Sequence[float]) -> float:
    """Median in milliseconds."""
    return round(statistics.median(seconds) * 1e3, 1)


def warm(runtime: Runtime, questions: Sequence[str]) -> dict[str, Any]:
    """Medians over questions, the whole and its parts."""
    runtime.ask(questions[0])
    whole = [timed(lambda asked=asked: runtime.ask(asked))[1:] for asked in questions]
    reader = runtime.reader
    figures: dict[str, Any] = {"ms": median_ms([wall for wall, _ in whole])}
    figures["cores_ms"] = median_ms([cores for _, cores in whole])
    figures["p95_ms"] = round(float(np.quantile([wall for wall, _ in whole], 0.95)) * 1e3, 1)
    if reader is None:
        return figures
    parts: dict[str, list[float]] = {"recall": [], "read": [], "decide": []}
    tokens = []
    for asked in questions:
        found, recalling, _ = timed(lambda asked=asked: runtime.to_read(asked))
        readings, reading, _ = timed(lambda found=found: reader.read(found.question, found.hits))
        _, deciding, _ = timed(
            lambda found=found, readings=readings: decide(
                found, reader.candidates(found, readings), reader.judge
            )
        )
        for name, seconds in zip(parts, (recalling, reading, deciding), strict=True):
            parts[name].append(seconds)
        tokens.append(sum(runtime.encoder.count([hit.text for hit in found.hits])))
    return {
        **figures,
        "parts_ms": {name: median_ms(seconds) for name, seconds in parts.items()},
        "tokens_of_passages": statistics.median(tokens),
    }


def cold(question: str, environment: dict[str, str]) -> dict[str, float]:
    """Medians of whole processes."""
    wall, cores = [], []
    for _ in range(COLD_RUNS + 1):
        before = os.times()
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "ask", question],
            env=environment,
            capture_output=True,
            check=False,
        )
        wall.append(time.perf_counter() - begun)
        after = os.times()
        cores.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        if done.returncode not in (0, 6):
            raise SystemExit(done.stderr.decode("utf-8", "backslashreplace"))
    return {"ms": median_ms(wall[1:]), "cores_ms": median_ms(cores[1:])}


def main() -> None:
    """Fill a store and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", help="a reader card; by default the encoder's own")
    parser.add_argument("--questions", type=int, default=50)
    options = parser.parse_args()
    data = Path(os.environ.get("AIOS_DATA") or "missing") / "squad_dev_a"
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"storage.path": Path(folder) / "store", "model.reader": options.reader}
        config = load_config(overrides=overrides)
        with open_runtime(config) as runtime:
            if data.is_dir():
                corpus = lines_of(data / "corpus.jsonl.gz")
                runtime.add(texts=[(f"{row['id']}.txt", row["text"].encode()) for row in corpus])
                rows = lines_of(data / "questions.jsonl.gz")
            else:
                runtime.add([EVERYDAY / "notes"])
                rows = lines_of(EVERYDAY / "questions.jsonl")
            questions = [row["question"] for row in rows]
            drawn = random.Random(0).sample(questions, min(options.questions, len(questions)))
            passages = runtime.memories.count()
        with open_runtime(config) as runtime:
            reads = runtime.reader is not None
            warm_figures = warm(runtime, drawn)
        environment = {**os.environ, "AIOS_STORAGE_PATH": str(config.storage.path)}
        if options.reader:
            environment["AIOS_MODEL_READER"] = str(Path(options.reader).resolve())
        cold_figures = cold(drawn[0], environment)
    report(passages=passages, reads=reads, warm=warm_figures, cold=cold_figures)


if __name__ == "__main__":
    main()
