"""Answers are compared as SQuAD compares them."""

from __future__ import annotations

import pytest

from ai_os_diffusion.evolution import QAPair, SkillTest


def asked(*answers):
    pairs, said = zip(*((QAPair("?", expected), given) for expected, given in answers), strict=True)
    return SkillTest(pairs, said)


@pytest.mark.parametrize(
    ("expected", "said", "right", "f1"),
    [
        ("Ada", "the ADA.", True, 1.0),
        ("Ada Lovelace", "Ada", False, 2 / 3),
        ("a b b", "b b b", False, 2 * 2 / 5),
        ("Ada", "", False, 0.0),
        ("the", "", True, 1.0),
        ("--json", "json", True, 1.0),
    ],
)
def test_an_answer(expected, said, right, f1):
    test = asked((expected, said))
    assert test.right == [right]
    assert test.f1 == pytest.approx(f1)


def test_means():
    test = asked(("Ada", "Ada"), ("Ada", "nobody"))
    assert (test.exact_match, test.f1) == (0.5, 0.5)
    assert SkillTest((), ()).f1 == 0.0
