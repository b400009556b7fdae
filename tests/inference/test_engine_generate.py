"""ArrowEngine writes text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.inference import ArrowEngine, Generation
from ai_os_diffusion.inference.generation.generation_stream import StopStrings
from ai_os_diffusion.utils.errors import InferenceError, SamplingError

WARM = {"temperature": 1.2, "max_tokens": 40}


@pytest.fixture(scope="module")
def engine(tiny_decoder_dir, backend):
    with ArrowEngine(tiny_decoder_dir, num_threads=2, backend=backend, device="cpu") as engine:
        yield engine


def test_a_generation_is_a_str_that_knows_how_it_came_about(engine):
    text = engine.generate("Once", max_tokens=12)
    assert isinstance(text, str)
    assert isinstance(text, Generation)
    assert text.text == str(text)
    assert text.usage.prompt_tokens == 4
    assert text.usage.completion_tokens == len(text.tokens) + (text.finish_reason == "stop")
    assert len(text.logprobs) == len(text.tokens)
    assert all(logprob <= 0 for logprob in text.logprobs)
    assert str(text) == engine.tokenizer.decode(text.tokens)
    assert text.timings.prefill_s > 0


def test_greedy_follows_the_logits(engine):
    text = engine.generate("Once", max_tokens=10)
    ids = [*b"Once"]
    for id, logprob in zip(text.tokens, text.logprobs, strict=True):
        logits = engine.core.logits(ids)[-1].astype(np.float64)
        assert id == logits.argmax()
        assert logprob == pytest.approx(logits[id] - np.log(np.exp(logits).sum()), abs=1e-4)
        ids.append(id)


def test_a_seed_repeats_and_streams_join(engine):
    texts = [engine.generate("Once", seed=seed, **WARM) for seed in (1, 1, 2)]
    assert texts[0].tokens == texts[1].tokens != texts[2].tokens
    drawn = engine.generate("Once", **WARM)
    assert engine.generate("Once", seed=drawn.seed, **WARM).tokens == drawn.tokens
    for seed in range(8):
        stream = engine.generate("Once", seed=seed, stream=True, **WARM)
        pieces = list(stream)
        whole = engine.generate("Once", seed=seed, **WARM)
        assert "".join(pieces) == whole == stream.generation
        assert stream.generation.finish_reason == whole.finish_reason


class ScriptedSession:
    """Writes given tokens."""

    def __init__(self, ids) -> None:
        self.ids, self.read = iter(ids), []

    def prefill(self, ids) -> None:
        self.read += list(ids)

    def push(self, id) -> None:
        self.read.append(id)

    def sample(self, sampler):
        return next(self.ids), -0.5


def scripted(engine, monkeypatch, text, **options):
    session = ScriptedSession([*text.encode(), 258])
    monkeypatch.setattr(engine.core.backend, "session", lambda *_: session)
    return engine.generate("x", max_tokens=90, **options)


def test_pieces_are_whole_characters(engine, monkeypatch):
    text = "Grüße, 世界! 👩‍🚀"
    pieces = list(scripted(engine, monkeypatch, text, stream=True))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert len(pieces) > 10


def test_end_and_stop_strings(engine, monkeypatch):
    whole = scripted(engine, monkeypatch, "one two three")
    assert (whole, whole.finish_reason, whole.usage.completion_tokens) == ("one two three", "stop", 14)
    cut = scripted(engine, monkeypatch, "one two three", stop=["thr", "two"])
    assert (cut, cut.finish_reason) == ("one ", "stop")
    late = scripted(engine, monkeypatch, "one two three", stop="three!")
    assert (late, late.finish_reason) == ("one two three", "stop")
    for stop in ([""], [3], ""):
        with pytest.raises(SamplingError, match="stop"):
            engine.generate("x", stop=stop)


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_stop_strings_never_leak(text, stops, size):
    matcher = StopStrings(stops)
    passed = ""
    for start in range(0, len(text), size):
        passed += matcher.feed(text[start : start + size])
        assert not any(stop in passed for stop in stops)
    passed += matcher.finish()
    # A stop string ends the text as soon as it is complete; of those complete at once the first begins it.
    ends = {start + len(stop) for stop in stops for start in range(len(text)) if text.startswith(stop, start)}
    assert matcher.found == bool(ends)
    if not stops or not ends:
        assert passed == text
    else:
        assert text.startswith(passed)
        assert any(text.startswith(stop, len(passed)) for stop in stops)


def test_messages_go_through_the_template(engine):
    turns = [{"role": "user", "content": "hi"}]
    ids = engine.tokenizer.apply_chat_template(turns, tokenize=True)
    assert ids[0] == 257
    text = engine.generate(messages=turns, max_tokens=5)
    assert text.usage.prompt_tokens == len(ids)
    assert engine.generate(turns, max_tokens=5) == text
    for wrong in ({"prompt": "a", "messages": turns}, {}, {"messages": []}, {"prompt": 3}):
        with pytest.raises(InferenceError, match=r"expected"):
            engine.generate(**wrong)


def test_the_window_ends_a_text(engine):
    prompt = "y" * 90
    text = engine.generate(prompt, max_tokens=50, temperature=1.0, seed=3)
    assert len(text.tokens) <= 6
    assert text.finish_reason == "length" or len(text.tokens) < 6
    with pytest.raises(InferenceError, match="expected 1 to 95; shorten it"):
        engine.generate("y" * 96)
    with pytest.raises(InferenceError, match="the prompt is empty; expected some text"):
        engine.generate("")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 2.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"seed": -1}, "seed is -1"),
        ({"mode": "both"}, "mode"),
    ],
)
def test_settings_out_of_range_are_named(engine, options, name):
    with pytest.raises(SamplingError, match=name):
        engine.generate("x", **options)


def test_names_of_transformers_mean_the_same(engine):
    expected = engine.generate("Once", max_tokens=6)
    ids = engine.tokenizer.encode("Once").flat_ids
    rows = np.stack([ids, ids])[:1]
    for options in (
        {"max_new_tokens": 6},
        {"max_new_tokens": 6, "max_tokens": 6},
        {"max_length": 10},
        {"max_length": 99, "max_new_tokens": 6},
        {"max_new_tokens": 6, "do_sample": False, "temperature": 0.7},
        {"max_new_tokens": 6, "num_beams": 1, "use_cache": True, "num_return_sequences": 1, "streamer": None},
    ):
        assert engine.generate("Once", **options).tokens == expected.tokens
    for prompt in (ids, ids.tolist(), rows, [ids.tolist()]):
        assert engine.generate(prompt, max_new_tokens=6).tokens == expected.tokens
        assert engine.generate(input_ids=prompt, max_new_tokens=6).tokens == expected.tokens
    padded = np.concatenate([[[0, 0]], rows], axis=1)
    mask = [[0, 0, 1, 1, 1, 1]]
    assert engine.generate(inputs=padded, attention_mask=mask, max_new_tokens=6).tokens == expected.tokens
    drawn = engine.generate("Once", max_new_tokens=20, do_sample=True, seed=3)
    assert drawn.tokens == engine.generate("Once", max_tokens=20, temperature=1.0, seed=3).tokens
    stopped = engine.generate("Once", max_new_tokens=6, stop_strings=expected[2])
    assert stopped == engine.generate("Once", max_new_tokens=6, stop=expected[2])
    last = expected.tokens[-1]
    ended = engine.generate("Once", max_new_tokens=6, eos_token_id=[last, 258])
    assert (ended.tokens, ended.finish_reason) == (expected.tokens[: expected.tokens.index(last)], "stop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 5, "max_tokens": 6}, "max_tokens and max_new_tokens are one setting"),
        ({"stop": "a", "stop_strings": "b"}, "stop and stop_strings are one setting"),
        ({"do_sample": True, "temperature": 0.0}, "contradict"),
        ({"num_beams": 4}, "num_beams is 4, expected 1"),
        ({"num_return_sequences": 2}, "num_return_sequences is 2, expected 1"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size is 3"),
        ({"streamer": object()}, "streamer is not supported; pass stream=True"),
        ({"output_scores": True}, "output_scores is not supported; read `logprobs`"),
        ({"generation_config": {}}, "generation_config is not supported"),
        ({"pad_token_id": 0}, "pad_token_id is not supported"),
        ({"max_length": 1}, "max_length is 1, expected more than the 1 tokens of the prompt"),
        ({"max_length": 0}, "max_length is 0"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"attention_mask": [1]}, "attention_mask belongs to ids"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(engine, options, message):
    with pytest.raises(SamplingError, match=message):
        engine.generate("x", **options)


def test_an_unknown_argument_is_pythons_error(engine):
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_tokenz'"):
        engine.generate("x", max_tokenz=3)


def test_ids_of_several_prompts_are_refused(engine):
    with pytest.raises(InferenceError, match="ids of one prompt, got 2"):
        engine.generate([[1, 2], [3, 4]])
    with pytest.raises(InferenceError):
        engine.generate([70000])


def test_a_stream_may_be_left_early(engine):
    stream = engine.generate("Once", stream=True, seed=1, **WARM)
    first = next(stream)
    stream.close()
    assert list(stream) == []
    assert stream.generation == first
    assert stream.generation.finish_reason == "abandoned"


def test_perplexity_counts_as_documented(engine):
    text = "The quick brown fox jumps over the lazy dog and runs on through the wood."
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def losses(begin: int, end: int, first: int) -> list[float]:
        logits = engine.core.logits(ids[begin:end]).astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return [-logs[i - begin - 1, ids[i]] for i in range(first, end)]

    whole = losses(0, len(ids), 1)
    assert engine.perplexity(text, context=90) == pytest.approx(np.exp(np.mean(whole)), rel=1e-4)
    disjoint = [
        loss
        for begin in range(0, len(ids), 20)
        for loss in losses(begin, min(begin + 20, len(ids)), begin + 1)
    ]
    assert engine.perplexity(text, context=20) == pytest.approx(np.exp(np.mean(disjoint)), rel=1e-4)
    sliding = losses(0, 20, 1)
    for begin in range(8, len(ids), 8):
        end = min(begin + 20, len(ids))
        sliding += losses(begin, end, begin + 12)
        if end == len(ids):
            break
    assert len(sliding) == len(ids) - 1
    assert engine.perplexity(text, context=20, stride=8) == pytest.approx(np.exp(np.mean(sliding)), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a", {}),
        ("", {}),
        ("abc", {"context": 1}),
        ("abc", {"context": 97}),
        ("abc", {"context": 8, "stride": 9}),
    ],
)
def test_perplexity_refuses_what_it_cannot_count(engine, text, options):
    with pytest.raises(InferenceError, match=r"expected|at least 2"):
        engine.perplexity(text, **{"context": 16, **options})


def test_a_half_precision_cache_is_close(tiny_decoder_dir):
    half = ArrowEngine(tiny_decoder_dir, half_cache=True)
    session, exact = half.core.session(96), ArrowEngine(tiny_decoder_dir).core.session(96)
    ids = np.arange(70, dtype=np.int32)
    session.prefill(ids)
    exact.prefill(ids)
    np.testing.assert_allclose(session.logits(), exact.logits(), atol=2e-2)
    assert session.cache_bytes * 2 == exact.cache_bytes
