"""Questions to whole documents: what counts as right of what is shown."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ai_os_diffusion.answers.candidates import Candidate, Place
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.inference.reading.reading import Reading, Span

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


def test_written_questions_are_asked_of_all_passages_as_far_as_a_judge_agrees(script, tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    write(
        "passages_dev.jsonl",
        [
            {"id": f"p/{n}", "text": f"Title\ntext {n}", "package": "p", "document": f"d{n // 2}"}
            for n in range(4)
        ],
    )
    asked = [{"passage": f"p/{n}", "question": f"what is {n}?", "answer": f"text {n}"} for n in range(4)]
    write("questions_dev-00.jsonl", asked[:2])
    write("questions_dev-01.jsonl", asked[2:])
    write(
        "judged_dev-00.jsonl",
        [
            {"passage": one["passage"], "question": one["question"], "yes": n / 3}
            for n, one in enumerate(asked)
        ],
    )
    pool = script.written_pool(tmp_path, 10, 0)
    assert [one.gold for one in sorted(pool.questions, key=lambda one: one.gold)] == [3]
    assert (list(pool.articles), pool.passages[3]) == ([0, 0, 1, 1], "Title\ntext 3")
    assert pool.is_taken(2, script.Asked("what is 3?", ("text 3",), 3))
    assert not pool.is_taken(0, script.Asked("what is 3?", ("text 3",), 3))
    assert len(script.written_pool(tmp_path, 1, 0).questions) == 1


class Engine:
    """Finds the passage of the number that a question ends with, and points at what it says."""

    metadata = SimpleNamespace(source={"weights_sha256": None})
    tokenizer = SimpleNamespace(broken_share=lambda text: 0.0)

    def encode_document(self, texts):
        return np.eye(len(texts), 40, dtype=np.float32)

    def encode_query(self, texts):
        return np.eye(40, dtype=np.float32)[[int(text.split()[-1]) for text in texts]]

    def read(self, question, passages):
        return [Reading((Span(text.index("word"), len(text), 1.0),)) for text in passages]


def test_packages_are_searched_together_and_other_names_have_no_answer(script, tmp_path):
    texts = [f"Passage {n} says word{n}" for n in range(20)]
    rows = [
        {
            "question": f"what does it say, {n}",
            "kind": kind,
            "passages": [
                {"text": text, "relevant": True, "answers": [{"text": f"word{n}"}]}
                if kind == "how"
                else {"text": text, "relevant": False},
                {"text": texts[n - 1]},
            ],
        }
        for n, text in enumerate(texts)
        for kind in ("how", "exchanged_how")
    ]
    file = tmp_path / "pairs.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    read = list(script.package_reads(Engine(), file, 0))
    assert [one.removed for one in read].count(False) == 20
    assert [one.removed for one in read].count(True) == 8
    assert all(any(map(one.is_right, one.found)) != one.removed for one in read)
