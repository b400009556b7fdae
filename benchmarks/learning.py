"""What a skill costs and keeps: `learning.py [chopin|torch_relay_2008] [--epochs 30]`, AIOS_DATA set.

A card of rank 8 on SmolLM2 learns 250 questions and answers, natively; with `--device cuda` by torch on a
GPU, where it is also asked. `--trainers native torch` has both learn, one behind the other. Asked before and
after, greedily: a hundred of those, and other wordings of facts among them that were never asked. Beside it
the perplexity of WikiText-2 with the card, and two hundred unrelated questions: how many are answered to the
letter as before, with the card attached, and where a router chooses whether it is used.
`--seeds 3` learns with several and gives the mean too.
`--peer` trains the same factors by peft and transformers for some steps of the same questions, in float32 and
in bfloat16, without an anchor, and gives the ratio of seconds; it needs torch.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.evolution import (
    LoRACard,
    LoRAConfig,
    LoRATrainer,
    QAPair,
    QAPairs,
    SkillRouter,
    SkillTest,
)
from ai_os_diffusion.evolution.question_batches import QuestionBatches
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.errors import TrainingError
from measure import data_dir, report
from models import converted, in_transformers

ASKED, UNRELATED = 100, 200
WINDOWS, WINDOW = 24, 512
PEER_STEPS = 5


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def unrelated(data: Path, count: int = UNRELATED) -> list[QAPair]:
    """Questions of trivia; what is expected is what the base says, and not what is right."""
    with gzip.open(data / "train" / "open_trivia_qa.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(40 * count), strict=False)]
    return [QAPair(row["prompt"].split("\n")[0], "-") for row in rows[::40]]


def perplexity(engine: ArrowEngine, data: Path) -> float:
    """Of the first windows of WikiText-2's validation text."""
    with gzip.open(data / "wikitext2" / "valid.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    ids = engine.tokenizer.encode(text, padding=False).flat_ids[: WINDOWS * WINDOW]
    windows = ids.reshape(WINDOWS, WINDOW)
    return float(np.exp(np.concatenate([engine.core.token_nll(row) for row in windows]).mean()))


def routed_as_before(card: LoRACard, strange: SkillTest, same: list[bool]) -> float:
    """Share of the unrelated questions answered as before, if those that are routed to the card use it."""
    with ArrowEngine(converted("minilm", None), device="cpu") as encoder:
        router = SkillRouter(encoder.encode, [card])
        kept = [
            is_same or router.route(pair.question).skill is None
            for pair, is_same in zip(strange.pairs, same, strict=True)
        ]
    return round(sum(kept) / len(kept), 3)


def peer_seconds(engine: ArrowEngine, pairs: QAPairs, dtype: str) -> float:
    """Seconds of a step of sixteen questions by peft, padded to the longest."""
    import torch
    from peft import LoraConfig, get_peft_model

    file = engine.weights.native
    arrays = {name: file.dequantize(name) for name in file.names}
    model = in_transformers(engine.metadata, arrays).to(getattr(torch, dtype)).train()
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, use_rslora=True, target_modules=targets))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    end = engine.tokenizer.eos_id
    batches = QuestionBatches(engine.tokenizer, end, 8192, pairs, LoRAConfig())
    taken = []
    for step in range(PEER_STEPS + 1):
        texts = batches[step]
        length = max(len(text.ids) for text in texts)
        ids = torch.full((len(texts), length), end)
        labels = torch.full((len(texts), length), -100)
        mask = torch.zeros((len(texts), length), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            labels[row, text.learned : len(text.ids)] = torch.tensor(text.ids[text.learned :])
            mask[row, : len(text.ids)] = 1
        begun = time.perf_counter()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def native_seconds(engine: ArrowEngine, pairs: QAPairs, folder: Path, precision: str) -> float:
    """Seconds of a step of the same questions, without an anchor."""
    stamps: list[float] = []
    trainer = LoRATrainer(engine, config=LoRAConfig(anchor=0.0, precision=precision), folder=folder)
    with contextlib.suppress(TrainingError):
        trainer.train_qa(
            pairs,
            f"timed-{precision}",
            epochs=1,
            tell=lambda _line: stamps.append(time.perf_counter()),
            is_stopped=lambda: len(stamps) > PEER_STEPS,
        )
    return statistics.median(np.diff(stamps).tolist())


def scores(
    engine: ArrowEngine,
    card: LoRACard,
    asked: dict[str, list[QAPair]],
    strange: SkillTest,
    base: float,
    data: Path,
) -> dict[str, float]:
    """What a card knows, and what it keeps: shares, and the perplexity to that of the base."""
    with engine.using(card):
        after = {what: SkillTest.of(engine, own) for what, own in asked.items()}
        kept = SkillTest.of(engine, strange.pairs)
        nearly = perplexity(engine, data) / base
    same = [a == b for a, b in zip(strange.said, kept.said, strict=True)]
    return {
        **{f"exact match, {what}": round(own.exact_match, 3) for what, own in after.items()},
        **{f"F1, {what}": round(own.f1, 3) for what, own in after.items()},
        "perplexity, to the base's": round(nearly, 4),
        "unrelated questions answered as before": round(sum(same) / len(same), 3),
        "the same, routed": routed_as_before(card, strange, same),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("skill", nargs="?", default="chopin", choices=["chopin", "torch_relay_2008"])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--anchor", type=float, default=LoRAConfig.anchor)
    parser.add_argument("--dropped-words", type=float, default=LoRAConfig.dropped_words)
    parser.add_argument("--rank", type=int, default=LoRAConfig.rank)
    parser.add_argument("--selected", type=float, default=LoRAConfig.selected)
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--peer", action="store_true", help="peft and transformers beside it")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    parser.add_argument("--trainers", nargs="+", choices=["native", "torch"], help="by default the device's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quantize", help="of the base, as `aios pull` takes it; by default its own 4 bits")
    options = parser.parse_args()
    data = data_dir(as_argument=False)
    rows = {part: lines(data / "skills" / options.skill / f"{part}.jsonl") for part in ("train", "test")}
    pairs = {part: [QAPair(row["question"], row["answer"]) for row in own] for part, own in rows.items()}
    settings = LoRAConfig(
        rank=options.rank,
        selected=options.selected,
        use_dora=options.dora,
        anchor=options.anchor,
        dropped_words=options.dropped_words,
    )
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(
            converted("smollm2", options.quantize), device=options.device, num_threads=options.threads
        ) as engine,
    ):
        asked = {"as learned": pairs["train"][:ASKED], "other wordings": pairs["test"]}
        before = {what: SkillTest.of(engine, own).exact_match for what, own in asked.items()}
        figures["exact match before"] = {what: round(share, 3) for what, share in before.items()}
        strange, base = SkillTest.of(engine, unrelated(data)), perplexity(engine, data)
        if options.peer:
            whole = QAPairs.of(pairs["train"])
            own = {p: native_seconds(engine, whole, Path(folder), p) for p in ("float32", "bfloat16")}
            peers = {p: peer_seconds(engine, whole, p) for p in ("float32", "bfloat16")}
            figures["seconds a step"] = {"here": own, "peft": peers}
            figures["peft, its best, to here"] = round(min(peers.values()) / own["bfloat16"], 2)
        for trainer in options.trainers or [None]:
            # The native one computes on the CPU, wherever it is asked.
            device = "cpu" if trainer == "native" else options.device
            found = []
            for seed in range(options.seeds):
                config = replace(settings, seed=seed)
                learner = LoRATrainer(engine, config=config, folder=folder, trainer=trainer, device=device)
                stamps = [time.perf_counter()]
                card = learner.train_qa(
                    pairs["train"],
                    f"{options.skill}-{trainer}-{seed}",
                    epochs=options.epochs,
                    tell=lambda _line, stamps=stamps: stamps.append(time.perf_counter()),
                )
                found.append(
                    {
                        "seconds": round(time.perf_counter() - stamps[0], 1),
                        "seconds a step": round(statistics.median(np.diff(stamps).tolist()), 4),
                        "card, MB": round(card.path.stat().st_size / 1e6, 2),
                        **scores(engine, card, asked, strange, base, data),
                    }
                )
                print(f"{trainer or 'default'}, seed {seed}: {found[-1]}", flush=True)
            means = {name: round(statistics.fmean(own[name] for own in found), 4) for name in found[0]}
            figures[trainer or "learned"] = means if options.seeds == 1 else {**means, "by seed": found}
        figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report(
        skill=options.skill,
        base=options.quantize or "4 bits",
        epochs=options.epochs,
        device=options.device,
        **settings.to_dict(),
        **figures,
    )


if __name__ == "__main__":
    main()
