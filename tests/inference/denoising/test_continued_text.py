"""`generate(mode="diffusion")` takes what `generate` takes, and writes as `diffuse` does."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, Diffusion, Generation, GenerationStream
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import InferenceError, SamplingError
from support.diffusion_checkpoints import CHECKPOINTS, MASK, write_checkpoint

PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder, opened = tmp_path_factory.mktemp("models"), {}
    for kind in CHECKPOINTS:
        write_checkpoint(folder / kind, kind, seed=5)
        convert_model(folder / kind, folder / f"{kind}-out")
        opened[kind] = ArrowEngine(folder / f"{kind}-out", device="cpu")
    yield opened
    for engine in opened.values():
        engine.close()


def written(engine, prompt=PROMPT, **options):
    return engine.generate(prompt, mode="diffusion", **options)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_result_is_a_generation_and_a_diffusion(engines, kind):
    engine = engines[kind]
    found = written(engine, max_tokens=21, temperature=0.8, seed=4, alternatives=2)
    assert isinstance(found, Diffusion)
    assert isinstance(found, Generation)
    assert found == found.text == engine.tokenizer.decode(found.tokens)
    assert len(found.tokens) == len(found.logprobs) == len(found.confidences) == len(found.alternatives)
    np.testing.assert_allclose(np.exp(found.logprobs), found.confidences, rtol=1e-5)
    assert found.usage.prompt_tokens == len(PROMPT)
    assert found.usage.completion_tokens in (len(found.tokens), len(found.tokens) + 1)
    assert found.timings.decode_s == found.timings.write_s > 0
    assert found.seed == 4
    assert MASK not in found.tokens
    assert written(engine, max_tokens=21, temperature=0.8, seed=4).tokens == found.tokens


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("sampler", [None, "remdm", "factor"])
def test_pieces_join_to_the_text(engines, kind, sampler):
    options = {"max_tokens": 40, "temperature": 1.0, "seed": 2, "sampler": sampler}
    whole = written(engines[kind], **options)
    stream = written(engines[kind], stream=True, **options)
    assert isinstance(stream, GenerationStream)
    assert "".join(stream) == whole
    assert stream.generation.tokens == whole.tokens
    broken = written(engines[kind], stream=True, **options)
    next(broken)
    # What may be taken back is told when it is all there.
    assert (broken.generation.finish_reason == "abandoned") == (sampler != "remdm")
    broken.close()


def test_a_text_a_message_and_ids_are_prompts_as_for_any_decoder(engines):
    engine = engines["llada"]
    options = {"max_tokens": 12, "threshold": 0.3}
    assert written(engine, "Hello", **options).tokens == written(engine, PROMPT, **options).tokens
    turns = [{"role": "user", "content": "Hello"}]
    asked = engine.tokenizer.apply_chat_template(turns, tokenize=True)
    assert written(engine, turns, **options).tokens == written(engine, asked, **options).tokens
    assert written(engine, None, messages=turns, **options).usage.prompt_tokens == len(asked)
    assert engine.diffuse(turns, **options).tokens == written(engine, turns, **options).tokens
    assert (
        written(engine, PROMPT, max_new_tokens=12, threshold=0.3).tokens
        == written(engine, PROMPT, **options).tokens
    )


def test_a_stop_string_ends_the_text(engines):
    engine = engines["llada"]
    whole = written(engine, max_tokens=60, block_length=12)
    stop = whole[20:23]
    at = whole.index(stop)
    found = written(engine, max_tokens=60, block_length=12, stop=stop)
    assert found == whole[:at]
    assert found.finish_reason == "stop"
    assert found.steps < whole.steps
    assert len(found.tokens) < len(whole.tokens)


def test_filters_hold_what_is_drawn(engines):
    engine = engines["llada"]
    greedy = written(engine, max_tokens=24).tokens
    assert written(engine, max_tokens=24, temperature=2.0, top_k=1, seed=1).tokens == greedy
    assert written(engine, max_tokens=24, temperature=2.0, top_p=1e-6, seed=1).tokens == greedy
    assert written(engine, max_tokens=24, temperature=2.0, min_p=1.0, seed=1).tokens == greedy
    assert written(engine, max_tokens=24, temperature=2.0, seed=1).tokens != greedy
    assert engine.diffuse("Hi", temperature=2.0, top_k=1, seed=3).tokens == engine.diffuse("Hi").tokens


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"repetition_penalty": 1.2},
            SamplingError,
            "repetition_penalty is 1.2, expected 1 in mode='diffusion'",
        ),
        ({"max_tokens": 0}, SamplingError, "max_tokens is 0, expected 1 or more"),
        ({"num_steps": 0}, SamplingError, "num_steps is 0, expected a whole number of 1 or more"),
        ({"num_steps": 21, "max_tokens": 20}, SamplingError, "num_steps is 21, expected at most 20"),
        ({"sampler": "best"}, SamplingError, "sampler is 'best', expected one of"),
        ({"cache": "both"}, SamplingError, "cache is 'both', expected one of none, prefix, dual"),
        ({"top_k": -1}, SamplingError, "top_k is -1, expected 0, which is all tokens, or more"),
        ({"top_p": 0.0}, SamplingError, "top_p"),
        ({"temperature": -1.0}, SamplingError, "temperature is -1.0"),
        ({"stop": ""}, SamplingError, "expected non-empty strings"),
        ({"num_beams": 4}, SamplingError, "num_beams is 4, expected 1"),
        ({"nonsense": 4}, TypeError, "unexpected keyword argument 'nonsense'"),
        ({"prompt": list(range(60)) * 3}, InferenceError, "the prompt has 180 tokens, expected 1 to 159"),
        ({"prompt": ""}, InferenceError, "the prompt is empty"),
        ({"prompt": [MASK + 100]}, InferenceError, "outside the vocabulary"),
    ],
)
def test_what_makes_no_sense_is_refused(engines, options, error, message):
    with pytest.raises(error, match=message):
        written(engines["llada"], **options)


def test_modes_are_told_apart(engines, tiny_decoder_dir, tiny_encoder_dir):
    with pytest.raises(SamplingError, match="mode is 'both', expected 'ar' or 'diffusion'"):
        engines["llada"].generate("Hi", mode="both")
    with ArrowEngine(tiny_decoder_dir, device="cpu") as decoder:
        with pytest.raises(InferenceError, match="writes by diffusion with one card of kind 'diffusion'"):
            decoder.generate("Hi", mode="diffusion")
        with pytest.raises(SamplingError, match="num_steps belongs to mode='diffusion'"):
            decoder.generate("Hi", num_steps=3)
    with ArrowEngine(tiny_encoder_dir, device="cpu") as encoder, pytest.raises(InferenceError):
        encoder.generate("Hi", mode="diffusion")


@pytest.mark.parametrize("kind", ["sdar", "fast_dllm_v2"])
def test_a_model_that_keeps_its_blocks_says_what_it_cannot_be_told(engines, kind):
    with pytest.raises(SamplingError, match="cache is 'dual', and this model keeps what it has read"):
        written(engines[kind], cache="dual")
    with pytest.raises(SamplingError, match="block_length is 7, and this model writes in blocks of"):
        written(engines[kind], block_length=7)
    assert written(engines[kind], cache="none", max_tokens=4).tokens


def test_an_end_behind_what_was_asked_for_does_not_end_the_text(engines):
    """Blocks of four are counted from the beginning: behind five tokens of a prompt and six, one is left."""
    engine = engines["sdar"]
    prompt = next(
        prompt
        for first in range(60, 200)
        if (whole := written(engine, prompt := [first, *PROMPT[1:]], max_tokens=7, eos_token_id=258).tokens)
        if len(whole) == 7 and whole[6] not in whole[:6]
    )
    found = written(engine, prompt, max_tokens=6, eos_token_id=whole[6])
    assert (found.tokens, found.finish_reason) == (whole[:6], "length")
    assert written(engine, prompt, max_tokens=7, eos_token_id=whole[6]).finish_reason == "stop"
