"""How answers beyond pointing are judged, and how gaps and windows are drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


def test_yes_needs_its_reason_and_silence_is_told(benchmark):
    judge = benchmark("beyond_pointing").judge_yes_no
    row = {"answer": "no", "reason": ["9 Nov", "9 November"]}
    assert judge(row, "No: 9 November")["right"]
    assert judge(row, "No: in autumn") == {
        "right": False,
        "answer": True,
        "reason": False,
        "left_open": None,
        "wrongly_left_open": False,
    }
    assert judge(row, "not stated")["wrongly_left_open"]
    assert not judge(row, "9 Nov")["answer"]
    silent = {"answer": "not stated", "reason": []}
    assert judge(silent, "Not stated.")["right"]
    assert not judge(silent, "No: not stated")["right"]


def test_both_parts_must_be_told(benchmark):
    judge = benchmark("beyond_pointing").judge_two_passages
    row = {"answers": [["Ines Moll"], ["locker 7", "7"]]}
    assert judge(row, "Ines Moll; locker 7")["right"]
    assert judge(row, "locker 7") == {
        "right": False,
        "both_told": False,
        "one_told": True,
        "left_open": None,
    }
    half = {"answers": [["Ines Moll"], None]}
    assert judge(half, "Ines Moll; not stated")["right"]
    assert not judge(half, "Ines Moll; locker 7")["right"]


def test_a_field_that_does_not_parse_is_not_rightly_empty(benchmark):
    judge, unread = benchmark("beyond_pointing").judge_form, benchmark("writers").UNREAD
    row = {"template": {"name": "str", "price": "float"}, "values": {"name": "Holt", "price": None}}
    *fields, whole = judge(row, {"name": "Mr Holt", "price": None})
    assert [mark["right"] for mark in fields] == [True, True]
    assert whole == {"whole": True}
    *fields, whole = judge(row, {"name": unread, "price": unread})
    assert [mark["right"] for mark in fields] == [False, False]
    assert whole == {"whole": False}


def test_shares_are_of_what_a_mark_applies_to(benchmark):
    shares = benchmark("beyond_pointing").shares
    assert shares([{"a": True, "b": None}, {"a": False, "b": True}, {"c": None}]) == {"a": 50.0, "b": 100.0}


def test_gaps_of_untold_length_are_whole_words(benchmark):
    infill = benchmark("infill")
    text = "The rain had stopped before noon, but the path was still full of puddles"
    gap = infill.Gap(text[:12], text[12:20], text[20:])
    bench = SimpleNamespace(encode=lambda text: np.arange(len(text.split())))
    lengths = set()
    for seed in range(40):
        (found,) = infill.drawn([gap], bench, seed)
        assert found.before + found.missing + found.after == text
        assert found.missing.startswith(" ")
        assert not found.missing.endswith(",")
        lengths.add(len(found.missing.split()))
    assert lengths == set(range(1, infill.LONGEST + 1))


def test_every_share_of_masked_tokens_counts_as_much(benchmark):
    elbo = benchmark("elbo")
    counts = elbo.masked_counts(64, np.random.default_rng(0))
    edges = np.linspace(0, elbo.WINDOW, 65)
    assert np.histogram(counts - 0.5, edges)[0].tolist() == [1] * 64
    parts = elbo.windows(np.arange(10 * elbo.WINDOW + 5), 4)
    assert [part[0] // elbo.WINDOW for part in parts] == [0, 3, 6, 9]
    assert all(len(part) == elbo.WINDOW for part in parts)
