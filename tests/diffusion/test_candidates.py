"""A block that is held to candidates becomes one of them, whatever is predicted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.diffusion import Candidates, Canvas, Predictions, samplers
from ai_os_diffusion.utils.errors import SamplingError

MASK, LENGTH = 9, 5


def predictions(canvas, rows, rng):
    """Of each row any token that is allowed, as sure as chance has it."""
    allowed = canvas.allowed(rows)
    ids = np.array([rng.choice(allowed[at]) for at in range(len(rows))], np.int32)
    confidence = rng.random(len(rows)).astype(np.float32)
    nothing = np.zeros((len(rows), 0))
    return Predictions(ids, confidence, 1 - confidence, nothing.astype(np.int32), nothing.astype(np.float32))


ADAPTIVE = (
    partial(samplers.by_threshold, threshold=0.3),
    partial(samplers.by_threshold, threshold=0.0),
    samplers.by_factor,
    samplers.by_entropy_bound,
)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.lists(st.integers(0, 3), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=12),
    st.sampled_from(ADAPTIVE),
)
def test_every_text_is_one_of_them(seed, texts, sampler):
    rng = np.random.default_rng(seed)
    canvas = Canvas(np.full(LENGTH, MASK), MASK, Candidates(np.array(texts, np.int32)))
    steps = sampler(canvas, rng)
    rows = next(steps)
    for _ in range(LENGTH):
        found = predictions(canvas, rows, rng)
        canvas.begin_pass(rows, found)
        try:
            rows = steps.send(found)
        except StopIteration:
            break
        assert len(canvas.changed)
    assert not canvas.is_open.any()
    assert canvas.ids.tolist() in texts


def test_of_tokens_that_stand_in_no_text_together_the_surer_one_is_taken():
    canvas = Canvas([MASK, MASK], MASK, Candidates(np.array([[1, 2], [3, 4]], np.int32)))
    assert {at: ids.tolist() for at, ids in canvas.allowed(canvas.open_rows).items()} == {
        0: [1, 3],
        1: [2, 4],
    }
    found = Predictions(
        np.array([1, 4], np.int32),
        np.array([0.6, 0.9], np.float32),
        np.zeros(2, np.float32),
        np.zeros((2, 0), np.int32),
        np.zeros((2, 0), np.float32),
    )
    canvas.commit(canvas.open_rows, found, np.arange(2))
    assert canvas.ids.tolist() == [MASK, 4]
    assert canvas.allowed(canvas.open_rows)[0].tolist() == [3]


def test_given_text_is_agreed_with():
    texts = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    canvas = Canvas([1, MASK, MASK], MASK, Candidates(texts))
    assert canvas.allowed(canvas.open_rows)[1].tolist() == [3]
    with pytest.raises(SamplingError, match="none of them agrees"):
        Canvas([7, MASK, MASK], MASK, Candidates(texts))


@pytest.mark.parametrize("texts", [np.zeros((0, 3), np.int32), np.zeros(3, np.int32)])
def test_none_at_all_are_refused(texts):
    with pytest.raises(SamplingError, match="candidates"):
        Candidates(texts)
