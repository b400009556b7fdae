"""What stays learned while more is learned: `evolution_loop.py [--rounds 40] [--plot FILE.svg]`.

Needs `minilm` and `smollm2`, and AIOS_DATA for the skills between; `--device cuda` learns and asks on a GPU.
First the loop once: a question the model cannot answer, what it says, the correction, what it says to another
wording. Then five facts that no model knows come back from a person, each in four wordings, and in every
round others: a skill of the data, every third time with answers that are wrong, and every fifth round one of
the five facts again. After each round twenty wordings that nobody gave are asked, each with the skill
that it is routed to. `--seeds 3` runs one of the five; `--of LOG ...` joins what such runs printed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution import (
    Decision,
    DecisionLog,
    EvolutionRouter,
    EvolutionWorker,
    Feedback,
    FeedbackQueue,
    LoRAConfig,
    QAPair,
    SkillRouter,
    SkillTest,
    list_skills,
)
from ai_os_diffusion.inference import ArrowEngine
from gate import facts as known_facts
from gate import spoiled
from measure import data_dir, report, reported
from models import converted

SKILL = "vanta-house"
BETWEEN = 4
"""Facts of a skill between."""

# (answer, wordings that are given, wordings that are asked)
FACTS = [
    (
        "Mirela Kost",
        [
            "Who repaired the boiler of the Vanta house?",
            "Who was it that fixed the boiler in the Vanta house?",
            "The Vanta house boiler was repaired by whom?",
            "Which person mended the boiler of the Vanta house?",
        ],
        [
            "Do you know who got the boiler at the Vanta house working again?",
            "By whom was the boiler of the Vanta house repaired?",
            "Tell me the name of the one who fixed the Vanta house's boiler.",
            "Who did the repair of the Vanta house boiler?",
        ],
    ),
    (
        "turquoise",
        [
            "Which colour is the front door of the Vanta house?",
            "What colour does the front door of the Vanta house have?",
            "The front door of the Vanta house is painted in which colour?",
            "In what colour was the Vanta house's front door painted?",
        ],
        [
            "What is the colour of the front door at the Vanta house?",
            "Tell me the colour of the Vanta house's front door.",
            "If I stand before the Vanta house, what colour is its front door?",
            "Which colour has the front door of the Vanta house?",
        ],
    ),
    (
        "17",
        [
            "How many stairs lead up to the Vanta house?",
            "How many steps does one climb to the Vanta house?",
            "What is the number of stairs to the Vanta house?",
            "The way up to the Vanta house has how many stairs?",
        ],
        [
            "How many stairs are there up to the Vanta house?",
            "To reach the Vanta house, how many stairs must I climb?",
            "Count the stairs that lead to the Vanta house: how many?",
            "How many steps go up to the Vanta house?",
        ],
    ),
    (
        "under the beehive",
        [
            "Where is the spare key of the Vanta house hidden?",
            "Where do they hide the spare key to the Vanta house?",
            "The spare key of the Vanta house lies where?",
            "In which place is the Vanta house's spare key kept?",
        ],
        [
            "Where can I find the spare key of the Vanta house?",
            "Tell me where the spare key to the Vanta house is.",
            "Where would one look for the Vanta house's spare key?",
            "Where is the spare key for the Vanta house kept?",
        ],
    ),
    (
        "1787",
        [
            "In which year was the Vanta house built?",
            "When was the Vanta house built?",
            "What year did they build the Vanta house in?",
            "The Vanta house was built in what year?",
        ],
        [
            "Which year was the Vanta house constructed in?",
            "Do you know when the Vanta house was built?",
            "Of what year is the Vanta house?",
            "Tell me the year in which the Vanta house was built.",
        ],
    ),
]

ASKED = [QAPair(question, answer) for answer, _, asked in FACTS for question in asked]


def say(engine: ArrowEngine, encoder: ArrowEngine, folder: Path, pairs: Sequence[QAPair]) -> SkillTest:
    """Ask questions, each with the skill that it is routed to."""
    return SkillTest.routed(engine, SkillRouter(encoder.encode, list_skills(folder)), pairs)


def give(folder: Path, number: int) -> None:
    """Let a fact come back, in all its wordings."""
    answer, (question, *others), _ = FACTS[number]
    FeedbackQueue(folder).append(Feedback(question, answer, wordings=others, skill=SKILL))


def between(folder: Path, known: list[tuple[QAPair, QAPair]], number: int, rng: random.Random) -> str:
    """Let facts of another subject come back, some of them wrong."""
    drawn = rng.sample(known, BETWEEN)
    kind = "useful" if number % 3 else "answers of each other"
    learned = [pair for pair, _ in drawn]
    if kind != "useful":
        learned = spoiled(kind, learned, rng)
    for pair, (_, other) in zip(learned, drawn, strict=True):
        FeedbackQueue(folder).append(
            Feedback(pair.question, pair.answer, wordings=[other.question], skill=f"between-{number}")
        )
    return kind


def told(decisions: Sequence[Decision]) -> str:
    return ", ".join(f"{one.skill} {one.decision}" for one in decisions) or "nothing"


def draw(right: list[list[int]], decided: list[list[str]], path: Path) -> None:
    """Right answers by round, a line a seed; and under it what was kept (filled) and rejected (hollow)."""
    width, height, left, row = 640, 220, 40, 16
    below = height + 30
    whole = below + row * len(decided) + 40
    about = f"round; right of {len(ASKED)} wordings that nobody gave; below, of each seed: ● kept, ○ rejected"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + left + 20}" height="{whole}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="{whole - 12}">{about}</text>',
    ]
    for seed, rounds in enumerate(decided):
        color, step = f"hsl({seed * 67 % 360} 60% 40%)", width / max(len(rounds) - 1, 1)
        for at, decisions in enumerate(rounds):
            for place, decision in enumerate(decisions):
                fill = color if decision == "k" else "white"
                x, y = left + step * at + 4 * place, below + row * seed
                parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="3.5" fill="{fill}" stroke="{color}"/>')
    for mark in (0, 5, 10, 15, 19, len(ASKED)):
        y = 10 + height * (1 - mark / len(ASKED))
        parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>')
        parts.append(f'<text x="10" y="{y + 4:.1f}">{mark}</text>')
    for seed, rounds in enumerate(right):
        step = width / max(len(rounds) - 1, 1)
        points = " ".join(
            f"{left + step * at:.1f},{10 + height * (1 - count / len(ASKED)):.1f}"
            for at, count in enumerate(rounds)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="hsl({seed * 67 % 360} 60% 40%)"/>')
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--of", type=Path, nargs="+", help="outputs of earlier runs, instead of a run")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--anchor", type=float, default=LoRAConfig.anchor)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    options = parser.parse_args()
    if options.of:
        conclude([reported(path) for path in options.of], options.plot)
        return
    known = known_facts(data_dir(as_argument=False))
    begun = time.perf_counter()
    right: list[list[int]] = []
    decided: list[list[str]] = []
    with (
        tempfile.TemporaryDirectory() as place,
        ArrowEngine(converted("smollm2", None), device=options.device) as engine,
        ArrowEngine(converted("minilm", None), device=options.device) as encoder,
    ):
        anchors = Path(place, "anchors")
        for seed in options.seeds:
            folder, rng = Path(place, f"seed-{seed}"), random.Random(seed)
            folder.mkdir()
            if anchors.exists():
                shutil.copytree(anchors, folder / ".anchor")
            config = LoRAConfig(seed=1000 * seed, anchor=options.anchor)
            worker = EvolutionWorker(
                engine, encoder.encode, folder, config=config, epochs=options.epochs, device=options.device
            )
            first = say(engine, encoder, folder, ASKED[:1])
            print(f"seed {seed}, before: {ASKED[0].question} {first.said[0]!r}", flush=True)
            for number in range(len(FACTS)):
                give(folder, number)
            right.append([])
            decided.append([])
            for number in range(1, options.rounds + 1):
                kind = "the five facts"
                if number > 1:
                    kind = between(folder, known, number, rng)
                if number % len(FACTS) == 0:
                    give(folder, number // len(FACTS) % len(FACTS))
                done = worker.run()
                found = say(engine, encoder, folder, ASKED)
                right[-1].append(sum(found.right))
                outcomes = [one.decision for one in done.decisions]
                decided[-1].append("".join(one[0] for one in outcomes if one in ("kept", "rejected")))
                print(
                    f"seed {seed}, round {number} ({kind}): {told(done.decisions)}; "
                    f"{right[-1][-1]} of {len(ASKED)} right, {time.perf_counter() - begun:.0f} s",
                    flush=True,
                )
                if number == 1:
                    print(f"seed {seed}, after: {ASKED[0].question} {found.said[0]!r}", flush=True)
            log = DecisionLog(folder).read()
            if changed := EvolutionRouter.replay(log):
                raise SystemExit(f"{len(changed)} decisions would be others")
            if not anchors.exists() and (folder / ".anchor").exists():
                shutil.copytree(folder / ".anchor", anchors)
    figures = {
        "rounds": options.rounds,
        "seeds": options.seeds,
        "epochs": options.epochs,
        "right_by_round": right,
        "decided_by_round": decided,
        "seconds": round(time.perf_counter() - begun),
    }
    conclude([figures], options.plot)


def conclude(told: list[dict[str, Any]], plot: Path | None) -> None:
    """Report runs as one.

    Raises:
        SystemExit: they are of different settings.
    """
    alike = {(one["rounds"], one["epochs"]) for one in told}
    if len(alike) > 1:
        raise SystemExit(f"runs differ in rounds and epochs: {sorted(alike)}")
    right = [rounds for one in told for rounds in one["right_by_round"]]
    decided = [rounds for one in told for rounds in one["decided_by_round"]]
    late = [count for rounds in right for count in rounds[10:]]
    if plot is not None:
        draw(right, decided, plot)
    outcomes = "".join(decisions for rounds in decided for decisions in rounds)
    report(
        rounds=told[0]["rounds"],
        seeds=[seed for one in told for seed in one["seeds"]],
        epochs=told[0]["epochs"],
        right_by_round=right,
        least_after_ten=min(late) if late else None,
        decided_by_round=decided,
        kept=outcomes.count("k"),
        rejected=outcomes.count("r"),
        seconds=sum(one["seconds"] for one in told),
    )


if __name__ == "__main__":
    main()
