"""What positions see and write: as in the engine that decodes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ai_os_diffusion.training.positions import IGNORED, PositionMaker, visible
from ai_os_diffusion.training.settings import NoiseSettings
from ai_os_diffusion.training.text_encoder import SpecialIds

MASK, NULL, END = 4, 16, 2
MAKER = PositionMaker(SpecialIds(MASK, NULL, (END,)), NoiseSettings())


def seen_by(positions):
    level, noisy = np.array(positions.level), np.array(positions.noisy)
    at = np.arange(len(positions))
    return visible(np.zeros_like(level), level, noisy, at[:, None], at[None])


def test_a_prompt_and_finished_blocks_see_nothing_of_what_follows():
    positions = MAKER.diffused([20, 21, 22], list(range(5, 15)), [True] * 10, 4, random.Random(0))
    seen = seen_by(positions)
    for query in range(len(positions)):
        for key in range(len(positions)):
            before = positions.noisy[key] == 0 and positions.level[key] < positions.level[query]
            own = (
                positions.level[key] == positions.level[query]
                and positions.noisy[key] == positions.noisy[query]
            )
            assert seen[query, key] == (before or own)


@pytest.mark.parametrize("objective", ["diffused", "both"])
def test_copies_keep_the_places_of_the_text_and_hide_only_what_is_written(objective):
    ids, written = list(range(5, 21)), [k % 3 != 0 for k in range(16)]
    positions = getattr(MAKER, objective)([25] * 7, ids, written, 16, random.Random(3))
    assert max(positions.noisy) == 3
    for copy in range(1, 4):
        at = [k for k in range(len(positions)) if positions.noisy[k] == copy]
        assert [positions.positions[k] for k in at] == list(range(7, 23))
        for k, truth, is_written in zip(at, ids, written, strict=True):
            if positions.ids[k] == MASK and truth != MASK:
                assert is_written
                assert positions.labels[k] == truth
            else:
                assert (positions.ids[k], positions.labels[k]) == (truth, IGNORED)
        assert any(positions.labels[k] != IGNORED for k in at)


def test_the_next_token_objective_is_a_causal_mask():
    positions = MAKER.causal([7, 8, 9], [10, 11, 12, NULL, NULL], [True] * 5)
    assert np.array_equal(seen_by(positions), np.tril(np.ones((6, 6), bool)))
    assert positions.labels == [IGNORED, IGNORED, 10, 11, 12, IGNORED]


def test_both_read_the_clean_text_once_and_blocks_see_what_is_before_them():
    positions = MAKER.both([20, 21, 22], list(range(5, 15)), [True] * 10, 4, random.Random(0))
    seen, noisy = seen_by(positions), np.array(positions.noisy)
    clean = noisy == 0
    assert np.array_equal(seen[clean][:, clean], np.tril(np.ones((13, 13), bool)))
    for copy in range(1, noisy.max() + 1):
        own = noisy == copy
        first = min(np.array(positions.positions)[own])
        assert seen[own][:, own].all()
        assert (seen[own][:, clean] == (np.arange(13) < first)).all()
        assert not seen[own][:, ~clean & ~own].any()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "loglinear"])
def test_weights_make_the_loss_the_negative_elbo_under_every_schedule(schedule):
    """A position is masked with the chance rate(t) and weighs rate'(t) / rate(t) then."""
    maker = PositionMaker(
        SpecialIds(MASK, NULL, (END,)), NoiseSettings(schedule=schedule, least_time=0.05, copies=1)
    )
    rng, total = random.Random(0), 0.0
    for _ in range(1500):
        made = maker.diffused([], [30] * 40, [True] * 40, 40, rng)
        total += sum(made.weights) / 40
    scheduler = NoiseSettings(schedule=schedule).scheduler
    times = np.linspace(0.05, 1, 4001)
    expected = float(np.mean(scheduler.derivative(times)))
    assert total / 1500 == pytest.approx(expected, rel=0.05)


def test_what_a_label_weighs_does_not_depend_on_it_where_nothing_tells_it():
    """Else the predicted chance of NULL would be that of the data times its weight, and gaps too long."""
    ids = [30, 31, NULL, NULL, NULL, NULL]
    rng = random.Random(5)
    for _ in range(200):
        made = MAKER.diffused([7, 8], ids, [True] * 6, 6, rng)
        for copy in range(1, 4):
            at = [k for k in range(len(made)) if made.noisy[k] == copy]
            masked = [k for k in at if made.labels[k] != IGNORED]
            told = [k for k in masked if k - 1 in at and made.ids[k - 1] == NULL]
            others = {made.weights[k] / (0.3 if k in told else 1.0) for k in masked}
            assert max(others) == pytest.approx(min(others))
