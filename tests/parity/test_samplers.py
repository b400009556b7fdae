"""Each sampler writes, token for token, what its paper's definition writes from the same logits.

The references work on whole texts with plain loops, one text at a time, and share nothing with the package.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from ai_os_diffusion.diffusion import Canvas, DiffusionCore, DiffusionRequest, NoiseScheduler
from ai_os_diffusion.diffusion import samplers as ours
from ai_os_diffusion.diffusion.denoiser import Predictions
from support.numpy_denoiser import END, MASK, VOCAB, NumpyDenoiser, logits_of, softmax

PROMPTS = [[1, 2, 3], [7], [5, 4, 3, 2, 1, 0, 9, 8]]


def distribution(ids, start):
    """Probabilities of the positions from `start` on, the mask left out."""
    logits = logits_of(ids)[start:]
    logits[:, MASK] = -np.inf
    return softmax(logits)


def written(prompt, length, sampler, blocks=1, seed=0, temperature=0.0):
    request = DiffusionRequest(
        np.array(prompt, np.int32),
        [np.full(length, MASK, np.int32)] * blocks,
        lambda _: sampler,
        temperature=temperature,
        seed=seed,
        stops=False,
        top_k=2,
    )
    (found,) = DiffusionCore(NumpyDenoiser()).write([request])
    return np.concatenate([canvas.ids for canvas in found.canvases]).tolist(), found


def sampler(function, **settings):
    return lambda canvas, random: function(canvas, random, **settings)


def llada(prompt, length, blocks, steps):
    """LLaDA, algorithm 5, with semi-autoregressive blocks; n_i from `get_num_transfer_tokens`."""
    text = list(prompt)
    for _ in range(blocks):
        start = len(text)
        text += [MASK] * length
        base, remainder = length // steps, length % steps
        for i in range(steps):
            p = distribution(text, start)
            guess = p.argmax(-1)
            confidence = [p[j, guess[j]] if text[start + j] == MASK else -math.inf for j in range(length)]
            count = base + (1 if i < remainder else 0)
            for j in sorted(range(length), key=lambda j: -confidence[j])[:count]:
                text[start + j] = int(guess[j])
    return text[len(prompt) :]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("steps", [1, 3, 5, 12])
@pytest.mark.parametrize("blocks", [1, 3])
def test_low_confidence_remasking(prompt, steps, blocks):
    found, record = written(prompt, 12, sampler(ours.low_confidence, num_steps=steps), blocks)
    assert found == llada(prompt, 12, blocks, steps)
    assert record.passes == steps * blocks


def dream(prompt, length, steps, algorithm):
    """Dream, `diffusion_generate`, for one text and alg_temp = 0."""
    start, text, eps = len(prompt), [*prompt, *[MASK] * length], 1e-3
    times = [1 + (eps - 1) * i / steps for i in range(steps + 1)]
    for i in range(steps):
        p = distribution(text, start)
        masked = [j for j in range(length) if text[start + j] == MASK]
        t, s = times[i], times[i + 1]
        count = int(len(masked) * (1 - s / t)) if i < steps - 1 else len(masked)
        ranked = np.sort(p, -1)[:, ::-1]
        score = {
            "maskgit_plus": ranked[:, 0],
            "topk_margin": ranked[:, 0] - ranked[:, 1],
            "entropy": (p * np.log(np.maximum(p, 1e-300))).sum(-1),
        }[algorithm]
        for j in sorted(masked, key=lambda j: -score[j])[:count]:
            text[start + j] = int(p[j].argmax())
    return text[start:]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("steps", [1, 4, 13])
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "topk_margin", "entropy"])
def test_dream(prompt, steps, algorithm):
    found, _ = written(prompt, 13, sampler(ours.dream, num_steps=steps, algorithm=algorithm))
    assert found == dream(prompt, 13, steps, algorithm)


def test_dream_origin_reveals_each_with_its_probability():
    counts = np.zeros(5)
    for seed in range(300):
        _, record = written([3], 40, sampler(ours.dream, num_steps=5, algorithm="origin"), seed=seed)
        counts += np.bincount(record.canvases[0].committed_at - 1, minlength=5)
    # Each step reveals the same share of all.
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.02)


@pytest.mark.parametrize("alg_temp", [0.1, 1.0])
def test_dream_draws_where_it_is_told_to(alg_temp):
    settings = {"num_steps": 6, "algorithm": "maskgit_plus", "alg_temp": alg_temp}
    texts = {tuple(written([3], 12, sampler(ours.dream, **settings), seed=seed)[0]) for seed in range(20)}
    assert len(texts) > 1


def fast_dllm(prompt, length, choose):
    """Fast-dLLM, algorithm 1 without caches: `choose` names the positions to commit by confidence."""
    start, text, passes = len(prompt), [*prompt, *[MASK] * length], 0
    while MASK in text:
        p = distribution(text, start)
        masked = [j for j in range(length) if text[start + j] == MASK]
        passes += 1
        for j in choose(masked, p):
            text[start + j] = int(p[j].argmax())
    return text[start:], passes


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.7, 1.0])
def test_threshold(prompt, threshold):
    def choose(masked, p):
        best = max(masked, key=lambda j: p[j].max())
        return {best, *(j for j in masked if p[j].max() >= np.float32(threshold))}

    found, record = written(prompt, 14, sampler(ours.by_threshold, threshold=threshold))
    assert (found, record.passes) == fast_dllm(prompt, 14, choose)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("factor", [0.2, 1.0, 2.5])
def test_factor(prompt, factor):
    def choose(masked, p):
        ranked = sorted(masked, key=lambda j: -p[j].max())
        count = 1
        for n in range(1, len(ranked) + 1):
            if (n + 1) * (1 - p[ranked[n - 1]].max()) < factor:
                count = n
        return ranked[:count]

    found, record = written(prompt, 14, sampler(ours.by_factor, factor=factor))
    assert (found, record.passes) == fast_dllm(prompt, 14, choose)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0, 1e9])
def test_entropy_bound(prompt, gamma):
    def choose(masked, p):
        entropy = -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(-1)
        ranked, chosen = sorted(masked, key=lambda j: entropy[j]), []
        for j in ranked:
            # Source: sum of the set's entropies less the greatest.
            if sum(entropy[i] for i in chosen) > gamma:
                break
            chosen.append(j)
        return chosen

    found, record = written(prompt, 14, sampler(ours.by_entropy_bound, gamma=gamma))
    assert (found, record.passes) == fast_dllm(prompt, 14, choose)


@pytest.mark.parametrize("name", ["linear", "cosine", "loglinear"])
def test_ancestral_sampling_opens_with_the_rate_of_its_schedule(name):
    """An open position is filled on the way from t to s with probability 1 - rate(s) / rate(t)."""
    scheduler, steps, length = NoiseScheduler(name), 5, 60
    counts = np.zeros(steps)
    for seed in range(200):
        _, record = written(
            [3], length, sampler(ours.ancestral, num_steps=steps, scheduler=scheduler), seed=seed
        )
        counts += np.bincount(record.canvases[0].committed_at - 1, minlength=steps)
    rates = scheduler.mask_rate(scheduler.timesteps(steps))
    np.testing.assert_allclose(counts / counts.sum(), (rates[:-1] - rates[1:]) / rates[0], atol=0.015)


def test_ancestral_sampling_uses_a_pass_again_where_nothing_changed():
    settings = {"num_steps": 400, "scheduler": NoiseScheduler()}
    found, record = written([3], 6, sampler(ours.ancestral, **settings))
    assert record.passes <= 6
    assert MASK not in found


def test_ancestral_sampling_draws_from_the_model():
    """One position left: its token has the model's own distribution."""
    text = [3, MASK]
    p = distribution(text, 1)[0]
    settings = {"num_steps": 1, "scheduler": NoiseScheduler()}
    drawn = [
        written([3], 1, sampler(ours.ancestral, **settings), seed=s, temperature=1.0)[0][0]
        for s in range(3000)
    ]
    counts = np.bincount(drawn, minlength=VOCAB) / len(drawn)
    np.testing.assert_allclose(counts, p, atol=0.04)


@pytest.mark.parametrize("strategy", ["cap", "rescale", "conf"])
def test_remdm_keeps_the_marginals_of_its_schedule(strategy):
    """Whatever sigma is, the share of open positions at time s is rate(s): what the posterior is made for."""
    scheduler, steps, length = NoiseScheduler(), 8, 30
    settings = {"num_steps": steps, "scheduler": scheduler, "strategy": strategy, "eta": 0.4}
    still_open = np.zeros(steps + 1)
    revised = 0
    for seed in range(150):
        request = DiffusionRequest(
            np.array([3], np.int32),
            [np.full(length, MASK, np.int32)],
            lambda _: watched,
            seed=seed,
            stops=False,
        )

        def watched(canvas, random):
            steps_of = ours.remdm(canvas, Watch(random, canvas, still_open), **settings)
            yield from steps_of

        (found,) = DiffusionCore(NumpyDenoiser()).write([request])
        canvas = found.canvases[0]
        revised += int(canvas.revisions.sum())
        assert not canvas.is_open.any()
    assert revised > 0
    if strategy != "conf":  # Shared out over all tokens, it hardly moves any.
        expected = scheduler.mask_rate(scheduler.timesteps(steps))[:-1]
        np.testing.assert_allclose(still_open[:steps] / (150 * length), expected, atol=0.03)


class Watch:
    """Counts the open positions whenever a step begins to draw."""

    def __init__(self, random, canvas, counts):
        self.inner, self.canvas, self.counts, self.calls = random, canvas, counts, 0

    def random(self, size):
        if self.calls % 2 == 0 and self.calls // 2 < len(self.counts):
            self.counts[self.calls // 2] += self.canvas.is_open.sum()
        self.calls += 1
        return self.inner.random(size)


def test_remdm_loops_between_two_times():
    settings = {"num_steps": 20, "scheduler": NoiseScheduler(), "eta": 0.5, "loop": (0.4, 0.2)}
    found, record = written([3], 20, sampler(ours.remdm, **settings))
    assert MASK not in found
    assert record.canvases[0].revisions.sum() > 0


def predictions(ids, confidence):
    count = len(ids)
    empty = np.zeros((count, 0), np.int32)
    sure = np.array(confidence, np.float32)
    return Predictions(np.array(ids, np.int32), sure, 1 - sure, empty, empty.astype(np.float32))


def test_a_token_is_edited_once_where_another_is_surer_now():
    """LLaDA 2.1: what was committed is predicted again, and replaced above the threshold of editing."""
    canvas = Canvas([MASK] * 3, MASK)
    steps = ours.by_threshold(canvas, np.random.default_rng(0), threshold=0.9, edits_above=0.8)
    assert next(steps).tolist() == [0, 1, 2]
    assert steps.send(predictions([4, 5, 6], [0.3, 0.95, 0.2])).tolist() == [0, 2, 1]
    # Row 1 is 5; another token is likely, but not enough; then it is, once.
    assert steps.send(predictions([4, 6, 9], [0.5, 0.4, 0.79])).tolist() == [2, 0, 1]
    with pytest.raises(StopIteration):
        steps.send(predictions([6, 4, 9], [0.6, 0.9, 0.81]))
    assert canvas.ids.tolist() == [4, 9, 6]
    assert canvas.revisions.tolist() == [0, 1, 0]


def test_end_tokens_wait_until_nothing_else_is_left():
    canvas = Canvas([MASK] * 4, MASK)
    steps = ours.low_confidence(canvas, np.random.default_rng(0), num_steps=2, ends_last=[END])
    next(steps)
    steps.send(predictions([END, 5, END, 6], [0.9, 0.2, 0.8, 0.3]))
    assert canvas.ids.tolist() == [MASK, 5, MASK, 6]
    with pytest.raises(StopIteration):
        steps.send(predictions([END, END], [0.9, 0.8]))
    assert canvas.ids.tolist() == [END, 5, END, 6]
