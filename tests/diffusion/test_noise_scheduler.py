"""Schedules are functions that rise, with an inverse and a slope, and noise is what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.diffusion import AbsorbingCorruption, NoiseScheduler, UniformCorruption
from ai_os_diffusion.utils.errors import SamplingError

NAMES = ["linear", "cosine", "loglinear"]
CUSTOM = [lambda t: t**2, lambda t: 0.9 * t / (2 - t)]
ALL = [NoiseScheduler(one) for one in (*NAMES, *CUSTOM)]


@pytest.mark.parametrize("scheduler", ALL)
def test_a_schedule_rises_and_is_inverted(scheduler):
    t = np.linspace(0, 1, 101)
    rates = scheduler.mask_rate(t)
    assert rates[0] == 0
    assert (np.diff(rates) > 0).all()
    assert rates[-1] <= 1
    np.testing.assert_allclose(scheduler.time_of(rates), t, atol=1e-7)


@pytest.mark.parametrize("scheduler", ALL)
def test_the_slope_is_that_of_the_rate(scheduler):
    t = np.linspace(0.01, 0.99, 50)
    step = 1e-6
    slope = (scheduler.mask_rate(t + step) - scheduler.mask_rate(t - step)) / (2 * step)
    np.testing.assert_allclose(scheduler.derivative(t), slope, rtol=1e-4)
    np.testing.assert_allclose(scheduler.loss_weight(t), slope / scheduler.mask_rate(t), rtol=1e-4)


def test_the_linear_schedule_weighs_by_one_over_t():
    np.testing.assert_allclose(NoiseScheduler().loss_weight([0.1, 0.5, 1.0]), [10, 2, 1])


def test_timesteps_go_from_noise_to_clean():
    times = NoiseScheduler().timesteps(4)
    np.testing.assert_allclose(times, [1, 0.75, 0.5, 0.25, 0])
    assert NoiseScheduler().timesteps(3, last=1e-3)[-1] == 1e-3


@given(st.sampled_from(NAMES), st.floats(0, 1), st.integers(0, 2**32))
def test_noise_has_the_rate_and_repeats(name, t, seed):
    scheduler, ids = NoiseScheduler(name), np.arange(4000, dtype=np.int32) % 30
    noisy, is_corrupted = scheduler.add_noise(ids, t, seed, AbsorbingCorruption(99))
    assert (noisy[is_corrupted] == 99).all()
    assert (noisy[~is_corrupted] == ids[~is_corrupted]).all()
    assert abs(is_corrupted.mean() - scheduler.mask_rate(t)) < 6 * np.sqrt(0.25 / 4000)
    again, _ = scheduler.add_noise(ids, t, seed, AbsorbingCorruption(99))
    assert (again == noisy).all()


def test_each_sequence_has_its_time():
    ids = np.zeros((3, 2000), np.int32)
    _, is_corrupted = NoiseScheduler().add_noise(ids, [0.0, 0.5, 1.0], 1, AbsorbingCorruption(7))
    assert is_corrupted[0].sum() == 0
    assert 800 < is_corrupted[1].sum() < 1200
    assert is_corrupted[2].all()


def test_uniform_noise_is_any_token():
    ids = np.full(20000, 3, np.int32)
    noisy, is_corrupted = NoiseScheduler().add_noise(ids, 1.0, 5, UniformCorruption(10))
    assert is_corrupted.all()
    counts = np.bincount(noisy, minlength=10)
    assert counts.min() > 1700


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseScheduler("quadratic"), "schedule is 'quadratic', expected linear, cosine, loglinear"),
        (lambda: NoiseScheduler(lambda t: 1 - t), "rises from 0 at time 0"),
        (lambda: NoiseScheduler(lambda t: 2 * t), "to at most 1"),
        (lambda: NoiseScheduler().mask_rate(1.5), "t is 1.5, expected numbers from 0 to 1"),
        (lambda: NoiseScheduler().mask_rate(float("nan")), "t is nan"),
        (lambda: NoiseScheduler().time_of(-0.1), "mask_rate is -0.1"),
        (lambda: NoiseScheduler().timesteps(0), "num_steps is 0, expected 1 or more"),
        (lambda: NoiseScheduler().timesteps(3, last=1.0), "the last time is 1.0"),
        (lambda: AbsorbingCorruption(-1), "mask_id is -1"),
        (lambda: UniformCorruption(1), "vocab_size is 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(SamplingError, match=message):
        make()
