"""How answers from real documents are judged, and the form of the questions."""

from __future__ import annotations

import gzip
import json
import re
from types import SimpleNamespace

import pytest

CITED = ("/home/ada/documents/manuals/at.1.txt",)
QUESTION = {
    "id": "en-at-1",
    "language": "en",
    "kind": "number",
    "document_language": "en",
    "question": "when is teatime?",
    "before": [],
    "lines": [["manuals/at.1.txt", r"teatime \(4pm\)"]],
    "answers": [["4 ?pm", "16:00"]],
    "misleading": ["5 ?pm"],
}
NONE = {
    **QUESTION,
    "id": "none-1",
    "document_language": None,
    "lines": [],
    "answers": [],
    "misleading": ["9pm"],
}


@pytest.fixture
def judge(benchmark):
    return benchmark("real_documents")


@pytest.fixture
def judging(benchmark):
    return benchmark("judging")


def said(judging, text, sources=CITED, quote=""):
    shown = f"{text}\n{quote}" if quote else text
    return judging.Said(text, shown, tuple(sources), not text)


def test_texts_are_compared_as_one_line(judging):
    assert judging.flat("an  ex‐\n   ample,\nco\u00adoperation") == "an example, cooperation"
    assert judging.flat("終了  コード\n は 2 です。 psql  を") == "終了コードは2です。psqlを"
    assert judging.says(judging.flat("用  -t  关上"), [r"(?<!\w)-t\b"])
    assert not judging.says("--test", [r"(?<!\w)-t\b"])


def test_every_part_must_be_told_early(judging):
    groups = [["soft"], ["hard", "never"]]
    assert judging.is_right("A soft limit may be exceeded, a Hard one not.", groups)
    assert not judging.is_right("A soft limit may be exceeded.", groups)
    assert not judging.is_right("-" * judging.READ_CHARS + " soft and hard", groups)
    assert not judging.is_right("soft and hard", [])


def test_an_answer_is_right_where_it_cites_what_answers(judge, judging):
    assert judge.verdict(QUESTION, said(judging, "You may specify teatime (4pm).")) == "right"
    assert judge.verdict(QUESTION, said(judging, "At 4pm.", ["/d/manuals/bat.1.txt"])) == "right elsewhere"
    assert judge.verdict(QUESTION, said(judging, "See its block.", quote="teatime (4pm)")) == "right"
    assert judge.verdict(QUESTION, said(judging, "At 5 pm.")) == "misleading"
    assert judge.verdict(QUESTION, said(judging, "At 5 pm.", quote="teatime (4pm)")) == "misleading"
    assert judge.verdict(QUESTION, said(judging, "In the afternoon.")) == "wrong"
    assert judge.verdict(QUESTION, said(judging, "")) == "declined"


def test_what_nothing_answers_is_to_be_declined(judge, judging):
    assert judge.verdict(NONE, said(judging, "")) == "declined"
    assert judge.verdict(NONE, said(judging, "At noon.")) == "answered"
    assert judge.verdict(NONE, said(judging, "At 9pm.")) == "misleading"


def test_a_passage_answers_by_its_line_and_its_document(judge):
    right = ("midnight, noon, or teatime (4pm) and you", ["/x/manuals/bat.1.txt", "/x/manuals/at.1.txt"])
    elsewhere = (right[0], ["/x/notes/at.1.txt"])
    other = ("load average drops below 1.5", ["/x/manuals/at.1.txt"])
    assert judge.rank_of(QUESTION, [other, elsewhere, right]) == 3
    assert judge.rank_of(QUESTION, [other, elsewhere]) is None
    assert judge.out_of_reach([QUESTION, NONE], [other, elsewhere]) == ["en-at-1"]
    assert judge.out_of_reach([QUESTION, NONE], [right]) == []


def test_figures_are_shares_of_what_they_apply_to(judge, judging):
    follow_up = {**QUESTION, "kind": "follow-up", "before": ["what does at take?"]}
    across = {**QUESTION, "language": "de", "kind": "other language"}
    rows = [
        judge.Row(QUESTION, 1, said(judging, "teatime (4pm)"), 10.0),
        judge.Row(QUESTION, 6, said(judging, "5pm"), 30.0),
        judge.Row(across, None, said(judging, ""), 20.0),
        judge.Row(follow_up, None, said(judging, "4pm"), 20.0),
        judge.Row(NONE, None, said(judging, ""), 20.0),
    ]
    figures = judge.figures_of(rows)
    everything = figures["all"]
    assert {
        "questions": 3,
        "first 1": 0.333,
        "first 5": 0.333,
        "first 10": 0.667,
    }.items() <= everything.items()
    assert everything["answerable"] == 4
    assert everything["right of answerable"] == 0.5
    assert everything["misleading of answerable"] == 0.25
    assert everything["declined of answerable"] == 0.25
    assert everything["declined of unanswerable"] == 1.0
    assert figures["languages"].keys() == {"English", "across languages"}
    assert "first 1" not in figures["kinds"]["follow-up"]
    assert figures["ask_ms_median"] == 20.0
    lines = judge.table(figures).split("\n")
    assert lines[1].split() == ["all", "4+1", "0.333", "0.333", "0.667", "0.5", "0.25", "0.25", "1.0"]
    assert len(lines) == 2 + len(figures["languages"]) + len(figures["kinds"])


def test_confidence_is_judged(judge, judging):
    assert judging.auroc([0.9, 0.5, 0.5, 0.1], [True, True, False, False]) == 0.875
    assert judging.auroc([0.9], [True]) is None
    assert judging.calibration_error([0.75, 0.75, 1.0], [True, False, True]) == pytest.approx(0.5 / 3)
    assert judging.calibration_error([], []) is None
    sure = judging.Said("4pm", "4pm", CITED, False, 0.8)
    unsure = judging.Said("5pm", "5pm", CITED, False, 0.3)
    rows = [judge.Row(QUESTION, 1, said, 1.0) for said in (sure, unsure, said_nothing(judging))]
    assert judge.confidence_figures(rows) == {"auroc": 1.0, "ece": 0.25}


def said_nothing(judging):
    return judging.Said("", "", (), True)


def test_an_answer_of_the_runtime_is_read(judging):
    citation = SimpleNamespace(quote="Accepts teatime (4pm).", source=CITED[0])
    answer = SimpleNamespace(text="4pm", citations=(citation, citation), abstained=False, confidence=0.5)
    read = judging.Said.of(answer)
    assert read.shown == "4pm\nAccepts teatime (4pm).\nAccepts teatime (4pm)."
    assert not read.declined
    assert judging.Said.of(SimpleNamespace(text=" ", citations=(), abstained=False, confidence=0.0)).declined


def test_documents_are_read_for_the_check(benchmark, judge, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(judge.SETS))
    check = benchmark("check")
    manual = tmp_path / "manuals" / "at.1.txt"
    manual.parent.mkdir()
    manual.write_text("You may  also specify midnight, noon, or tea‐\n  time (4pm).", encoding="utf-8")
    assert check.faults(QUESTION, tmp_path) == []
    packed = tmp_path / "other.txt.gz"
    packed.write_bytes(gzip.compress(manual.read_bytes()))
    page = tmp_path / "page.html"
    page.write_text("<title>teatime (4pm)</title><p>tea<b>time</b> (5pm)", encoding="utf-8")
    assert check.other_places(QUESTION, tmp_path) == [r"'teatime \\(4pm\\)' is in other.txt.gz too"]
    assert check.text_of(page) == "teatime (5pm)"
    wrong = {**QUESTION, "answers": [["5 ?pm"], ["when"]], "lines": [*QUESTION["lines"], ["gone.txt", "x"]]}
    assert check.faults(wrong, tmp_path) == [
        "gone.txt is not there",
        "none of ['5 ?pm'] is near the lines",
        "none of ['when'] is near the lines",
    ]
    long = tmp_path / "manuals" / "long.txt"
    long.write_text("teatime (4pm) " + "x" * 1500 + " noon (4pm) " * 200, encoding="utf-8")
    other = {**QUESTION, "lines": [["manuals/long.txt", "teatime"]]}
    assert check.loose(QUESTION, tmp_path) == []
    assert check.loose(other, tmp_path) == ["7 of 8 other places of manuals/long.txt would be right"]
    echo = {**QUESTION, "answers": [["teatime"]]}
    assert check.faults(echo, tmp_path) == ["the question itself would be a right answer"]


def test_questions_have_their_form(judge):
    packages = json.loads((judge.SETS / "sources.json").read_text(encoding="utf-8"))
    languages = {each["name"]: each["language"] for package in packages for each in package["documents"]}
    splits = {name: judge.questions_of(name) for name in ("tune", "test")}
    everything = [question for questions in splits.values() for question in questions]
    keys = {
        "id",
        "language",
        "kind",
        "document_language",
        "question",
        "before",
        "lines",
        "answers",
        "misleading",
    }
    assert len({question["id"] for question in everything}) == len(everything)
    assert len({question["question"] for question in everything}) == len(everything)
    for question in everything:
        assert question.keys() - {"why"} == keys, question["id"]
        assert bool(question["lines"]) == bool(question["answers"]) == bool(question["document_language"])
        assert bool(question["lines"]) != question["kind"].startswith("none"), question["id"]
        assert bool(question["before"]) == question["kind"].endswith("follow-up"), question["id"]
        for patterns in [*question["answers"], question["misleading"]]:
            assert all(re.compile(pattern) for pattern in patterns)
        for document, line in question["lines"]:
            re.compile(line)
            assert document in languages, question["id"]
    named = [{each["lines"][0][0] for each in some if each["lines"]} for some in splits.values()]
    assert not set.intersection(*named)
    answered = [question for question in everything if question["lines"]]
    assert 0.3 <= len(splits["tune"]) / len(everything) <= 0.37
    assert len(answered) >= 250
    assert sum(question["language"] != "en" for question in answered) >= 80
    assert len(everything) - len(answered) >= 40
