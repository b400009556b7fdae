"""What a model keeps that learns its skills itself: `consolidation.py [--rate 3e-5 …]`, AIOS_DATA set.

Needs `minilm`, `smollm2` and torch. Two skills are learned, `skills/chopin` and `skills/torch_relay_2008`,
judged by their other wordings; then all weights of the model learn what both know, once for each rate given.
Told are the gate's word and figures, and WikiText-2's perplexity by the candidate to the base's.
`--facts 40` learns that many questions of each, `--device cuda` learns and asks on a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution import Consolidation, LoRAConfig, LoRATrainer, QAPair
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.model_versions import ModelVersions
from gate import SKILLS
from learning import lines, perplexity
from measure import data_dir, report
from models import converted


def told(every_s: float = 10.0) -> Callable[[dict[str, Any]], None]:
    """Print now and then how far a learning has come."""
    due = [0.0]

    def tell(line: dict[str, Any]) -> None:
        if time.monotonic() > due[0]:
            due[0] = time.monotonic() + every_s
            print(line, flush=True)

    return tell


def learn(engine: ArrowEngine, folder: Path, data: Path, options: argparse.Namespace) -> None:
    """The skills that are consolidated."""
    trainer = LoRATrainer(
        engine, config=LoRAConfig(), folder=folder, trainer=options.trainer, device=options.device
    )
    for name in SKILLS:
        rows = {part: lines(data / "skills" / name / f"{part}.jsonl") for part in ("train", "test")}
        asked = rows["test"][: options.facts]
        # What judges a skill are wordings of facts among those that it learns.
        needed = {row["train_question"] for row in asked}
        first = [row for row in rows["train"] if row["question"] in needed]
        rest = [row for row in rows["train"] if row["question"] not in needed]
        learned = [*first, *rest][: options.facts] if options.facts else rows["train"]
        trainer.train_qa(
            [QAPair(row["question"], row["answer"]) for row in learned],
            name,
            epochs=options.skill_epochs,
            held_out=[QAPair(row["question"], row["answer"]) for row in asked],
            tell=told(),
        )


def consolidated(
    engine: ArrowEngine, encoder: ArrowEngine, place: Path, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    """One consolidation, and what its gate says; the version, where one is kept, is taken away again."""
    versions = ModelVersions(place / "models")
    consolidation = Consolidation(
        engine,
        encoder.encode,
        place / "skills",
        versions,
        "smollm2",
        config=replace(LoRAConfig(), rate=rate, anchor=options.anchor),
        epochs=options.epochs,
        device=options.device,
    )
    begun = time.perf_counter()
    decision = consolidation.run(tell=told())
    figures: dict[str, Any] = {name: round(value, 4) for name, value in decision.figures.items()}
    if decision.decision == "consolidated":
        version = versions.folder / decision.skill
        with ArrowEngine(version, device=options.device) as after:
            ratio = perplexity(after, options.data) / perplexity(engine, options.data)
        figures["perplexity, to the base's"] = round(ratio, 4)
        versions.use("smollm2", "smollm2")
        shutil.rmtree(version)
    figures["seconds"] = round(time.perf_counter() - begun, 1)
    return {
        "rate": rate,
        "decision": decision.decision,
        "why": list(decision.reasons),
        **figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[3e-5])
    parser.add_argument("--epochs", type=int, default=10, help="of the consolidation")
    parser.add_argument("--skill-epochs", type=int, default=30)
    parser.add_argument("--anchor", type=float, default=LoRAConfig.anchor)
    parser.add_argument("--facts", type=int)
    parser.add_argument("--trainer", default="torch", choices=["native", "torch"], help="of the skills")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    options = parser.parse_args()
    options.data = data_dir(as_argument=False)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "skills").mkdir()
        model = place / "models" / "smollm2"
        shutil.copytree(converted("smollm2", None), model)
        with (
            ArrowEngine(model, device=options.device) as engine,
            ArrowEngine(converted("minilm", None), device=options.device) as encoder,
        ):
            learn(engine, place / "skills", options.data, options)
            found = []
            for rate in options.rate:
                found.append(consolidated(engine, encoder, place, rate, options))
                print(found[-1], flush=True)
    report(
        epochs=options.epochs,
        anchor=options.anchor,
        facts=options.facts or "all",
        device=options.device,
        consolidations=found,
    )


if __name__ == "__main__":
    main()
