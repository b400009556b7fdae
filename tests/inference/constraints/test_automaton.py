"""A pattern means what it means to `re`, however far a text has been written, and never takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_os_diffusion.inference.constraints.automaton import Automaton
from ai_os_diffusion.utils.errors import SamplingError

TEXTS = st.text("abB1 \n-", max_size=8)
LEAVES = st.sampled_from(
    ["a", "b", ".", r"\d", r"\w", r"\S", "[ab]", "[^a]", "[a-c1]", r"[^\s-]", "(?i:b)", "(?s:.)", ""]
)


def _grown(inner):
    repeats = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?", "{1,}?"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, repeats).map("({0[0]}){0[1]}".format),
    )


PATTERNS = st.recursive(LEAVES, _grown, max_leaves=6)


@settings(max_examples=300)
@given(PATTERNS, TEXTS)
def test_it_accepts_what_re_matches(pattern, text):
    automaton = Automaton(pattern)
    state = automaton.read(automaton.start, text)
    assert automaton.accepts(state) == (re.fullmatch(pattern, text) is not None)


@settings(max_examples=300)
@given(PATTERNS, TEXTS, TEXTS)
def test_what_can_go_on_is_completed_and_what_is_lost_is_lost(pattern, text, more):
    automaton = Automaton(pattern)
    state = automaton.read(automaton.start, text)
    completion = automaton.completion(state)
    if completion is None:
        assert re.fullmatch(pattern, text + more) is None
        assert not automaton.accepts(automaton.read_anything(state))
    else:
        assert re.fullmatch(pattern, text + completion)
        assert automaton.accepts(automaton.read_anything(state))
    if re.fullmatch(pattern, text + more):
        assert completion is not None
        assert len(completion) <= len(more)


@settings(max_examples=200)
@given(PATTERNS, TEXTS, TEXTS, TEXTS)
def test_a_gap_may_become_any_text(pattern, before, gap, behind):
    automaton = Automaton(pattern)
    if re.fullmatch(pattern, before + gap + behind):
        state = automaton.read_anything(automaton.read(automaton.start, before))
        assert automaton.accepts(automaton.read(state, behind))


def test_anchors_at_the_ends_change_nothing():
    for pattern in ("^ab$", r"\Aab\Z", "ab"):
        automaton = Automaton(pattern)
        assert automaton.accepts(automaton.read(automaton.start, "ab"))
        assert not automaton.read(automaton.start, "xab")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[", "no regular expression"),
        ("a{99999999999999999999}", "no regular expression"),
        ("(" * 900, "no regular expression|nested too deeply"),
        ("(((a{1,1000}){1,1000}){1,1000})", "repeats too much"),
        ("(((|){9999}){9999})", "repeats too much"),
        ("(?i)[\0-\U0010ffff]", "too wide"),
        (r"\bab", "cannot be held to"),
        (r"a$b", "cannot be held to"),
        (r"(a)\1", "cannot be held to"),
        ("(?=a)a", "cannot be held to"),
        ("(?<!a)b", "cannot be held to"),
        ("a" * 20_001, "at most"),
        (7, "at most"),
    ],
)
def test_what_cannot_be_held_to_is_refused(pattern, said):
    with pytest.raises(SamplingError, match=said):
        Automaton(pattern)


def test_what_takes_others_forever_is_read_once_through():
    """`re` needs 2^n steps for these; here the number of known steps is bounded by the pattern."""
    for pattern in ("(a+)+b", "(a|a)*b", "(a|aa)+$", "(.*)*(.*)*x"):
        automaton = Automaton(pattern)
        state = automaton.read(automaton.start, "a" * 20_000 + "!")
        assert not automaton.accepts(state)
        assert len(automaton._known) < 50
