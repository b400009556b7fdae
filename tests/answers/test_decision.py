from dataclasses import replace

import pytest

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.answers.candidates import Candidate, Place
from ai_os_diffusion.answers.decision import decide
from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.answers.recall import RecallHit, RecallResult
from ai_os_diffusion.utils.statistics.calibration import Calibration, Feature

NOTES = RecallHit(
    "a", "Ask inside.\nThe library opens at nine. It closes at six.", 0.7, "notes.md", 3, 4, ("Elm",)
)
LEAFLET = RecallHit("b", "| day | opens |\n|---|---|\n| Monday | nine |", 0.6, "leaflet.md", 1, 3)
FOUND = RecallResult("When does it open?", (NOTES, LEAFLET), False, 0.7, 0.38)
JUDGE = Judge(Calibration(0.0, {"margin": Feature(0.0, 1.0, 1.0)}), 0.4)


def place(hit, text, margin):
    start = hit.text.index(text)
    return Place(hit, start, start + len(text), margin)


def candidate(*places):
    best = places[0]
    return Candidate(best.hit.text[best.start : best.end], places, {"margin": best.margin})


NINE = candidate(place(NOTES, "nine", 2.0), place(LEAFLET, "nine", 1.0))
SIX = candidate(place(NOTES, "six", 0.5))


def test_an_answer_is_cited_in_what_it_is_part_of():
    answer = decide(FOUND, [NINE], JUDGE)
    assert (answer.text, answer.mode, answer.is_quote, answer.reason) == ("nine", "reader", True, None)
    sentence, row = answer.citations
    assert (sentence.source, sentence.line, sentence.quote) == ("notes.md", 4, "The library opens at nine.")
    assert (row.line, row.quote) == (3, "| day | opens |\n| Monday | nine |")
    assert [one.quote[one.start : one.end] for one in answer.citations] == ["nine", "nine"]
    assert answer.confidence == answer.statements[0].confidence == pytest.approx(0.8808, abs=1e-4)


def test_answers_that_differ_are_both_shown_where_both_are_likely():
    answer = decide(FOUND, [NINE, SIX], JUDGE)
    assert [one.text for one in answer.statements] == ["nine", "six"]
    assert [one.memory_id for one in answer.citations] == ["a", "b", "a"]
    doubtful = replace(SIX, features={"margin": -0.1})
    assert [one.text for one in decide(FOUND, [NINE, doubtful], JUDGE).statements] == ["nine"]


def test_what_stands_in_a_quote_that_is_shown_is_not_shown_again():
    part = candidate(place(NOTES, "library", 1.0))
    assert [one.text for one in decide(FOUND, [NINE, part], JUDGE).statements] == ["nine"]
    assert [one.text for one in decide(FOUND, [part, NINE], JUDGE).statements] == ["nine"]


def test_more_around_a_quote_that_is_shown_is_not_shown_again():
    around = replace(candidate(place(NOTES, "closes", -0.5)), features={"margin": 1.0})
    assert NINE.places[0].block.end < around.places[0].block.end
    assert [one.text for one in decide(FOUND, [NINE, around], JUDGE).statements] == ["nine"]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        ("--full`", "--full"),
        ("`--full", "--full"),
        ("`--full`", "`--full`"),
        ("nine)", "nine"),
        ("open(name)", "open(name)"),
        ("“nine", "nine"),
        ("users'", "users'"),
        ("*.txt", "*.txt"),
    ],
)
def test_a_mark_without_its_partner_is_no_part_of_an_answer(span, text):
    hit = RecallHit("c", f"It is {span} here.", 0.7, "notes.md", 1, 1)
    assert decide(FOUND, [candidate(place(hit, span, 1.0))], JUDGE).text == text


def test_passages_of_likelier_answers_come_first():
    row = candidate(place(LEAFLET, "Monday", 3.0))
    hits = [[hit.memory_id for hit in decide(FOUND, found, JUDGE).passages] for found in ([NINE, row], [])]
    assert hits == [["b", "a"], ["a", "b"]]
    doubted = replace(row, features={"margin": -3.0})
    assert [hit.memory_id for hit in decide(FOUND, [doubted], JUDGE).passages] == ["b", "a"]


def test_a_place_below_no_answer_is_not_cited():
    doubted = Candidate("nine", (NINE.places[0], NINE.places[1]._replace(margin=-0.5)), NINE.features)
    assert len(decide(FOUND, [doubted], JUDGE).citations) == 1


@pytest.mark.parametrize(
    ("found", "reason", "unknown"),
    [
        (RecallResult("?", (), True, None, 0.38), "nothing", ()),
        (replace(FOUND, nearest=0.2), "far", ()),
        (replace(FOUND, question="Which port has PostgreSQL?", nearest=0.2), "far", ("PostgreSQL",)),
        (replace(FOUND, question="Which port has PostgreSQL?"), "unknown_names", ("PostgreSQL",)),
        (replace(FOUND, question="Where is Elm?"), "no_answer", ()),
        (replace(FOUND, threshold=None, nearest=-0.5), "no_answer", ()),
    ],
)
def test_an_abstention_tells_why(found, reason, unknown):
    answer = decide(found, [replace(NINE, features={"margin": -3.0})], JUDGE)
    assert (answer.abstained, answer.text, answer.is_quote) == (True, "", False)
    assert (answer.reason, answer.unknown_names) == (reason, unknown)
    assert answer.confidence == pytest.approx(0.0474, abs=1e-4)
    assert decide(found, [], JUDGE).confidence is None


def test_an_answer_is_short_to_look_at_and_complete_as_json():
    answer = decide(FOUND, [NINE, SIX], JUDGE)
    assert repr(answer) == "Answer('nine' [notes.md:4], confidence 0.88, 1 more)"
    assert repr(decide(FOUND, [], JUDGE)) == "Answer('When does it open?': abstained, no_answer)"
    told = answer.to_dict()
    assert told["answer"] == told["answers"][0]["text"] == "nine"
    assert told["citations"] == [one for row in told["answers"] for one in row["citations"]]
    assert [hit["memory_id"] for hit in told["passages"]] == ["a", "b"]
    assert decide(FOUND, [], JUDGE).to_dict().keys() == told.keys()


def test_an_answer_over_lines_is_said_on_one():
    hit = RecallHit("c", "It opens at nine\nand closes late.", 0.7)
    one = candidate(place(hit, "nine\nand", 2.0))
    answer = decide(RecallResult("?", (hit,), False, 0.7, None), [one], JUDGE)
    assert answer.text == "nine and"
    assert isinstance(answer, Answer)
    assert repr(answer) == "Answer('nine and' [c:None], confidence 0.88)"
