"""What the demo learns is true, and is asked in words that it did not learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ai_os_diffusion.evolution import QAPairs

PROJECT = Path(__file__).resolve().parents[2]
LEARNED, ASKED = (
    QAPairs.read(PROJECT / "examples/demo" / f"{name}.jsonl") for name in ("manual", "manual_reworded")
)


def test_every_fact_is_learned_in_two_wordings_and_asked_in_another():
    wordings = Counter(pair.answer for pair in LEARNED)
    assert len(ASKED) >= 40
    assert {pair.answer for pair in ASKED} == set(wordings)
    assert min(wordings.values()) >= 2
    assert not {pair.question.casefold() for pair in ASKED} & {pair.question.casefold() for pair in LEARNED}
    assert (LEARNED.repeated, LEARNED.contradicted, ASKED.repeated) == (0, 0, 0)


def test_the_manual_says_so():
    pages = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    pages += sorted((PROJECT / "docs").rglob("*.md"))
    manual = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for answer in {pair.answer for pair in LEARNED}:
        for word in answer.split():
            assert word in manual, f"{answer!r} is nowhere in the manual"
