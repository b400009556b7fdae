"""Classifier-free guidance left to right: logits are those of two prompts, led from one to the other."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, Banned
from ai_os_diffusion.utils.errors import SamplingError


@pytest.fixture(scope="module")
def engine(tiny_decoder_dir, backend):
    with ArrowEngine(tiny_decoder_dir, num_threads=2, backend=backend, device="cpu") as engine:
        yield engine


@pytest.mark.parametrize(("negative", "unguided"), [(None, b"e"), ("Never", b"Never"), ([78, 111], b"No")])
def test_greedily_it_takes_the_best_of_the_led_logits(engine, negative, unguided):
    scale = 2.5
    text = engine.generate("Once", guidance_scale=scale, negative_prompt_ids=negative, max_tokens=8)
    led, other = [*b"Once"], [*unguided]
    assert text.tokens
    for id, logprob in zip(text.tokens, text.logprobs, strict=True):
        c, u = (engine.core.logits(ids)[-1].astype(np.float64) for ids in (led, other))
        logits = u + scale * (c - u)
        assert logits[id] >= logits.max() - 1e-4
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        assert logprob == pytest.approx(logits[id] - total, abs=1e-3)
        led.append(id)
        other.append(id)
    assert text.tokens != engine.generate("Once", max_tokens=8).tokens


def test_a_scale_of_one_changes_nothing_and_a_seed_repeats(engine):
    assert engine.generate("Once", guidance_scale=1.0, max_tokens=8) == engine.generate("Once", max_tokens=8)
    warm = {"guidance_scale": 1.7, "temperature": 1.0, "max_tokens": 8, "seed": 4}
    assert engine.generate("Once", **warm).tokens == engine.generate("Once", **warm).tokens


def test_guidance_and_constraints_go_together(engine):
    free = engine.generate("Once", guidance_scale=2.0, max_tokens=8)
    letter = next(one for one in str(free) if one.strip())
    held = engine.generate(
        "Once", guidance_scale=2.0, max_tokens=8, constraints=Banned(letter, whole_words=False), energy=1e3
    )
    assert letter.casefold() not in held.casefold()


def test_what_makes_no_sense_is_refused(engine):
    for scale in (-1, float("nan"), False, "2", 101):
        with pytest.raises(SamplingError, match="guidance_scale"):
            engine.generate("Once", guidance_scale=scale)
    with pytest.raises(SamplingError, match="belongs to guidance_scale"):
        engine.generate("Once", negative_prompt_ids="x")
    with pytest.raises(SamplingError, match="negative prompt has"):
        engine.generate("Once", guidance_scale=2, negative_prompt_ids="x" * 90, max_tokens=50)
