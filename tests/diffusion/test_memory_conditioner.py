"""Memories become a condition: near ones, each once, within a budget, as strong as they fit."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ai_os_diffusion.diffusion import Condition, MemoryConditioner
from ai_os_diffusion.utils.errors import SamplingError


class Found(NamedTuple):
    text: str
    similarity: float


def conditioner(*found: Found, **settings) -> MemoryConditioner:
    return MemoryConditioner(lambda _query, _most: found, count=lambda text: len(text.split()), **settings)


ROSES, LAWN, TRAIN = (
    Found("Cut roses in March.", 0.8),
    Found("Mow it weekly.", 0.6),
    Found("It leaves at ten.", 0.2),
)


def test_the_nearest_stands_next_to_the_question_and_weak_ones_are_left_out():
    made = conditioner(ROSES, LAWN, TRAIN, threshold=0.4).condition("when are roses cut?")
    assert made.passages == (LAWN.text, ROSES.text)
    assert made.memories == (ROSES, LAWN)
    assert made.strength == pytest.approx((0.8 - 0.4) / 0.6)


def test_the_query_and_the_number_are_handed_on():
    asked = []
    MemoryConditioner(lambda *call: asked.append(call) or (), count=len, most=3).condition("roses")
    assert asked == [("roses", 3)]


def test_a_text_within_another_is_told_once():
    inside = Found(" roses in March.\n", 0.7)
    assert conditioner(ROSES, inside, ROSES).condition("?").passages == (ROSES.text,)


def test_what_the_budget_does_not_hold_makes_room_for_what_it_does():
    long = Found("a " * 50, 0.75)
    made = conditioner(ROSES, long, LAWN, budget=8).condition("?")
    assert made.memories == (ROSES, LAWN)
    assert conditioner(ROSES, LAWN, TRAIN, most=1).condition("?").memories == (ROSES,)


def test_nothing_near_is_no_condition():
    for found in ((), (TRAIN,), (Found("  ", 0.9),)):
        made = conditioner(*found, threshold=0.4).condition("?")
        assert made == Condition()
        assert made.guidance_scale(3.0) == 1.0


@pytest.mark.parametrize("threshold", [None, 0.4, 1.0])
@pytest.mark.parametrize("similarity", [-1.0, 0.0, 0.4, 0.7, 1.0])
def test_a_strong_hit_pulls_as_told_and_a_weak_one_hardly(threshold, similarity):
    made = conditioner(Found("text", similarity), threshold=threshold).condition("?")
    assert 0.0 <= made.strength <= 1.0
    assert made.guidance_scale(1.0) == 1.0
    assert 1.0 <= made.guidance_scale(2.5) <= 2.5
    if similarity == 1.0:
        assert made.guidance_scale(2.5) == 2.5


@pytest.mark.parametrize("settings", [{"budget": 0}, {"most": 0}])
def test_room_for_nothing_is_refused(settings):
    with pytest.raises(SamplingError, match="expected 1 or more"):
        conditioner(ROSES, **settings)
