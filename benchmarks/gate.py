"""What a gate lets pass: `gate.py [--useful 10] [--harmful 50]`, AIOS_DATA set; needs `minilm` and `smollm2`.

Facts of `skills/*` that have another wording are learned eight at a time, judged by that. Useful sets are
as they are; harmful ones have the answers of each other, several answers to a question, or words at random.
`--device cuda` learns, asks and judges on a GPU. `--part 2/4` takes each fourth set from the second on,
`--begin 24` leaves the first ones out, and `--of LOG ...` joins what such runs printed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution import DecisionLog, Gate, LoRAConfig, LoRATrainer, QAPair
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.errors import SkillRejectedError
from learning import lines
from measure import data_dir, report, reported
from models import converted

SKILLS = ("chopin", "torch_relay_2008")
FACTS = 8


def facts(data: Path) -> list[tuple[QAPair, QAPair]]:
    """Facts as they are learned and as they are asked."""
    rows = [row for name in SKILLS for row in lines(data / "skills" / name / "test.jsonl")]
    return [
        (QAPair(row["train_question"], row["answer"]), QAPair(row["question"], row["answer"])) for row in rows
    ]


def spoiled(kind: str, pairs: list[QAPair], rng: random.Random) -> list[QAPair]:
    """The pairs with answers that are none."""
    answers = [pair.answer for pair in pairs]
    if kind == "answers of each other":
        return [QAPair(pair.question, answers[at - 1]) for at, pair in enumerate(pairs)]
    if kind == "several answers":
        others = [[answers[at - 1], answers[at - 2], answers[at - 3]] for at in range(len(pairs))]
        return [QAPair(pair.question, one) for pair, own in zip(pairs, others, strict=True) for one in own]
    words = sorted({word for pair in pairs for word in f"{pair.question} {pair.answer}".split()})
    return [QAPair(" ".join(rng.sample(words, 6)), " ".join(rng.sample(words, 2))) for _ in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--useful", type=int, default=10)
    parser.add_argument("--harmful", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    parser.add_argument("--part", default="1/1", help="of the sets, as 2/4")
    parser.add_argument("--begin", type=int, default=0, help="number of the first set")
    parser.add_argument("--of", type=Path, nargs="+", help="outputs of runs of parts, instead of a run")
    options = parser.parse_args()
    if options.of:
        conclude([reported(file) for file in options.of])
        return
    known, rng = facts(data_dir(as_argument=False)), random.Random(0)
    kinds = ["useful"] * options.useful
    spoilt = ["answers of each other", "several answers", "words at random"]
    kinds += [spoilt[at % 3] for at in range(options.harmful)]
    sets = [learned_and_asked(kind, known, rng) for kind in kinds]
    part, parts = map(int, options.part.split("/"))
    numbers = [number for number in range(part - 1, len(kinds), parts) if number >= options.begin]
    kept: Counter[str] = Counter()
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(converted("smollm2", None), device=options.device) as engine,
        ArrowEngine(converted("minilm", None), device=options.device) as encoder,
    ):
        gate = Gate(engine, encoder.encode)
        trainer = LoRATrainer(engine, config=LoRAConfig(), folder=folder, device=options.device)
        for number in numbers:
            pairs, held_out = sets[number]
            try:
                trainer.train_qa(pairs, f"set-{number}", epochs=options.epochs, held_out=held_out, gate=gate)
                kept[kinds[number]] += 1
            except SkillRejectedError:
                pass
            latest = DecisionLog(Path(folder)).read()[-1]
            figures = {what: round(value, 3) for what, value in latest.figures.items()}
            print(f"{kinds[number]}: {latest.decision} {figures}", flush=True)
    seen = Counter(kinds[number] for number in numbers)
    conclude(
        [
            {
                "epochs": options.epochs,
                "seconds": round(time.perf_counter() - begun),
                "sets": seen,
                "kept": {kind: kept[kind] for kind in seen},
            }
        ]
    )


def learned_and_asked(
    kind: str, known: list[tuple[QAPair, QAPair]], rng: random.Random
) -> tuple[list[QAPair], list[QAPair]]:
    """A set of some facts, and what judges it."""
    drawn = rng.sample(known, FACTS)
    learned, held_out = ([pair[side] for pair in drawn] for side in (0, 1))
    return (learned if kind == "useful" else spoiled(kind, learned, rng)), held_out


def conclude(runs: list[dict[str, Any]]) -> None:
    """Report runs of parts as one."""
    sets, kept = Counter[str](), Counter[str]()
    for run in runs:
        sets.update(run["sets"])
        kept.update(run["kept"])
    report(epochs=runs[0]["epochs"], seconds=sum(run["seconds"] for run in runs), sets=sets, kept=kept)


if __name__ == "__main__":
    main()
