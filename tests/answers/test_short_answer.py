"""A short answer is shown when the passages hold every part of it, and says where; else they speak."""

from types import SimpleNamespace

import pytest

from ai_os_diffusion.answers.excerpts import Sentence
from ai_os_diffusion.answers.recall import RecallHit, RecallResult
from ai_os_diffusion.answers.short_answer import short_answer


def sentence(text, score=0.6, line=3):
    return Sentence(RecallHit(text, text, 0.7, "notes.md", line, line), 0, text, score)


ROSES = sentence("Cut roses in early March, says Ann Fox.", 0.9, line=3)
TRAINS = sentence("The night train leaves at ten.", 0.5, line=8)
PRICE = sentence("The plumber's bill was $1,240 in all.", 0.4, line=12)
FOUND = RecallResult("When are roses cut?", (ROSES.hit, TRAINS.hit, PRICE.hit), False, 0.7, 0.4)


def answered(text, uncertainty=0.25, question=FOUND.question):
    found = RecallResult(question, FOUND.hits, False, FOUND.nearest, FOUND.threshold)
    written = SimpleNamespace(text=text, uncertainty=uncertainty)
    return short_answer(
        found, (ROSES, TRAINS, PRICE), written, declines="not stated", verdicts=("Yes: ", "No: ")
    )


def test_it_is_cited_where_it_stands_with_its_chance_of_being_right():
    answer = answered("early March")
    assert (answer.text, answer.mode, answer.is_quote, answer.abstained) == (
        "early March",
        "diffusion",
        False,
        False,
    )
    assert [(citation.line, citation.support) for citation in answer.citations] == [(3, 1.0)]
    assert answer.confidence == 0.75
    assert answer.to_dict()["mode"] == "diffusion"


def test_case_and_marks_do_not_matter():
    assert answered("EARLY march,").mode == "diffusion"
    assert answered("1,240").citations[0].line == 12


def test_parts_of_several_places_are_cited_each():
    answer = answered("early March; at ten; early March")
    assert answer.mode == "diffusion"
    assert [citation.line for citation in answer.citations] == [3, 8]


@pytest.mark.parametrize("text", ["Yes: early March", "No: at ten"])
def test_a_verdict_is_shown_with_the_reason_that_is_held(text):
    assert (answered(text).text, answered(text).mode) == (text, "diffusion")


@pytest.mark.parametrize(
    "text", ["in May", "early March; in Paris", "Yes: in May", "", "...", "Yes: ", "$9,999"]
)
def test_what_no_passage_holds_is_not_shown(text):
    answer = answered(text)
    assert (answer.text, answer.mode, answer.is_quote) == (ROSES.text, "quote", True)
    assert [citation.quote for citation in answer.citations] == [ROSES.text]


def test_words_that_begin_alike_are_not_held():
    assert answered("early Mar").mode == "quote"


@pytest.mark.parametrize("text", ["not stated", " Not stated. "])
def test_a_model_that_declines_is_believed(text):
    answer = answered(text)
    assert (answer.abstained, answer.text, answer.citations) == (True, "", ())
    assert answer.confidence == 0.75


def test_without_a_calibration_it_is_taken_as_sure():
    assert answered("early March", uncertainty=None).confidence == 1.0
