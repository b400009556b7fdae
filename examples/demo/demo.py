"""The main job, end to end: pull the models, remember real documents, recall, answer with citations, learn.

The documents are the reference of this Python's standard library, as the interpreter carries it, and the
documentation of this project. Nothing is prepared: the questions in `questions.jsonl` were written before
the first run, and every figure printed is measured by the run that prints it. What is learned are
facts about this program that no model can know (`manual.jsonl`), asked in words of `manual_reworded.jsonl`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ai_os_diffusion.answers.answer import Answer, Citation
from ai_os_diffusion.answers.nearest import nearest_answer
from ai_os_diffusion.answers.recall import RecallHit, apply_threshold
from ai_os_diffusion.cli.terminal.citations import show_citations, why_abstained
from ai_os_diffusion.cli.terminal.output import ShownAnswer, show_line
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.cli.terminal.streams import flush_output, guard_streams
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
from ai_os_diffusion.runtime.before import Before

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
WORK = PROJECT / ".cache" / "demo"
REFERENCE = WORK / "python-reference"
STORE = WORK / "store"
SKILLS = WORK / "skills"
PROJECT_DOCS = [PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs")]
# One of each kind, chosen before anybody saw whether they are answered; a follow-up comes after its question.
KINDS = {
    "a fact": ["which port does an IMAP server listen on over SSL?"],
    "an option": ["which option of recall shows all lines of long passages?"],
    "a definition": ["what is a deque?"],
    "a list": ["which kinds of documents does add read?"],
    "a follow-up": ["what does shutil.rmtree do?", "and what happens to symbolic links?"],
    "nothing": ["who won the football world cup in 1998?"],
}
BOTH_WAYS = ["what is the epoch on Unix?", "what does HMAC stand for?"]
INFILL = "He was so {} that he fell asleep at once."
SKILL, EPOCHS, SHOWN = "manual", 7, 4
# A router keeps the skill from all other questions, so that nothing has to hold it to the base.
LEARNING = LoRAConfig(anchor=0.0, batch_size=8, warm_up=10, rate=2e-3)
TO_FILL, FORM = "what is the epoch on Unix?", {"date": str, "author": str}


@contextmanager
def step(title: str, timings: dict[str, float]) -> Iterator[None]:
    """Announce a step and keep how long it took."""
    show_line()
    show_line(f"── {title}")
    sys.stdout.flush()
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
        show_line(
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
    show_line(f"documents: {files['added']} new, {files['changed']} changed, {files['unchanged']} unchanged")
    rate = f", {passages['added'] / report.seconds:.0f} a second" if passages["added"] else ""
    show_line(
        f"passages:  {passages['added']} embedded and stored{rate}; {runtime.storage.count()} in memory"
    )


def nearest_by_vectors(runtime: Runtime, question: str) -> tuple[Sequence[RecallHit], Answer]:
    """How a question is answered without words and reader: by vectors alone, the nearest part quoted."""
    vector = runtime.encoder.encode_query(question)
    hits = runtime.memories.query(vector, 10)
    # What is near enough was measured for the encoder; `recall` knows it.
    near = runtime.recall(question, top_k=1).threshold
    said = nearest_answer(apply_threshold(question, hits, near), vector, runtime.encoder.encode_document)
    return apply_threshold(question, hits[:5], None).hits, said


def by_both_and_read(runtime: Runtime, question: str) -> tuple[Sequence[RecallHit], Answer]:
    """How a question is answered: by vectors and words, pointed at by the reader."""
    return runtime.recall(question, top_k=5, min_similarity=-1.0).hits, runtime.ask(question)


def measure(runtime: Runtime) -> None:
    """Ask all questions in both ways: how many find a right page, and are answered from one."""
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    ways = {
        "vectors, nearest part quoted": nearest_by_vectors,
        "vectors and words, read": by_both_and_read,
    }
    show_line(f"{len(questions)} questions")
    for title, way in ways.items():
        start, figures = time.perf_counter(), Counter[str]()
        for row in questions:
            hits, said = way(runtime, row["question"])
            figures["found"] += any(page_of(hit) in row["pages"] for hit in hits)
            figures["answered"] += not said.abstained
            figures["right"] += not said.abstained and page_of(said.citations[0]) in row["pages"]
        took = (time.perf_counter() - start) / len(questions)
        show_line()
        show_line(f"{title}:")
        show_line(
            f"  recall@5: {figures['found'] / len(questions):.3f}, {figures['found']} find a right page"
        )
        show_line(f"  answered: {figures['answered']}, from a right page: {figures['right']}")
        show_line(f"  {took * 1e3:.0f} ms a question")


def page_of(place: RecallHit | Citation) -> str:
    """The page of the reference that a passage is of."""
    return Path(place.source).name.removesuffix(".md")


def answer(runtime: Runtime, question: str, mode: str | None = None, before: Before | None = None) -> Answer:
    """Print an answer as `aios ask` does.

    Args:
        runtime: answers.
        question: what is asked.
        mode: as of `Runtime.ask_stream`.
        before: as of it.
    """
    show_line(f"? {question}")
    start, shown = time.perf_counter(), ShownAnswer()
    result: Answer | None = None
    for event in runtime.ask_stream(question, mode=mode, before=before):
        if isinstance(event, Answer):
            result = event
        else:
            shown.write(event)
    assert result is not None
    took = time.perf_counter() - start
    if result.abstained:
        show_line(f"Not answered: {why_abstained(result, filtered=False)}.")
    else:
        show_line()
        show_citations(result)
    show_line(f"{took:.2f} s")
    show_line()
    return result


def answer_kinds(runtime: Runtime) -> bool:
    """Ask one question of each kind.

    Returns:
        Whether the one that nothing answers was declined.
    """
    last: Answer | None = None
    for kind, questions in KINDS.items():
        show_line(f"{kind}:")
        before = None
        for question in questions:
            last = answer(runtime, question, before=before)
            before = Before.of(last)
    assert last is not None
    return last.abstained


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
        show_line(f"  {what} in {text.steps} passes, {tokens / seconds:.0f} tokens a second")


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
    show_line(f"{len(pairs)} questions on {len(reworded)} facts, loss {loss:.2f}, a card of {size:.1f} MB")
    verdict = Gate(engine, runtime.encoder.encode_query).judge(card, list(reworded))
    before, after = verdict.before, verdict.after
    print(f"\n{len(reworded)} other wordings    before    after")
    print(f"right              {before.exact_match:8.0%} {after.exact_match:8.0%}")
    print(f"F1                 {before.f1:8.2f} {after.f1:8.2f}")
    for pair, *said in list(zip(before.pairs, before.said, after.said, strict=True))[:SHOWN]:
        was, now = (" ".join(text.split())[:90] for text in said)
        show_line()
        for text in (f"? {pair.question}", f"  before: {was}", f"  after:  {now}"):
            show_line(text)
    elsewhere = verdict.figures["perplexity_elsewhere"]
    show_line()
    show_line(f"answers to everyday questions: {elsewhere:.4f} times their perplexity")
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
        with step("Questions in everyday words, and requests, before and now", timings):
            measure(runtime)
        with step("Answers of each kind, in the words of the documents, with their places", timings):
            abstained = answer_kinds(runtime)
        with step("The same question from left to right, and by diffusion", timings):
            for question in BOTH_WAYS:
                for mode in ("ar", "diffusion"):
                    answer(runtime, question, mode)
        with step("Gaps and templates, by diffusion", timings):
            write_by_diffusion(runtime)
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
    guard_streams()
    try:
        code = main()
        flush_output()
        sys.exit(code)
    except KeyboardInterrupt:
        print("\ninterrupted: run `make demo` again to go on where it stopped", file=sys.stderr)
        sys.exit(130)
