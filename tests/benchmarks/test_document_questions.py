"""Questions to whole documents: what counts as right of what is shown."""

import pytest

from ai_os_diffusion.answers.candidates import Candidate, Place
from ai_os_diffusion.answers.recall import RecallHit

TEXT = "OPTIONS\n  -b, --backup\n      Keep a copy of what is replaced.\n\n  -q\n      Say nothing."


@pytest.fixture
def script(benchmark):
    return benchmark("document_questions")


def candidate(text, hit, margin=1.0):
    start = hit.text.index(text)
    return Candidate(text, (Place(hit, start, start + len(text), margin),))


def package_read(script, answer, gold=7, removed=False):
    return script.PackageRead(script.Asked("how do I keep a copy?", (answer,), gold), (), removed, "packages")


def test_a_block_is_right_where_it_holds_the_answer(script):
    gold, elsewhere = RecallHit("7", TEXT, 0.5), RecallHit("8", TEXT, 0.5)
    option, other = candidate("-b", gold), candidate("-q", gold)
    long, short = "Keep a copy of what is replaced", "a copy"
    assert package_read(script, long).is_right(option)
    assert not package_read(script, long).is_right(other)
    assert not package_read(script, long, removed=True).is_right(option)
    assert package_read(script, short).is_right(option)
    # A short answer may stand anywhere by chance.
    assert package_read(script, long).is_right(candidate("-b", elsewhere))
    assert not package_read(script, short).is_right(candidate("-b", elsewhere))


def test_real_documents_are_judged_as_they_are_measured(script):
    question = {"lines": [["m.txt", "copy"]], "answers": [["--backup"]], "misleading": ["nothing"]}
    hit = RecallHit("1", TEXT, 0.5, "/documents/m.txt")
    read = script.DocumentRead(script.Asked("keep?", (), -1), (), False, "documents", question)
    assert read.is_right(candidate("Keep a copy", hit))
    assert not read.is_right(candidate("Say nothing", hit))
    elsewhere = RecallHit("2", TEXT, 0.5, "/documents/n.txt")
    assert not read.is_right(candidate("Keep a copy", elsewhere))


def test_kinds_share_what_is_drawn(script):
    rows = [
        {
            "kind": kind,
            "passages": [{"relevant": kind != "exchanged_how", "answers": [{"text": "x"}]}],
            "n": n,
        }
        for kind in ("how", "exchanged_how", "rare")
        for n in range(200 if kind != "rare" else 3)
    ]
    drawn = script._drawn(rows, 1)
    assert drawn == script._drawn(rows, 1)
    assert [sum(row["kind"] == kind for row in drawn) for kind in ("how", "exchanged_how", "rare")] == [
        30,
        8,
        3,
    ]
