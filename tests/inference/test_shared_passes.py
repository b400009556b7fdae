"""Callers at the same time share passes; prompts that begin alike share what was computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.errors import ConfigurationError, InferenceError, ShapeError

PROMPTS = ["Once upon a time", "a", "The quick brown fox " * 3, "1 2 3", "fox fox", "b" * 70]


def write(engine: ArrowEngine, index: int) -> tuple[str, list[int]]:
    text = engine.generate(
        PROMPTS[index % len(PROMPTS)], max_tokens=12, temperature=0.9 * (index % 2), seed=index
    )
    return text.text, text.tokens


def test_callers_at_the_same_time_get_what_each_gets_alone(tiny_decoder_dir: Path, backend) -> None:
    with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
        alone = [write(engine, index) for index in range(12)]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda index: write(engine, index % 12), range(48)))
    assert together == alone * 4


def test_a_prompt_that_begins_as_an_earlier_one_is_not_computed_again(
    tiny_decoder_dir: Path, backend, alike
) -> None:
    prompt = np.arange(80, dtype=np.int32) % 50
    on = {"backend": backend, "device": "cpu"}
    with ArrowEngine(tiny_decoder_dir, prefix_cache_bytes=0, **on) as plain:
        expected = plain.generate(prompt, max_tokens=5)
        assert plain.stats["prefix_cache"]["pages"] == 0
    with ArrowEngine(tiny_decoder_dir, **on) as engine:
        first = engine.generate(prompt, max_tokens=5)
        assert engine.stats["prefix_cache"]["reused_tokens"] == 0
        second = engine.generate(prompt, max_tokens=5)
        stats = engine.stats["prefix_cache"]
    assert first.tokens == second.tokens == expected.tokens
    alike(second.logprobs, first.logprobs)
    alike(expected.logprobs, first.logprobs)
    # Whole pages on every backend, what two texts have in common of the last on the native one.
    assert stats["reused_tokens"] in (64, 79)
    assert 0 < stats["size_bytes"] <= stats["limit_bytes"]


def test_a_negative_bound_is_refused(tiny_decoder_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="prefix_cache_bytes is -1, expected 0"):
        ArrowEngine(tiny_decoder_dir, prefix_cache_bytes=-1)


def test_sessions_are_read_together_and_blocks_predicted(tiny_decoder_dir: Path, backend, alike) -> None:
    with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
        ids = [np.arange(length, dtype=np.int32) for length in (3, 40, 9)]
        together = [engine.core.session(64) for _ in ids]
        prefill_all = type(together[0]).prefill_all
        prefill_all(together, ids)
        for session, own in zip(together, ids, strict=True):
            alone = engine.core.session(64)
            alone.prefill(own)
            alike(session.logits(), alone.logits())
        with pytest.raises(InferenceError, match="cache 1 has two writers"):
            prefill_all([together[0], together[0]], ids[:2])
        with pytest.raises(ShapeError, match="ids for each"):
            prefill_all(together, ids[:2])
        session = engine.core.session(64)
        session.prefill(ids[2], causal=False)
        block, rows = np.full(8, 1, np.int32), np.array([0, 7])
        chosen, confidence, entropy, top_ids, top_confidence, logits = session.predict(
            block, rows, top_k=2, forbidden=[1], logits=True
        )
        assert chosen.shape == confidence.shape == entropy.shape == (2,)
        assert top_ids.shape == top_confidence.shape == (2, 2)
        np.testing.assert_array_equal(top_ids[:, 0], chosen)
        assert logits is not None
        np.testing.assert_array_equal(logits.argmax(1), chosen)
        assert 1 not in top_ids
        assert session.predict(block, rows)[5] is None
        assert len(session) == 9
        with pytest.raises(ShapeError, match="wanted rows ascend"):
            session.predict(block, np.array([-1]))
        with pytest.raises(InferenceError, match="do not fit the session of 64"):
            session.predict(np.zeros(60, np.int32), rows)
