import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.answers.candidates import agree, candidates, words_of
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.inference.reading.reading import Reading, Span

QUESTION = "When does the Elm Street library open?"
NOTES = RecallHit("a", "The library opens at nine, the shop at ten.", 0.7, "notes.md", 1, 1, ("Elm Street",))
LEAFLET = RecallHit("b", "Opens: nine o'clock", 0.6, "leaflet.txt", 1, 1)


def span(hit, text, margin):
    start = hit.text.index(text)
    return Span(start, start + len(text), margin)


def found(*readings, hits=(NOTES, LEAFLET)):
    return candidates(QUESTION, hits, readings)


def test_answers_that_agree_are_one_with_all_their_places():
    nine, ten = found(
        Reading((span(NOTES, "nine", 4.0), span(NOTES, "ten", 1.0)), 2.0),
        Reading((span(LEAFLET, "nine o'clock", 3.0),), 0.5),
    )
    assert (nine.text, nine.margin) == ("nine", 4.0)
    assert [place.hit.source for place in nine.places] == ["notes.md", "leaflet.txt"]
    assert (ten.text, len(ten.places)) == ("ten", 1)


def test_features_tell_what_is_known():
    nine, ten = found(
        Reading((span(NOTES, "nine", 4.0), span(NOTES, "ten", 1.0)), 2.0),
        Reading((span(LEAFLET, "nine o'clock", 4.0),), 0.5),
    )
    seen = 1.0 / (1.0 + math.exp(-4.0))
    known = {name: value for name, value in nine.features.items() if not name.endswith(" seen")}
    assert nine.features["margin seen"] == 4.0 * seen
    assert ten.features["margin seen"] == 1.0 * seen
    assert known == pytest.approx(
        {
            "margin": 4.0,
            "above": 4.0,
            "gap": 3.0,
            "relevance": 2.0,
            "relevance_gap": 0.0,
            "share": 4.0 - math.log(2 * math.exp(4.0) + math.exp(1.0) + 1.0),
            "doubt": 1.0 / (2 * math.exp(4.0) + math.exp(1.0) + 1.0),
            "similarity": 0.7,
            "place": 0.0,
            "lead": 0.1,
            "agreement": math.log(2),
            "echo": 0.0,
            "length": math.log(2),
            "unknown": 0.0,
            "behind": 0.0,
            "begins": 0.0,
            "size": math.log1p(len(NOTES.text)),
            "cover": 2 / 7,
        }
    )
    assert ten.features["behind"] == -3.0
    assert (ten.features["gap"], ten.features["agreement"]) == (-3.0, 0.0)
    leaflet = found(Reading(()), Reading((span(LEAFLET, "nine", 1.0),)))[0]
    assert leaflet.features["place"] == pytest.approx(math.log(2))
    echo, *_ = found(Reading((span(NOTES, "The library", 4.0),)), Reading(()))
    assert echo.features["echo"] == 1.0
    assert "relevance" not in echo.features
    assert "gap" not in echo.features
    leaflet, *_ = found(Reading(()), Reading((span(LEAFLET, "nine", 1.0),)))
    assert leaflet.features["unknown"] == 1.0


def test_features_tell_where_in_its_block_an_answer_stands():
    manual = RecallHit("m", "Open late:\n  --late\n      Doors open at ten.\n  --early\n      At six.", 0.5)
    option, doors = candidates(
        "When do doors open?",
        [manual],
        [Reading((span(manual, "--late", 2.0), span(manual, "Doors open", 1.0)))],
    )
    shown = "--late\n      Doors open at ten."
    assert (option.features["begins"], doors.features["begins"]) == (1.0, 0.0)
    assert [one.features["size"] for one in (option, doors)] == [math.log1p(len(shown))] * 2
    assert [one.features["cover"] for one in (option, doors)] == [0.5, 0.5]


def test_what_found_nothing_answers_nothing():
    assert found(Reading(()), Reading(())) == []
    assert found(hits=()) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("23 June", "on 23 June, 1990", True),
        ("Mill Lane", "mill lane!", True),
        ("Mill Lane", "Lane", True),
        ("June 23", "23 June", False),
        ("ten", "tenor", False),
        ("", "ten", False),
    ],
)
def test_answers_agree_where_one_is_part_of_the_other(one, other, same):
    assert agree(words_of(one), words_of(other)) == agree(words_of(other), words_of(one)) == same


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10), st.floats(-20, 20)), max_size=12))
def test_every_place_is_of_one_answer(places):
    spans = [Span(start, start + size, margin) for start, size, margin in places]
    answers = candidates(QUESTION, [NOTES], [Reading(tuple(spans))])
    held = sorted((place.start, place.end) for one in answers for place in one.places)
    assert held == sorted((one.start, one.end) for one in spans)
    margins = [one.margin for one in answers]
    assert margins == sorted(margins, reverse=True)
    assert all(math.isfinite(value) for one in answers for value in one.features.values())
