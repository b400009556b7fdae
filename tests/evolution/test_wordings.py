"""Questions in other words."""

from __future__ import annotations

import random

from ai_os_diffusion.evolution.wordings import FRAMES, reworded

QUESTION = "At what age did Ada leave London for good"


def test_words_are_left_out_and_never_all_of_them():
    rng = random.Random(1)
    lengths = []
    for _ in range(300):
        said = reworded(QUESTION, 0.3, rng).lower()
        frame = next(f for f in sorted(FRAMES, key=len, reverse=True) if said.startswith(f[:-2].lower()))
        words = said[len(frame) - 2 :].split()
        left = iter(QUESTION.lower().split())
        assert words
        assert all(word in left for word in words), said
        lengths.append(len(words))
    assert 0.6 < sum(lengths) / 300 / len(QUESTION.split()) < 0.8
    assert reworded("Why", 0.9, random.Random(0)).lower().endswith("why")


def test_nothing_is_changed_where_nothing_is_to_be():
    assert reworded(QUESTION, 0, random.Random(0)) == QUESTION
