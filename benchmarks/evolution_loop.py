"""What stays learned while more is learned: `evolution_loop.py [--rounds 40] [--seeds 5] [--plot FILE.svg]`.

Needs `minilm` and `smollm2`, and AIOS_DATA for the skills between; `--device cuda` learns and asks on a GPU.
First the loop once: a question the model cannot answer, what it says, the correction, what it says to another
wording. Then five facts that no model knows come back from a person, each in four wordings, and in every
round others: a skill of the data, every third time with answers that are wrong, and every fifth round one of
the five facts again. After each round twenty wordings that nobody gave are asked, each with the skill
that it is routed to.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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
from measure import data_dir, report
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


def draw(right: list[list[int]], path: Path) -> None:
    """Right answers by round, a line a seed."""
    width, height, left = 640, 220, 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + left + 20}" height="{height + 50}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="{left}" y="{height + 44}">round; right of {len(ASKED)} wordings that nobody gave</text>',
    ]
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
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--anchor", type=float, default=LoRAConfig.anchor)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    options = parser.parse_args()
    known = known_facts(data_dir(as_argument=False))
    begun = time.perf_counter()
    right: list[list[int]] = []
    kept = rejected = 0
    with (
        tempfile.TemporaryDirectory() as place,
        ArrowEngine(converted("smollm2", None), device=options.device) as engine,
        ArrowEngine(converted("minilm", None), device=options.device) as encoder,
    ):
        anchors = Path(place, "anchors")
        for seed in range(options.seeds):
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
            for number in range(1, options.rounds + 1):
                kind = "the five facts"
                if number > 1:
                    kind = between(folder, known, number, rng)
                if number % len(FACTS) == 0:
                    give(folder, number // len(FACTS) % len(FACTS))
                done = worker.run()
                found = say(engine, encoder, folder, ASKED)
                right[-1].append(sum(found.right))
                print(
                    f"seed {seed}, round {number} ({kind}): {told(done.decisions)}; "
                    f"{right[-1][-1]} of {len(ASKED)} right, {time.perf_counter() - begun:.0f} s",
                    flush=True,
                )
                if number == 1:
                    print(f"seed {seed}, after: {ASKED[0].question} {found.said[0]!r}", flush=True)
            log = DecisionLog(folder).read()
            kept += sum(one.decision == "kept" for one in log)
            rejected += sum(one.decision == "rejected" for one in log)
            if changed := EvolutionRouter.replay(log):
                raise SystemExit(f"{len(changed)} decisions would be others")
            if not anchors.exists() and (folder / ".anchor").exists():
                shutil.copytree(folder / ".anchor", anchors)
            if options.plot is not None:
                draw(right, options.plot)
    late = [count for rounds in right for count in rounds[10:]]
    report(
        rounds=options.rounds,
        seeds=options.seeds,
        epochs=options.epochs,
        right_by_round=right,
        least_after_ten=min(late) if late else None,
        kept=kept,
        rejected=rejected,
        seconds=round(time.perf_counter() - begun),
    )


if __name__ == "__main__":
    main()
