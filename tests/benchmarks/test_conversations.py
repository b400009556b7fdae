"""How replies of conversations are judged, and the form of the conversations."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

TRAVEL = "We stayed at Pensão Alegria, three nights cost 210 euros. The best custard tarts were in Belém."
NOTES = {"travel.md": TRAVEL, "house.md": "The hallway is in Pale Moss."}
PRICE = {"say": "how much was that?", "answers": [[r"\b210\b"]], "source": "travel.md"}
OPEN = {"say": "and the breakfast?", "answers": [], "source": None}


@pytest.fixture
def talk(benchmark):
    return benchmark("conversations")


@pytest.fixture
def worth(benchmark, talk):
    def judged(turn, text, *sources, is_own=False, heard=("where did we sleep in Lisbon?",)):
        said = benchmark("judging").Said(text, text, sources, not text)
        return talk.verdict(turn, said, is_own=is_own, heard=heard, notes=NOTES)

    return judged


def test_what_is_asked_for_has_to_be_told_with_its_note(worth):
    assert worth(PRICE, "Three nights cost 210 euros.", "/n/travel.md") == "right"
    assert worth(PRICE, "The best custard tarts were in Belém.", "/n/travel.md") == "wrong"
    assert worth(PRICE, "") == "declined wrongly"
    assert worth(PRICE, "The room was cheap.") == "uncited"


def test_nothing_may_be_invented(worth):
    assert worth(PRICE, "Three nights in Lisbon cost 210 euros.", "/n/travel.md") == "right"
    assert worth(PRICE, "Three nights in Porto cost 210 euros.", "/n/travel.md") == "invented"
    assert worth(PRICE, "It was 310 euros.", "/n/travel.md") == "invented"
    assert worth(PRICE, "It was 210 euros.", "/n/house.md") == "invented"
    assert worth(OPEN, "It was 12 euros.", is_own=True) == "invented"


def test_what_no_note_says_has_to_be_declined(worth):
    assert worth(OPEN, "") == "declined rightly"
    assert worth(OPEN, "You are welcome.", is_own=True) == "declined rightly"
    assert worth(PRICE, "You are welcome.", is_own=True) == "uncited"
    assert worth(OPEN, "We stayed at Pensão Alegria.", "/n/travel.md") == "answered without ground"


def test_numbers_and_names_are_claims(talk):
    assert talk.claims("Her number is 0351 448. The tap (Hahn) of Frau Vogel, at 8:10.") == {
        "0351",
        "448",
        "frau",
        "vogel",
        "8:10",
    }
    assert talk.unsupported("It is on Mill Lane 12.", ["her practice is on Mill Lane 12."]) == set()
    assert talk.unsupported("It is on Mill Lane 1.", ["her practice is on Mill Lane 12."]) == {"1"}


def test_turns_are_counted(talk):
    outcomes = [
        talk.Outcome("a", "en", True, "right"),
        talk.Outcome("a", "en", False, "declined rightly"),
        talk.Outcome("b", "de", True, "right"),
        talk.Outcome("b", "de", False, "invented"),
    ]
    figures = talk.figures_of(outcomes)
    assert figures["all"] == {"turns": 4, "right": 2, "declined rightly": 1, "invented": 1}
    assert figures["first"] == {"turns": 2, "right": 2}
    assert figures["follow_ups"] == {"turns": 2, "declined rightly": 1, "invented": 1}
    assert figures["de"] == {"turns": 2, "right": 1, "invented": 1}
    assert (figures["conversations"], figures["whole"]) == (2, 1)


def test_own_words_are_read_from_a_reply(talk):
    own = talk.said_by(SimpleNamespace(text="Hello!", answer=None))
    assert (own.text, own.sources, own.declined) == ("Hello!", (), False)
    answer = SimpleNamespace(text="", citations=(), abstained=True, confidence=0.0)
    assert talk.said_by(SimpleNamespace(text="", answer=answer)).declined


def test_conversations_have_their_form(talk, benchmark):
    judging, found = benchmark("judging"), talk.conversations()
    assert len({script["id"] for script in found}) == len(found) == 40
    turns = [(script["id"], turn) for script in found for turn in script["turns"]]
    assert sum(not turn["answers"] for _, turn in turns) >= 30
    for name, turn in turns:
        assert turn.keys() == {"say", "answers", "source"}, name
        assert bool(turn["answers"]) == (turn["source"] is not None), name
        assert not judging.is_right(turn["say"], turn["answers"]), turn["say"]
        if turn["answers"]:
            note = judging.flat((talk.NOTES / turn["source"]).read_text(encoding="utf-8"))
            assert judging.is_right(note, turn["answers"]), turn["say"]
        assert all(re.compile(pattern) for patterns in turn["answers"] for pattern in patterns)
