"""What cards cost: an engine with a card beside one without, and eight cards in a batch beside one.

Random factors for every linear layer, int8, of the ranks in `RANKS`. MiniLM encodes 32 sentences; SmolLM2
reads 256 tokens, fills a block of 16 behind them, and writes tokens behind them. Then eight texts, without a
card, all with one or each with its own: 32 tokens of each read in common passes, and a token of each at a
time.
`swap_ms` is how long it takes until another card of rank 8 is in use in the place of one, with magnitudes of
rows (DoRA) and without: from a file never used before, and as one of the last; and for a `using` block, with
one of the last. `cpu` is the time of all threads, which a busy machine does not lengthen. Other figures are
ratios of medians of interleaved runs; `work` is how many times the multiplications of the linear layers there
are with a card, below which no ratio of a long pass can be.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from measure import interleave, report
from models import converted

THREADS = 2
RANKS = (8, 16, 64, 128)
REPEATS = 15
SENTENCE = 43
"""Tokens of a sentence: the mean of STS-B."""


def layers(engine) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of the linear layers of the blocks."""
    shapes = {name: engine.weights[name].shape for name in engine.weights if ".layer" in name}
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2
    }


def work(engine) -> dict[str, float]:
    """Multiplications with a card of each rank, in those without."""
    own = sum(outputs * inputs for outputs, inputs in layers(engine).values())
    ends = sum(outputs + inputs for outputs, inputs in layers(engine).values())
    return {f"rank {rank}": round(1 + rank * ends / own, 2) for rank in RANKS}


def random_card(engine, folder: Path, rank: int, seed: int = 0, *, magnitudes: bool = False) -> Path:
    """Factors for every linear layer of the blocks, and maybe the magnitudes of their rows."""
    from ai_os_diffusion.models.cards import Base, Card, CardDescription

    rng = np.random.default_rng(seed)
    path = folder / f"{engine.folder.name}-{rank}-{seed}{'-rows' * magnitudes}.parquet"
    base = Base.of_folder(engine.folder)
    about = CardDescription(path.stem, "skill", base, rank, 1.0)

    def factors():
        for layer, (outputs, inputs) in layers(engine).items():
            for part, size in (("A", (rank, inputs)), ("B", (outputs, rank))):
                numbers = rng.standard_normal(size, dtype=np.float32)
                yield f"{layer}.lora_{part}.weight", numbers * np.float32(0.01)
            if magnitudes:
                yield f"{layer}.lora_magnitude_vector", np.linalg.norm(weight_of(layer), axis=1)

    def weight_of(layer: str) -> np.ndarray:
        return engine.weights.native.dequantize(f"{layer}.weight")

    Card.write(path, about, factors(), bits=8, weight_of=weight_of if magnitudes else None)
    return path


def tokens(engine, count: int, seed: int = 0) -> np.ndarray:
    """Ids that are no text's beginning twice."""
    rng = np.random.default_rng(seed)
    return rng.integers(1000, engine.tokenizer.vocab_size - 1000, count).astype(np.int32)


def encoding(engine) -> Callable[[], object]:
    """One batch of sentences."""
    ids = tokens(engine, 32 * SENTENCE)
    bounds = np.arange(0, len(ids) + 1, SENTENCE)
    return lambda: engine.core.embed((ids, bounds))


def writing(engine) -> dict[str, Callable[[], object]]:
    """A prompt, a block behind it, tokens behind it."""
    prompt, block = tokens(engine, 256), np.full(16, 4, np.int32)
    rows = np.arange(len(block))
    session = engine.core.session(1024)
    session.prefill(prompt)

    def prefill() -> None:
        engine.core.session(256).prefill(prompt)

    def decode() -> None:
        session.truncate(256)
        for id in range(1000, 1016):
            session.push(id)

    return {
        "prefill 256": prefill,
        "decode 16": decode,
        "block of 16": lambda: session.predict(block, rows),
    }


def together(engine, cards: list[Path]) -> dict[str, Callable[[], object]]:
    """Eight texts in common passes, which share the cards evenly, or use none."""
    from ai_os_diffusion._native import Session

    sessions = [] if cards else [engine.core.session(512) for _ in range(8)]
    for card in cards:
        with engine.using(card):
            sessions += [engine.core.session(512) for _ in range(8 // len(cards))]
    texts = [tokens(engine, 32, seed) for seed in range(len(sessions))]

    def prefill() -> None:
        for session in sessions:
            session.truncate(0)
        Session.prefill_all(sessions, texts)

    def decode() -> None:
        for session in sessions:
            session.truncate(32)
        for id in range(1000, 1008):
            Session.prefill_all(sessions, [np.array([id], np.int32)] * len(sessions))

    return {"prefill 8 x 32": prefill, "decode 8 x 8": decode}


def swap_ms(engine, files: list[Path]) -> dict[str, float]:
    """Milliseconds from one card to another, medians: from a file, and back to one of the last."""
    from ai_os_diffusion.models.cards import Card

    taken: dict[str, list[float]] = {"from its file": [], "from its file, cpu": [], "again": [], "using": []}
    engine.attach(last := Card(files[0]))
    used = [last]

    def swap(what: str, open_card) -> None:
        nonlocal last
        begun = time.perf_counter()
        engine.detach(last.name)
        engine.attach(card := open_card())
        taken[what].append(1000 * (time.perf_counter() - begun))
        used.append(last := card)

    for file in files[1:]:
        begun = time.process_time()
        swap("from its file", lambda file=file: Card(file))
        taken["from its file, cpu"].append(1000 * (time.process_time() - begun))
    for card in used[-2:] * REPEATS:
        swap("again", lambda card=card: card)
    engine.detach(last.name)
    for _ in range(REPEATS):
        begun = time.perf_counter()
        with engine.using(last):
            taken["using"].append(1000 * (time.perf_counter() - begun))
    return {what: round(statistics.median(times), 2) for what, times in taken.items()}


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine

    costs: dict[str, dict[str, float]] = {}
    eight: dict[str, dict[str, dict[str, float]]] = {}

    def engine(name: str, precision: str | None) -> ArrowEngine:
        return ArrowEngine(converted(name, precision), num_threads=THREADS, prefix_cache_bytes=0)

    with tempfile.TemporaryDirectory() as folder:
        plain, without = engine("minilm", None), engine("smollm2", None)
        base = {"encode 32": encoding(plain), **writing(without)}
        carded = {name: {"none": run} for name, run in base.items()}
        shared = engine("smollm2", None)
        swapped = {}
        for one in (plain, without):
            for what, magnitudes in (("", False), (", with magnitudes", True)):
                others = [
                    random_card(one, Path(folder), RANKS[0], seed, magnitudes=magnitudes)
                    for seed in range(25)
                ]
                swapped[f"{one.folder.name}{what}"] = swap_ms(one, others)
        for rank in RANKS:
            encoder, decoder = engine("minilm", None), engine("smollm2", None)
            encoder.attach(random_card(encoder, Path(folder), rank))
            decoder.attach(random_card(decoder, Path(folder), rank))
            for name, run in {"encode 32": encoding(encoder), **writing(decoder)}.items():
                carded[name][f"rank {rank}"] = run
            cards = [random_card(shared, Path(folder), rank, seed) for seed in range(1, 9)]
            ways = {"none": [], "one": cards[:1], "eight": cards}
            shares = {way: together(shared, own) for way, own in ways.items()}
            for name in shares["none"]:
                seconds = interleave({way: own[name] for way, own in shares.items()}, REPEATS)
                ratios = {
                    "one, to none": seconds["one"] / seconds["none"],
                    "eight, to none": seconds["eight"] / seconds["none"],
                    "eight, to one": seconds["eight"] / seconds["one"],
                }
                rounded = {what: round(ratio, 2) for what, ratio in ratios.items()}
                eight.setdefault(name, {})[f"rank {rank}"] = rounded
        for name, runs in carded.items():
            seconds = interleave(runs, REPEATS)
            costs[name] = {rank: round(taken / seconds["none"], 2) for rank, taken in seconds.items()}
        multiplications = {one.folder.name: work(one) for one in (plain, without)}
    report(
        threads=THREADS,
        swap_ms=swapped,
        work=multiplications,
        ratio_to_no_card=costs,
        ratios_of_eight_texts=eight,
    )


if __name__ == "__main__":
    main()
