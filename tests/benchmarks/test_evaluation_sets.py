"""The form of our evaluation sets: what is expected stands in what is given, or follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SETS = Path(__file__).parents[2] / "benchmarks" / "beyond_pointing"


@pytest.fixture
def values(benchmark):
    return benchmark("values")


def rows(name, keys, least):
    lines = (SETS / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    found = [json.loads(line) for line in lines if line]
    assert all(row.keys() == keys for row in found)
    assert len({row["id"] for row in found}) == len(found) >= least
    return found


def test_reasons_stand_in_a_passage(values):
    found = rows("yes_no", {"id", "passages", "question", "answer", "reason"}, 120)
    counts = {answer: sum(row["answer"] == answer for row in found) for answer in ("yes", "no", "not stated")}
    assert sum(counts.values()) == len(found)
    assert counts["not stated"] >= 20
    assert abs(counts["yes"] - counts["no"]) <= 0.1 * len(found)
    for row in found:
        assert 1 <= len(row["passages"]) <= 3
        assert bool(row["reason"]) == (row["answer"] != "not stated"), row["id"]
        told = [any(values.holds(text, one) for text in row["passages"]) for one in row["reason"]]
        assert any(told) or not told, row["id"]


def test_parts_of_an_answer_stand_in_different_passages(values):
    found = rows("two_passages", {"id", "passages", "question", "answers"}, 120)
    assert sum(None in row["answers"] for row in found) >= 15
    assert sum(len(row["passages"]) > 2 for row in found) >= len(found) / 2
    for row in found:
        assert len(row["answers"]) >= 2, row["id"]
        where = [
            {
                at
                for at, text in enumerate(row["passages"])
                if any(values.holds(text, one) for one in variants)
            }
            for variants in row["answers"]
            if variants is not None
        ]
        assert all(where), row["id"]
        assert len(where) == 1 or not set.intersection(*where), row["id"]


def test_fields_of_forms_stand_in_the_notes(values):
    found = rows("templates", {"id", "notes", "template", "values"}, 120)
    slots = [value for row in found for value in row["values"].values()]
    assert sum(value is None for value in slots) >= len(slots) / 5
    for row in found:
        assert 3 <= len(row["template"]) <= 9
        assert row["template"].keys() == row["values"].keys()
        for name, kind in row["template"].items():
            value, place = row["values"][name], f"{row['id']}: {name}"
            if value is None:
                continue
            if kind in ("int", "float"):
                assert isinstance(value, int | float), place
                assert not isinstance(value, bool), place
                assert value in values.numbers(row["notes"]), place
            elif kind == "date":
                assert values.dates(value)[0] in values.dates(row["notes"]), place
            elif kind == "list[str]":
                assert all(values.holds(row["notes"], one) for one in value), place
            elif kind == "str":
                assert values.holds(row["notes"], value), place
            else:
                assert kind == "bool", place
                assert isinstance(value, bool), place


def test_gaps_are_words_within_a_sentence():
    for row in rows("infill", {"id", "before", "gap", "after"}, 200):
        assert 2 <= len(row["gap"].split()) <= 6, row["id"]
        assert row["before"].endswith(" "), row["id"]
        assert row["after"], row["id"]
        assert not any(mark in row["gap"] for mark in ".!?"), row["id"]


def test_values_are_compared_as_values(values):
    assert values.words("The price: 2,400.00 at 9:30") == ["price", "2400", "at", "9.3"]
    assert values.holds("paid on 3 May, by Dr. Pohl", "Pohl")
    assert not values.holds("room 312", "12")
    assert values.dates("from 3rd of June 2025 to June 9") == [(2025, 6, 3), (None, 6, 9)]
    assert values.is_declined("Not stated.")
    assert values.is_declined("The text does not explicitly state that it was.")
    assert not values.is_declined("Nothing at all is stated here? 5")
    assert not values.is_declined("No: he has not paid, as was stated")
    same = values.same_value
    assert same("date", "2025-06-03", "3 June 2025")
    assert not same("date", "3 June", "3 June 2025")
    assert same("float", "24.90 euros", 24.9)
    assert not same("int", True, 1)
    assert same("int", "-6", -6)
    assert same("str", "the Golden Perch", "Golden Perch")
    assert same("list[str]", ["Mina", "Ade"], ["Ade", "Mina"])
    assert not same("list[str]", ["Mina"], ["Ade", "Mina"])
    assert same("bool", "No", False)
    assert same("str", "not stated", None)
    assert same("list[str]", [], None)
    assert not same("int", 0, None)
