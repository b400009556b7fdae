"""What makes a fact known in words that were never asked: `other_wordings.py [SUBJECT] [--seeds 3]`.

AIOS_DATA is set.

A skill learns facts in one wording each, and is asked in another: by exact match, by F1, and by the nats of
the answers, which tell more of few questions. As learned by default (words are left out anew each time), and
with more wordings among the pairs, in as many steps:

- forms: made of the question's words alone: its first part behind the rest, and what is left without words
  that any question has;
- paraphrases: the base writes them before, as `LoRAConfig(paraphrases=6)` has it; of `squad` it reads the
  passage to check them;
- passages: the sentence that holds the answer, with a gap in its place, is asked as well (`squad` alone has
  passages: pairs of its questions on a paragraph that have the same answer and a cosine of .8 or more).
"""

from __future__ import annotations

import argparse
import itertools
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair, SkillTest
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from learning import lines
from measure import data_dir, report
from models import converted
from squad import Question, questions

AUXILIARIES = frozenset(
    "is are was were be been do does did has have had can could will would shall should may might "
    "must".split()
)
COMMON = AUXILIARIES | frozenset(
    "a an the what which who whom whose when where why how of in on at to for by from with and or that this "
    "it its there as about into during".split()
)
MOST_LETTERS = 600
ALIKE = 0.8

SUBJECTS = ("chopin", "torch_relay_2008", "squad")

Passages = Mapping[QAPair, str]


def forms(question: str) -> list[str]:
    """Other forms of a question, of its own words."""
    words = question.rstrip("?. ").split()
    found = []
    at = next((place for place, word in enumerate(words) if word.lower() in AUXILIARIES), 0)
    if at and at + 1 < len(words):
        first, rest = " ".join(words[:at]).lower(), " ".join(words[at + 1 :])
        found.append(f"{rest}, {first}?")
        is_empty = words[at].lower() in ("do", "does", "did")
        found.append(f"Tell me {first} {rest}." if is_empty else f"{rest} {words[at]} {first}?")
    named = [word for word in words if word.lower() not in COMMON]
    return [*found, " ".join(named)] if named else found


def with_forms(pairs: Sequence[QAPair], _passages: Passages) -> list[QAPair]:
    """The pairs and their other forms."""
    return [QAPair(text, pair.answer) for pair in pairs for text in (pair.question, *forms(pair.question))]


def with_gaps(pairs: Sequence[QAPair], passages: Passages) -> list[QAPair]:
    """The pairs and the sentences that hold their answers, with gaps."""
    found = list(pairs)
    for pair in pairs:
        sentences = re.split(r"(?<=[.!?])\s+", passages.get(pair, ""))
        held = [sentence.replace(pair.answer, "____") for sentence in sentences if pair.answer in sentence]
        found += [QAPair(sentence, pair.answer) for sentence in held[:1] if len(sentence) < MOST_LETTERS]
    return found


def with_passages(pairs: Sequence[QAPair], passages: Passages) -> list[QAPair]:
    """The pairs, each with the passage that says by which wordings it is asked."""
    return [replace(pair, passage=passages.get(pair, "")) for pair in pairs]


MEANS: dict[str, Callable[[Sequence[QAPair], Passages], list[QAPair]]] = {
    "none": lambda pairs, _passages: list(pairs),
    "forms": with_forms,
    "paraphrases": with_passages,
    "passages": with_gaps,
}


def nats(engine: ArrowEngine, pair: QAPair) -> float:
    """Negative log-likelihood of an answer."""
    turn = turn_ids(engine.tokenizer, pair.question, None)
    ids = np.concatenate([turn, text_ids(engine.tokenizer, pair.answer)])
    return float(np.sum(engine.core.token_nll(ids, len(turn))))


def of_subject(folder: Path, facts: int) -> tuple[list[QAPair], list[QAPair]]:
    """So many facts to learn, and other wordings of those among them that have one."""
    tests = lines(folder / "test.jsonl")[:facts]
    learned = {QAPair(row["train_question"], row["answer"]): None for row in tests}
    for row in lines(folder / "train.jsonl"):
        if len(learned) < facts:
            learned[QAPair(row["question"], row["answer"])] = None
    return list(learned), [QAPair(row["question"], row["answer"]) for row in tests]


def of_squad(data: Path, facts: int) -> tuple[list[QAPair], list[QAPair], dict[QAPair, str]]:
    """Facts, other wordings, and the passages of the facts."""
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions(data):
        groups.setdefault((question.paragraph, question.answers[0].lower()), []).append(question)
    learned, asked, passages = [], [], {}
    with ArrowEngine(converted("minilm", None), device="cpu") as encoder:
        for (passage, _), group in groups.items():
            if len(group) < 2 or len(learned) == facts:
                continue
            vectors = encoder.encode([question.text for question in group])
            near = vectors[1:] @ vectors[0]
            if near.max() < ALIKE:
                continue
            pair = QAPair(group[0].text, group[0].answers[0])
            learned.append(pair)
            asked.append(QAPair(group[1 + int(near.argmax())].text, pair.answer))
            passages[pair] = passage
    return learned, asked, passages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", nargs="?", default="chopin", choices=SUBJECTS)
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=14, help="of the facts in one wording")
    parser.add_argument("--means", nargs="*", choices=list(MEANS))
    parser.add_argument("--paraphrases", type=int, default=6, help="most of a question")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    data, passages = data_dir(as_argument=False), dict[QAPair, str]()
    if options.subject == "squad":
        learned, asked, passages = of_squad(data, options.facts)
    else:
        learned, asked = of_subject(data / "skills" / options.subject, options.facts)
    means = options.means or [name for name in MEANS if passages or name != "passages"]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in means}
    with (
        tempfile.TemporaryDirectory() as folder,
        ArrowEngine(converted("smollm2", None), device="cpu") as engine,
        ArrowEngine(converted("minilm", None), device="cpu") as encoder,
    ):
        for seed, name in itertools.product(range(options.seeds), means):
            begun = time.perf_counter()
            pairs = MEANS[name](learned, passages)
            epochs = max(1, round(options.epochs * len(learned) / len(pairs)))
            most = options.paraphrases if name == "paraphrases" else 0
            config = LoRAConfig(anchor=0.0, batch_size=8, warm_up=10, seed=seed, paraphrases=most)
            trainer = LoRATrainer(engine, config=config, folder=folder)
            card = trainer.train_qa(pairs, f"{name}-{seed}", epochs=epochs, embed=encoder.encode)
            seconds = time.perf_counter() - begun
            with engine.using(card):
                test = SkillTest.of(engine, asked)
                likely = [nats(engine, pair) for pair in asked]
            figures[name].append(
                {
                    "pairs": len(pairs),
                    "steps": card.description.metrics["steps"],
                    "seconds": round(seconds, 1),
                    "exact match": round(test.exact_match, 3),
                    "F1": round(test.f1, 3),
                    "nats": round(float(np.mean(likely)), 3),
                }
            )
            print(name, seed, figures[name][-1], flush=True)
    report(subject=options.subject, facts=len(learned), asked=len(asked), **figures)


if __name__ == "__main__":
    main()
