"""Questions that a model wrote, as rows: what answers, what competes, and what is left out."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "training" / "reader_card"

TEXTS = {
    "a/1": "wget > OPTIONS\n--tries=N\n    Set number of tries to N. The default is to retry 20 times.",
    "a/2": "wget > OPTIONS\n--timeout=S\n    Set the network timeout to S seconds.",
    "b/1": "curl > OPTIONS\nIt tries  20 TIMES before it gives up.",
    "b/2": "curl > OPTIONS\n--retry N\n    Try again N times.",
}


@pytest.fixture
def written(monkeypatch):
    """The script, which finds its neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("written_rows", FOLDER / "written.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("nearest", None)


def asked(answer: str, **more) -> dict:
    """A question to the first passage."""
    text = TEXTS["a/1"]
    question = {"passage": "a/1", "question": "how often does it try?", "language": "en", **more}
    return {**question, "answer": answer, "start": text.index(answer)}


def rows_of(written, question: dict, tokens: int = 3, near=("b/1", "a/1", "b/2", "a/2")) -> list[dict]:
    passages = {name: {"text": text, "package": name[0], "licence": "MIT"} for name, text in TEXTS.items()}
    found = {("a/1", question["question"]): list(near)}
    return list(written.rows([question], passages, found, [tokens]))


def test_what_is_found_beside_the_passage_competes_unless_it_holds_the_answer(written):
    row = rows_of(written, asked("20 times"))[0]
    own, *others = row["passages"]
    assert own == {
        "text": TEXTS["a/1"],
        "answers": [{"start": TEXTS["a/1"].index("20 times"), "text": "20 times"}],
        "relevant": True,
        "block": False,
    }
    assert [one["text"] for one in others] == [TEXTS["b/2"], TEXTS["a/2"]]
    assert (row["kind"], row["source"], row["licence"]) == ("written", "a", "MIT")
    assert rows_of(written, asked("20 times"), near=("b/1", "a/1")) == []


def test_a_long_answer_is_a_block_that_begins_with_its_sentence(written):
    answer = "Set number of tries to N. The default is to retry 20 times."
    own = rows_of(written, asked(answer), tokens=31)[0]["passages"][0]
    assert own["block"]
    assert [one["text"] for one in own["answers"]] == ["Set number of tries to N."]


def test_kinds_tell_other_languages_and_passages_that_are_missing(written):
    rows = [row for n in range(60) for row in rows_of(written, asked("20 times", question=f"how {n}?"))]
    absent = [row for row in rows if row["kind"] == "written_absent"]
    assert 2 <= len(absent) <= 25
    assert all(
        one["text"] != TEXTS["a/1"] and "answers" not in one for row in absent for one in row["passages"]
    )
    assert rows_of(written, asked("20 times", language="de"))[0]["kind"] == "written_foreign"


def test_an_answer_that_does_not_stand_in_its_passage_is_left_out(written):
    assert rows_of(written, {**asked("20 times"), "start": 3}) == []


def test_rows_are_what_training_reads(written, tmp_path):
    from ai_os_diffusion.training.reader.rows import read_asked

    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) + "\n" for row in rows_of(written, asked("20 times"))]
    file.write_text("".join(lines), encoding="utf-8")
    first = next(read_asked(file))
    assert [one.is_relevant for one in first.passages] == [True, False, False]
