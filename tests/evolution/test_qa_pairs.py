"""Pairs are whole before anything is computed, whatever they come from."""

from __future__ import annotations

import json
import os

import pytest

from ai_os_diffusion.evolution import QAPair, QAPairs
from ai_os_diffusion.utils.errors import TrainingError

PAIRS = (QAPair("Who?", "Ada"), QAPair("When?", "1843"))


def test_both_spellings_and_pairs_themselves():
    rows = [{"q": " Who? ", "a": "Ada", "source": 3}, {"question": "When?", "answer": "1843"}, PAIRS[0]]
    found = QAPairs.of(rows)
    assert tuple(found) == PAIRS
    assert (len(found), found.repeated, found.contradicted) == (2, 1, 0)


def test_a_passage_belongs_to_a_pair_and_does_not_make_it_another():
    (pair,) = QAPairs.of([{"q": "Who?", "a": "Ada", "passage": " Ada did. "}, PAIRS[0]])
    assert pair.passage == "Ada did."
    assert pair == PAIRS[0]
    assert QAPairs.of([{"q": "Who?", "a": "Ada", "passage": None}]).pairs[0].passage == ""


def test_other_answers_to_a_question_are_counted():
    found = QAPairs.of([{"q": "Who?", "a": "Ada"}, {"q": "who?", "a": "Bob"}, {"q": "Who?", "a": "Cy"}])
    assert (len(found), found.contradicted) == (3, 1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "empty"),
        ({"q": "a", "a": "b"}, "list of pairs"),
        ("text", "list of pairs"),
        ([3], "mapping with q and a"),
        ([{"q": "Who?"}], "a or answer"),
        ([{"a": "Ada"}], "q or question"),
        ([{"q": "  ", "a": "Ada"}], "q or question"),
        ([{"q": "Who?", "a": 7}], "a or answer"),
        ([{"q": "Who?", "question": "Who?", "a": "Ada"}], "q or question"),
        ([{}], "got nothing"),
        ([{"q": "Who?", "a": "Ada", "passage": 3}], "passage as a text, got int"),
    ],
)
def test_what_is_no_pair_is_told_with_its_place(rows, told):
    with pytest.raises(TrainingError, match=told):
        QAPairs.of(rows)


def test_files(tmp_path):
    rows = [{"q": pair.question, "a": pair.answer} for pair in PAIRS]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.csv").write_text("q,a\nWho?,Ada\nWhen?,1843\n", encoding="utf-8-sig")
    digests = {QAPairs.read(tmp_path / name).digest for name in ("a.jsonl", "a.json", "a.csv")}
    assert digests == {QAPairs.of(PAIRS).digest}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"q": "Who?", "a": "Ada"}\n{"q"\n', "line 2"),
        ("a.json", b'{"q": "Who?"}', "list of pairs, got dict"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("a.csv", b"x,y\n1,2\n", "q or question"),
        ("a.csv", b'"' + b"x" * 300_000, "cannot be read"),
        ("a.txt", b"Who? Ada", ".jsonl, .json or .csv"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=told):
        QAPairs.read(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TrainingError, match="cannot be read"):
        QAPairs.read(tmp_path / "none.jsonl")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "facts.jsonl")
    with pytest.raises(TrainingError, match="regular file"):
        QAPairs.read(tmp_path / "facts.jsonl")
