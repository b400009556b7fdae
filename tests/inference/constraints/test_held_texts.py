"""Both ways of writing, held to constraints: scores as documented, and refusals by name."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, Banned, FollowsSchema, Matches, Required
from ai_os_diffusion.utils.errors import ConstraintError, SamplingError
from support.diffusion_cards import card

MOST = {"max_tokens": 12}
BYTES = 256
"""Ids of them; behind them stand special tokens."""


@pytest.fixture(scope="module")
def engine(tiny_decoder_dir, backend):
    with ArrowEngine(tiny_decoder_dir, num_threads=2, backend=backend, device="cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def diffusing(tiny_decoder_dir, tmp_path_factory):
    with ArrowEngine(tiny_decoder_dir, num_threads=2, device="cpu") as engine:
        engine.attach(card(engine, tmp_path_factory.mktemp("cards") / "writes.parquet"))
        yield engine


def test_what_nothing_is_wrong_with_is_written_as_without(engine, diffusing):
    held = Banned("a phrase that no bytes spell by chance")
    for seed, temperature in ((1, 0.0), (2, 0.8)):
        options = {"seed": seed, "temperature": temperature, **MOST}
        free, bound = engine.generate("Once", **options), engine.generate("Once", constraints=held, **options)
        assert temperature or (free.tokens, free.finish_reason) == (bound.tokens, bound.finish_reason)
        assert bound.attempts == free.attempts == 1
        free, bound = (
            diffusing.diffuse("Once", **options),
            diffusing.diffuse("Once", constraints=held, **options),
        )
        assert (free.tokens, free.confidences) == (bound.tokens, bound.confidences)


def test_a_token_loses_as_much_as_it_adds_to_the_energy(engine):
    """Greedily: for weights below and above the gap of the two best."""
    ids = engine.tokenizer.encode("Once", padding=False).flat_ids
    logits = engine.core.logits(ids)[-1].astype(np.float64)
    texts = {id: engine.tokenizer.decode([id]) for id in range(BYTES)}
    order = sorted(texts, key=lambda id: -logits[id])
    # Banned is the best; a byte that is no letter of its own counts as any other.
    best, second = order[0], next(id for id in order if texts[id].casefold() != texts[order[0]].casefold())
    if logits[BYTES:].max() > logits[second]:
        pytest.skip("a special token is likelier")
    gap = logits[best] - logits[second]
    for energy, expected in ((gap - 0.01, best), (gap + 0.01, second)):
        held = Banned(texts[best].strip(), whole_words=False) if texts[best].strip() else None
        assert held is not None
        try:
            text = engine.generate("Once", constraints=held, energy=energy, attempts=1, max_tokens=1)
        except ConstraintError as error:
            text = error.text
        assert text.tokens == [expected]
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        assert text.logprobs[0] == pytest.approx(logits[expected] - total, abs=1e-4)


def test_a_stream_has_the_whole_text_as_its_one_piece(engine):
    stream = engine.generate("Once", constraints=Matches("[a-z]{4}"), stream=True, **MOST)
    assert len(list(stream)) == 1
    assert len(stream.generation) == 4
    assert stream.generation.attempts >= 1
    assert stream.generation.usage.completion_tokens == 5


def test_attempts_go_on_with_the_next_seeds(engine):
    wanted = {"constraints": Required("z"), "temperature": 1.0, "seed": 5, "max_tokens": 3}
    with pytest.raises(ConstraintError) as raised:
        engine.generate("Once", energy=0.0, attempts=2, **wanted)
    assert raised.value.text.seed in (5, 6)
    assert raised.value.text == engine.generate(
        "Once", temperature=1.0, seed=raised.value.text.seed, max_tokens=3
    )
    assert "z" in engine.generate("Once", energy=1e4, **wanted).casefold()


def test_without_room_for_what_is_required_the_error_says_so(engine, diffusing):
    for write in (engine.generate, diffusing.diffuse):
        with pytest.raises(ConstraintError, match="'much longer than that' is missing"):
            write("Once", constraints=Required("much longer than that"), max_tokens=4)


def test_settings_that_contradict_are_refused(engine, diffusing):
    held = Banned("a")
    with pytest.raises(SamplingError, match="belong to constraints"):
        engine.generate("Once", energy=1.0)
    with pytest.raises(SamplingError, match="use mode='ar', or diffuse"):
        diffusing.generate("Once", mode="diffusion", constraints=held)
    with pytest.raises(SamplingError, match="call diffuse"):
        diffusing.diffuse_stream("Once", constraints=held)
    with pytest.raises(SamplingError, match="held to its schema"):
        diffusing.diffuse(template={"a": str}, constraints=held)
    with pytest.raises(SamplingError, match="give one"):
        diffusing.diffuse("Once", context="Once", extractive=True, constraints=held)
    with pytest.raises(SamplingError, match=r"bad_words_ids.*Banned"):
        engine.generate("Once", bad_words_ids=[[1]])


def test_a_schema_is_held_to_left_to_right(engine):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    assert engine.generate("Once", constraints=FollowsSchema(schema), max_tokens=40).strip().startswith("{")


@pytest.mark.models
def test_a_real_model_is_held_to_words_patterns_and_schemas(smollm2_dir):
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    with ArrowEngine(smollm2_dir, device="cpu") as engine:
        assert "Paris" in engine.generate(messages=turn, max_tokens=16)
        assert (
            "paris"
            not in engine.generate(messages=turn, constraints=Banned("Paris"), max_tokens=16).casefold()
        )
        assert "river" in engine.generate(messages=turn, constraints=Required("river"), max_tokens=32)
        year = [{"role": "user", "content": "When did the French revolution begin?"}]
        assert engine.generate(messages=year, constraints=Matches(r"\d{4}"), max_tokens=16) == "1789"
