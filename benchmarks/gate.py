"""What a gate lets pass: `gate.py [--useful 10] [--harmful 50]`, AIOS_DATA set; needs `minilm` and `smollm2`.

Facts of `skills/*` that have another wording are learned eight at a time, judged by that. Useful sets are
as they are; harmful ones have the answers of each other, several answers to a question, or words at random.
`--device cuda` learns, asks and judges on a GPU.
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
from measure import data_dir, report
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
    options = parser.parse_args()
    known, rng = facts(data_dir(as_argument=False)), random.Random(0)
    kinds = ["useful"] * options.useful
    spoilt = ["answers of each other", "several answers", "words at random"]
    kinds += [spoilt[at % 3] for at in range(options.harmful)]
    kept: Counter[str] = Counter()
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(converted("smollm2", None), device=options.device) as engine,
        ArrowEngine(converted("minilm", None), device=options.device) as encoder,
    ):
        gate = Gate(engine, encoder.encode)
        trainer = LoRATrainer(engine, config=LoRAConfig(), folder=folder, device=options.device)
        for number, kind in enumerate(kinds):
            drawn = rng.sample(known, FACTS)
            learned, held_out = ([pair[side] for pair in drawn] for side in (0, 1))
            pairs = learned if kind == "useful" else spoiled(kind, learned, rng)
            try:
                trainer.train_qa(pairs, f"set-{number}", epochs=options.epochs, held_out=held_out, gate=gate)
                kept[kind] += 1
            except SkillRejectedError:
                pass
            latest = DecisionLog(Path(folder)).read()[-1]
            figures = {what: round(value, 3) for what, value in latest.figures.items()}
            print(f"{kind}: {latest.decision} {figures}", flush=True)
    told: dict[str, Any] = {
        kind: f"{kept[kind]} of {kinds.count(kind)} kept" for kind in dict.fromkeys(kinds)
    }
    report(epochs=options.epochs, seconds=round(time.perf_counter() - begun), **told)


if __name__ == "__main__":
    main()
