"""Energies of texts on their way, what they lack, and what contradicts."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_os_diffusion.inference import Banned, FollowsSchema, Matches, Required
from ai_os_diffusion.inference.constraints.constraint import OPEN
from ai_os_diffusion.inference.constraints.constraint_set import ConstraintSet, Drawing
from ai_os_diffusion.utils.errors import ConstraintError, SamplingError

WORDS = st.text("abÄä ", max_size=120)


def test_a_banned_word_costs_where_it_stands_by_itself():
    banned = Banned("ass", "New York")
    assert banned.energy(["a class", OPEN]) == 0
    assert banned.energy(["an ass", OPEN]) == 1
    assert banned.energy(["an assumption", OPEN]) == 0
    assert banned.energy(["an ass and ", OPEN, " new york"]) == 2
    assert Banned("ass", whole_words=False).energy(["a class"]) == 1
    assert Banned("Anna", match_case=True).violation("anna") is None
    assert Banned("C++").violation("I like c++.") == "'c++' is banned and occurs"


@given(st.lists(WORDS, max_size=12))
def test_what_is_counted_does_not_depend_on_what_was_counted_before(pieces):
    """Texts grow by pieces and fall back, as candidates do."""
    kept, text = Banned("ab", "a b", "ää", "b"), ""
    for piece in pieces:
        for candidate in (piece, piece[::-1], piece + "b"):
            fresh = Banned("ab", "a b", "ää", "b")
            assert kept.energy([text + candidate, OPEN]) == fresh.energy([text + candidate, OPEN])
        text += piece
        assert (kept.energy([text]) == 0) == (kept.violation(text) is None)


def test_a_missing_word_costs_when_nothing_is_open():
    required = Required("Seine", "river")
    assert required.energy(["Paris", OPEN]) == 0
    assert required.energy(["Paris"]) == 2
    assert required.energy(["the seine"]) == 1
    assert required.completion("Paris.") == " Seine river"
    assert required.completion("on the Sei") == "ne river"
    assert required.completion("the river Seine") == ""
    assert required.completion("") == "Seine river"
    assert required.violation("The Seine") == "'river' is missing"


@given(WORDS)
def test_a_completion_satisfies(text):
    for constraint in (Required("ba", "Ä"), Matches("[abÄä ]{0,200}!"), Required("b")):
        completion = constraint.completion(text)
        if completion is not None:
            assert constraint.violation(text + completion) is None
            assert constraint.energy([text + completion]) == 0
        else:
            assert constraint.is_lost(text)


def test_a_pattern_is_held_to_from_both_sides():
    date = Matches(r"\d{4}-\d\d")
    assert date.energy([" 20", OPEN]) == 0
    assert date.energy(["20x", OPEN]) == 1
    assert date.energy([OPEN, "-1", OPEN]) == 0
    assert date.energy([OPEN, "--", OPEN]) == 1
    assert date.energy([OPEN, "-123"]) == 1
    assert date.energy(["2024-12 \n"]) == 0
    assert date.energy(["2024-1"]) == 1
    assert date.energy(["    2", OPEN]) == 1, "white space without end"
    assert date.energy([]) == 1
    assert date.violation(" 2024-12 ") is None
    assert date.violation("2024") == r"the text does not match '\\d{4}-\\d\\d'"
    assert date.is_lost("x")


SCHEMA = {
    "type": "object",
    "properties": {
        "note": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "size": {"enum": ["small", 'wi"de', 3]},
        "phone": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "at": {
            "type": "array",
            "items": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
            "minItems": 1,
            "maxItems": 2,
        },
    },
    "required": ["age", "size", "phone", "at"],
    "additionalProperties": False,
}
OF_SCHEMA = FollowsSchema(SCHEMA)
VALUES = st.fixed_dictionaries(
    {
        "note": st.text(max_size=6),
        "age": st.integers(-2, 130),
        "size": st.sampled_from(["small", 'wi"de', 3, "large"]),
        "phone": st.none() | st.integers(-9, 9) | st.floats(-9, 9).map(lambda number: round(number, 3)),
        "tags": st.lists(st.text(max_size=3), max_size=3),
        "at": st.lists(st.fixed_dictionaries({"ok": st.booleans()}), max_size=3),
    }
)


@settings(deadline=None)
@given(VALUES, st.sets(st.sampled_from(sorted(SCHEMA["properties"])), max_size=2), st.booleans())
def test_a_schema_accepts_what_the_reference_accepts(value, left_out, pretty):
    # As the schema has them: another order is valid JSON that is not written.
    value = {name: value[name] for name in SCHEMA["properties"] if name not in left_out}
    text = json.dumps(value, indent=2 if pretty else None, ensure_ascii=False)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    accepted = jsonschema.Draft202012Validator(SCHEMA).is_valid(value)
    assert (OF_SCHEMA.violation(text) is None) == accepted


@settings(deadline=None)
@given(st.integers(0, 400), VALUES)
def test_any_beginning_of_a_value_can_be_completed_to_json_of_the_schema(cut, value):
    value["age"], value["size"], value["at"] = 7, "small", [{"ok": True}]
    value["note"], value["tags"] = value["note"][:5], value["tags"][:2]
    text = json.dumps({name: value[name] for name in SCHEMA["properties"]}, ensure_ascii=False)[:cut]
    completion = OF_SCHEMA.completion(text)
    if completion is None:
        assert any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    jsonschema.validate(json.loads(text + completion), SCHEMA)


def test_escapes_in_texts_are_letters_and_never_half_of_one():
    words = FollowsSchema({"type": "object", "properties": {"s": {"type": "string"}}})
    for text, energy in [(r"\u00e9\n\"", 0), (r"\ud7ff", 0), (r"\ud800", 1), (r"\x", 1), ("\n", 1)]:
        assert words.energy(['{"s": "' + text, OPEN]) == energy


def test_what_a_pattern_cannot_count_is_looked_at_in_the_end():
    bound = FollowsSchema({"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}})
    assert bound.energy(['{"n": 9}']) == 0
    assert bound.violation('{"n": 9}') == "the value.n is 9, more than 5"
    unique = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert "twice" in FollowsSchema({"type": "object", "properties": {"n": unique}}).violation(
        '{"n": [1, 1]}'
    )
    long = {"type": "string", "maxLength": 100}
    words = FollowsSchema({"type": "object", "properties": {"s": long}})
    assert words.violation(json.dumps({"s": "a" * 101})) == "the value.s has 101 characters, more than 100"
    with pytest.raises(SamplingError, match="'pattern' is not held to"):
        FollowsSchema({"type": "object", "properties": {"s": {"type": "string", "pattern": "a"}}})


def test_constraints_that_contradict_or_are_none_are_refused():
    with pytest.raises(SamplingError, match="'new york' is required, and 'york' is banned"):
        ConstraintSet([Required("new york"), Banned("York")])
    for wrong in ([], ["x"], [Banned("x")] * 65):
        with pytest.raises(SamplingError, match="expected 1 to 64 of Banned"):
            ConstraintSet(wrong)
    for wrong in ((), ("",), (" x",), (3,), ("x" * 257,)):
        for kind in (Banned, Required):
            with pytest.raises(SamplingError, match="expected"):
                kind(*wrong)
    with pytest.raises(SamplingError, match="1 to 64 phrases, got 65"):
        Required(*map(str, range(65)))
    with pytest.raises(SamplingError, match="1 to 100000 phrases"):
        Banned(*map(str, range(100_001)))
    for pattern in ("", "a" * 1001, None):
        with pytest.raises(SamplingError, match="1 to 1000 characters"):
            Matches(pattern)
    with pytest.raises(SamplingError, match="matches no text"):
        Matches(r"[^\s\S]")


def test_many_banned_words_are_as_few_look_ups_as_lengths():
    banned = Banned(*(f"word{number}" for number in range(100_000)))
    assert banned.energy(["no word is banned, but word99999, is", OPEN]) == 1


def test_settings_are_checked_and_need_constraints():
    for name, value in [("energy", -1), ("energy", float("nan")), ("energy", True), ("attempts", 0)]:
        with pytest.raises(SamplingError, match=name):
            Drawing.of(Banned("x"), **{"energy": None, "attempts": None, name: value})
    with pytest.raises(SamplingError, match="belong to constraints"):
        Drawing.of(None, 3.0, None)
    assert Drawing.of(None, None, None) is None


def test_texts_are_drawn_with_more_weight_until_one_satisfies():
    drawing = Drawing.of([Banned("a"), Required("c")], 2.0, 3)
    asked = []

    def draw(attempt, energy):
        asked.append((attempt, energy))
        return ["a", "b", "c"][attempt]

    assert drawing.drawn(draw) == "c"
    assert asked == [(0, 2.0), (1, 8.0), (2, 32.0)]
    with pytest.raises(ConstraintError, match=r"none of 3 texts.*'c' is missing") as raised:
        drawing.drawn(lambda attempt, _: "ab"[min(attempt, 1)])
    assert (raised.value.text, raised.value.violations) == ("b", ["'c' is missing"])
