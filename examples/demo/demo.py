"""The main job, end to end: pull the models, remember real documents, recall, answer with citations, learn.

The documents are the reference of this Python's standard library, as the interpreter carries it, and the
documentation of this project. Nothing is prepared: the questions in `questions.jsonl` were written before
the first run, and every figure printed is measured by the run that prints it. What is learned are
facts about this program that no model can know (`manual.jsonl`), asked in words of `manual_reworded.jsonl`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.cli.terminal.citations import why_abstained
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.config import load_config
from ai_os_diffusion.evolution import (
    Gate,
    LoRACard,
    LoRAConfig,
    LoRATrainer,
    QAPairs,
    Verdict,
    list_skills,
    remove_skill,
)
from ai_os_diffusion.inference.device_utils import get_device_info
from ai_os_diffusion.models.local_models import pull
from ai_os_diffusion.runtime import Runtime, open_runtime

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
WORK = PROJECT / ".cache" / "demo"
REFERENCE = WORK / "python-reference"
STORE = WORK / "store"
SKILLS = WORK / "skills"
PROJECT_DOCS = [PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs")]
TO_ANSWER = [
    "what does calendar.weekday return?",
    "what does os.path.join do?",
    "how much free space is left on my disk?",
]
UNFITTING = "who won the football world cup in 1998?"
BOTH_WAYS = ["what is the epoch on Unix?", "what does HMAC stand for?"]
INFILL = "He was so {} that he fell asleep at once."
SKILL, EPOCHS, SHOWN = "manual", 7, 4
# A router keeps the skill from all other questions, so that nothing has to hold it to the base.
LEARNING = LoRAConfig(anchor=0.0, batch_size=8, warm_up=10, rate=2e-3)
TO_FILL, FORM = "what is the epoch on Unix?", {"date": str, "author": str}


ORIGINS = {
    "reader": "pointed at",
    "nearest": "nearest, unread",
    "ar": "written from left to right",
    "diffusion": "written by diffusion",
}


@contextmanager
def step(title: str, timings: dict[str, float]) -> Iterator[None]:
    """Announce a step and keep how long it took."""
    print(f"\n── {title}", flush=True)
    start = time.perf_counter()
    yield
    timings[title] = time.perf_counter() - start


def size_mb(path: Path) -> float:
    """Megabytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def get_models(models_dir: Path) -> None:
    """Pull the models; nothing is fetched when they are here."""
    for name in ("minilm", "smollm2", "smollm2-diffusion"):
        with ProgressBar(unit="bytes") as bar:
            folder = pull(name, models_dir=models_dir, progress=bar)
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        print(
            f"{name}: {metadata['architecture']} {metadata['model_type']}, {size_mb(folder):.0f} MB, {folder}"
        )


def remember(runtime: Runtime) -> None:
    """Write the reference and add it, with the project's documents, to memory."""
    subprocess.run(
        [sys.executable, str(HERE / "python_reference.py"), str(REFERENCE)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with ProgressBar(unit="bytes") as bar:
        report = runtime.add(
            [REFERENCE, *PROJECT_DOCS],
            prune=True,
            progress=lambda state: bar(
                "remembering", state.bytes_done, state.bytes_total, f"{state.passages} passages"
            ),
        )
    files, passages = report.files, report.passages
    print(f"documents: {files['added']} new, {files['changed']} changed, {files['unchanged']} unchanged")
    rate = f", {passages['added'] / report.seconds:.0f} a second" if passages["added"] else ""
    print(f"passages:  {passages['added']} embedded and stored{rate}; {runtime.storage.count()} in memory")


def measure_recall(runtime: Runtime) -> float:
    """Share of the questions with a right page among the five nearest passages."""
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    found, missed, taken = 0, [], []
    for row in questions:
        start = time.perf_counter()
        hits = runtime.recall(row["question"], top_k=5, min_similarity=-1.0).hits
        taken.append(time.perf_counter() - start)
        if any(Path(hit.source).name.removesuffix(".md") in row["pages"] for hit in hits):
            found += 1
        else:
            missed.append(row["question"])
    recall = found / len(questions)
    print(f"recall@5 = {recall:.3f} ({found} of {len(questions)} questions)")
    print(f"a question takes {statistics.median(taken) * 1e3:.1f} ms (median: embed and search)")
    for question in missed:
        print(f"  missed: {question}")
    return recall


def answer(runtime: Runtime, question: str, mode: str | None = None) -> Answer:
    """Print an answer, then what it stands on.

    Args:
        runtime: answers.
        question: what is asked.
        mode: as of `Runtime.ask_stream`.
    """
    print(f"\n? {question}")
    start, first = time.perf_counter(), None
    result: Answer | None = None
    for event in runtime.ask_stream(question, mode=mode):
        if isinstance(event, Answer):
            result = event
            continue
        first = first or time.perf_counter() - start
        print(event, end="", flush=True)
    assert result is not None
    if result.abstained:
        print(f"Not answered: {why_abstained(result, filtered=False)}.")
        return result
    for citation in result.citations:
        place = Path(citation.source)
        shown = place.relative_to(PROJECT) if place.is_relative_to(PROJECT) else place
        said = " ".join(citation.quote.split())
        print(f"\n  [{shown}:{citation.line}] “{said}”", end="")
    total = time.perf_counter() - start
    sure = "" if result.confidence is None else f", right with probability {result.confidence:.2f}"
    print(f"\n  first word after {first or total:.2f} s, done after {total:.2f} s", end="")
    print(f"{sure}, {ORIGINS[result.mode]}")
    return result


def write_by_diffusion(runtime: Runtime) -> None:
    """Show passes of a text with a gap, and an object whose values are found in memory."""
    engine = runtime.diffuser
    stream = engine.diffuse_stream(infill=INFILL, max_fill=4)
    print()
    for step in stream:
        print(f"  {step.step}: {''.join('░' if token is None else token for token in step.canvas)}")
    print(stream.diffusion)
    form = engine.diffuse(TO_FILL, template=FORM, memory_guided=True)
    print(f"\n? {TO_FILL}\n{form}")
    for text in (stream.diffusion, form):
        tokens, seconds = len(text.tokens), sum(text.timings)
        what = "a token" if tokens == 1 else f"{tokens} tokens"
        print(f"  {what} in {text.steps} passes, {tokens / seconds:.0f} tokens a second")


def learn(runtime: Runtime) -> Verdict:
    """Teach the decoder this program's manual, and judge it by wordings that it was never told."""
    folder, engine = runtime.config.skills_dir, runtime.decoder
    pairs, reworded = (QAPairs.read(HERE / f"{name}.jsonl") for name in (SKILL, f"{SKILL}_reworded"))
    known = {card.name: card for card in list_skills(folder)}.get(SKILL)
    if known is not None and known.description.data_sha256 != pairs.digest:
        remove_skill(SKILL, folder)
        known = None
    card = known or _taught(LoRATrainer(engine, config=LEARNING, folder=folder), pairs)
    loss, size = card.description.metrics["loss"], size_mb(card.path)
    print(f"{len(pairs)} questions on {len(reworded)} facts, loss {loss:.2f}, a card of {size:.1f} MB")
    verdict = Gate(engine, runtime.encoder.encode_query).judge(card, list(reworded))
    before, after = verdict.before, verdict.after
    print(f"\n{len(reworded)} other wordings    before    after")
    print(f"right              {before.exact_match:8.0%} {after.exact_match:8.0%}")
    print(f"F1                 {before.f1:8.2f} {after.f1:8.2f}")
    for pair, *said in list(zip(before.pairs, before.said, after.said, strict=True))[:SHOWN]:
        was, now = (" ".join(text.split())[:90] for text in said)
        print(f"\n? {pair.question}\n  before: {was}\n  after:  {now}")
    elsewhere = verdict.figures["perplexity_elsewhere"]
    print(f"\nanswers to everyday questions: {elsewhere:.4f} times their perplexity")
    return verdict


def _taught(trainer: LoRATrainer, pairs: QAPairs) -> LoRACard:
    with ProgressBar(unit="steps") as bar:
        return trainer.train_qa(
            pairs,
            SKILL,
            epochs=EPOCHS,
            tell=lambda line: bar("learning", line["step"], line["steps"], f"loss {line['loss']:.2f}"),
        )


def main() -> int:
    """Run every step; the exit code says whether the answers were there."""
    timings: dict[str, float] = {}
    print(f"AI-OS Diffusion on {get_device_info()[0].name}")
    config = load_config(overrides={"storage.path": STORE, "skills_dir": SKILLS})
    with step("Models: pulled, verified, converted", timings):
        get_models(config.models_dir)
    with open_runtime(config) as runtime:
        with step("Memory: Python's standard library and this project's documents", timings):
            remember(runtime)
        with step("Recall: questions in everyday words", timings):
            measure_recall(runtime)
        with step("Answers, in the words of the documents, with their places", timings):
            for question in TO_ANSWER:
                answer(runtime, question)
        with step("The same question from left to right, and by diffusion", timings):
            for question in BOTH_WAYS:
                for mode in ("ar", "diffusion"):
                    answer(runtime, question, mode)
        with step("Gaps and templates, by diffusion", timings):
            write_by_diffusion(runtime)
        with step("A question that nothing in memory fits", timings):
            abstained = answer(runtime, UNFITTING).abstained
        with step("A skill, learned: this program's manual, asked in other words", timings):
            verdict = learn(runtime)
    print("\n── Timings and sizes")
    for title, seconds in timings.items():
        print(f"{seconds:8.2f} s  {title}")
    store = STORE.relative_to(PROJECT)
    print(f"{size_mb(STORE):8.1f} MB memory store, {store}, {len(list(STORE.iterdir()))} files")
    aios = f".venv/bin/aios --store {store}"
    print("\nTry next:")
    print(f'  {aios} ask "how do I escape HTML?"')
    print(f'  {aios} diffuse --infill "The capital of France is {{}}."')
    print(f"  {aios} add PATH-OF-YOUR-NOTES")
    print(f'  {aios} recall "compare two files" --json')
    print(
        f'  AIOS_SKILLS_DIR={WORK.relative_to(PROJECT)}/skills {aios} skills ask "which option fills gaps?"'
    )
    return 0 if abstained and verdict.is_kept else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted: run `make demo` again to go on where it stopped", file=sys.stderr)
        sys.exit(130)
