"""Sessions of the torch backend do what native ones do: the same tokens, blocks, beginnings and faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine, InferenceCore
from ai_os_diffusion.utils.errors import DeviceError, InferenceError, ShapeError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

SETTINGS = [
    {"temperature": 0.8},
    {"temperature": 1.3, "top_k": 7},
    {"temperature": 1.0, "top_p": 0.7, "min_p": 0.02},
    {"temperature": 0.9, "repetition_penalty": 1.4},
    {"repetition_penalty": 1.3},
]


@pytest.fixture(scope="module")
def cores(tiny_decoder_dir: Path):
    """The same weights on both backends, native first."""
    with (
        ArrowEngine(tiny_decoder_dir, device="cpu") as native,
        ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as other,
    ):
        yield native.core, other.core


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_greedy_tokens_are_those_of_the_native_core(cores):
    for seed in range(6):
        prompt = np.random.default_rng(seed).integers(0, 250, 3 + 13 * seed, dtype=np.int32)
        written = []
        for core in cores:
            session = core.session(96)
            session.prefill(prompt)
            written.append(session.generate(16))
            assert len(session) == len(prompt) + 16
        np.testing.assert_array_equal(*written)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_seed_draws_the_tokens_that_it_draws_natively(cores, settings):
    written = []
    for core in cores:
        session = core.session(64)
        session.prefill(ids(5, 6, 7, 8, 9))
        sampler = _native.Sampler(**settings, seed=11)
        tokens = []
        for _ in range(20):
            id, logprob = session.sample(sampler)
            tokens.append((id, pytest.approx(logprob, abs=1e-4)))
            session.push(id)
        # Ahead of the host it is the same sequence.
        tokens += [(int(id), 0.0) for id in session.generate(20, sampler)]
        written.append([id for id, _ in tokens])
    assert written[0] == written[1]


def test_texts_of_different_settings_step_together(cores):
    _, core = cores
    samplers = lambda: [_native.Sampler(), *(_native.Sampler(**each, seed=3) for each in SETTINGS)]  # noqa: E731
    prompts = [np.arange(4 + 9 * index, dtype=np.int32) for index in range(len(samplers()))]
    alone = []
    for prompt, sampler in zip(prompts, samplers(), strict=True):
        session = core.session(96)
        session.prefill(prompt)
        alone.append(session.generate(40, sampler))
    sessions = [core.session(96) for _ in prompts]
    type(sessions[0]).prefill_all(sessions, prompts)
    together = type(sessions[0]).generate_all(sessions, 40, samplers())
    np.testing.assert_array_equal(together, alone)


def test_blocks_are_predicted_as_natively(cores):
    block, rows = ids(1, 1, 30, 1, 1, 1), np.array([0, 1, 3, 5])
    for sampler in ({}, {"temperature": 0.9, "top_p": 0.8, "seed": 4}):
        found = []
        for core in cores:
            session = core.session(96)
            session.prefill(np.arange(70, dtype=np.int32), causal=False)
            first = session.predict(
                block, rows, _native.Sampler(**sampler), top_k=3, forbidden=[1], logits=True
            )
            # It left nothing behind.
            again = session.predict(block, rows, _native.Sampler(**sampler), top_k=3, forbidden=[1])
            np.testing.assert_array_equal(first[0], again[0])
            assert len(session) == 70
            found.append(first)
        for got, expected in zip(found[1], found[0], strict=True):
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_a_prompt_is_read_with_its_block_as_before_it(cores):
    prompts, block = [np.arange(70, dtype=np.int32), ids(9, 8, 7)], ids(1, 1, 30, 1)
    found = []
    for core in cores:
        before, at_once = ([core.session(96) for _ in prompts] for _ in range(2))
        type(before[0]).prefill_all(before, prompts, causal=False)
        asked = {
            "samplers": [_native.Sampler(), _native.Sampler()],
            "top_k": 3,
            "forbidden": [1],
        }
        rows = [np.array([0, 3])] * 2
        found.append(type(before[0]).predict_all(before, [block, block], rows, **asked))
        found.append(
            type(before[0]).predict_all(
                at_once,
                [np.concatenate([prompt, block]) for prompt in prompts],
                [rows[0] + len(prompt) for prompt in prompts],
                places=[(ids(), len(prompt)) for prompt in prompts],
                prefix=True,
                **asked,
            )
        )
        assert [len(session) for session in at_once] == [70, 3]
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            for got, expected in zip(theirs[:5], mine[:5], strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_blocks_of_several_texts_are_one_pass_and_as_natively(cores, monkeypatch):
    generator = np.random.default_rng(5)
    prompts = [generator.integers(2, 250, length, dtype=np.int32) for length in (3, 70, 20, 64, 41)]
    blocks = [np.array([1, *generator.integers(2, 250, length)], np.int32) for length in (1, 5, 15, 2, 9)]
    rows = [np.array([0, len(block) - 1]) for block in blocks]
    passes = []
    network = type(cores[1].backend.network)
    run = network.__call__
    monkeypatch.setattr(network, "__call__", lambda *asked: passes.append(1) or run(*asked))
    found = []
    for core in cores:
        sessions = [core.session(96) for _ in prompts]
        others = [core.session(96) for _ in prompts]
        for session, other, prompt in zip(sessions, others, prompts, strict=True):
            session.prefill(prompt, causal=False)
            other.prefill(prompt[:2], causal=False)
        samplers = [_native.Sampler(temperature=0.9 * (at % 2), seed=at) for at in range(len(prompts))]
        passes.clear()
        asked = (sessions, blocks, rows, samplers)
        held = [[(0, [7, 9])], [], [(1, [30])], [], []]
        told = type(sessions[0]).predict_all(*asked, top_k=2, forbidden=[1], allowed=held)
        told += type(sessions[0]).predict_all(*asked, top_k=2, forbidden=[1], guidance=(1.5, others, blocks))
        found.append(told)
    assert len(passes) == 2
    for got, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        for one, other in zip(got[1:], expected[1:], strict=True):
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4)


def test_a_long_block_is_predicted_as_natively(make_model):
    folder = make_model(decoder=True, max_position_embeddings=512)
    found = []
    for backend in ("native", "torch"):
        with ArrowEngine(folder, device="cpu", backend=backend) as engine:
            session = engine.core.session(500)
            session.prefill(np.arange(100, dtype=np.int32))
            found.append(session.predict(np.arange(300, dtype=np.int32) % 250, np.arange(0, 300, 7)))
    np.testing.assert_array_equal(found[1][0], found[0][0])
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-3, atol=1e-4)


def test_a_truncated_text_goes_on_and_spoils_nobodys_beginning(cores):
    prompt = np.arange(80, dtype=np.int32)
    written = []
    for core in cores:
        first = core.session(96)
        first.prefill(prompt)
        other = core.session(96)
        other.prefill(prompt)
        # What they share is written to behind position 30, by one of them.
        first.truncate(30)
        assert first.logits().shape == (0,)
        with pytest.raises(InferenceError, match="sampling needs at least 1 tokens, got 0"):
            first.sample(_native.Sampler())
        first.prefill(prompt[::-1][:40].copy())
        third = core.session(96)
        third.prefill(prompt)
        written.append([session.generate(8).tolist() for session in (first, other, third)])
        assert written[-1][1] == written[-1][2]
    assert written[0] == written[1]


def test_beginnings_are_shared_and_dropped_within_their_bound(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        page = engine.core.backend._texts.cache.page_bytes
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch", prefix_cache_bytes=3 * page) as engine:
        core = engine.core
        for begin in range(8):
            session = core.session(96)
            session.prefill(np.arange(begin, begin + 70, dtype=np.int32))
        stats = core.prefix_stats()
        assert (stats["pages"], stats["dropped_pages"], stats["reused_tokens"]) == (3, 5, 0)
        assert stats["size_bytes"] == stats["limit_bytes"] == 3 * page
        core.session(96).prefill(np.arange(7, 77, dtype=np.int32))
        assert core.prefix_stats()["reused_tokens"] == 64


def test_memory_grows_and_ended_texts_give_theirs_back(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch", prefix_cache_bytes=0) as engine:
        cache = engine.core.backend._texts.cache
        prompt = np.arange(90, dtype=np.int32)
        sessions = [engine.core.session(96) for _ in range(20)]
        for session in sessions:
            session.prefill(prompt)
        assert all(session.cache_bytes == 2 * cache.page_bytes for session in sessions)
        expected = [session.generate(6).tolist() for session in sessions]
        assert all(tokens == expected[0] for tokens in expected)
        size = cache.size_bytes
        del sessions, session
        for _ in range(3):
            again = [engine.core.session(96) for _ in range(20)]
            again[0].prefill(prompt)
            assert again[0].generate(6).tolist() == expected[0]
            del again
        assert cache.size_bytes == size


def live(engines: list[ArrowEngine], rng: np.random.Generator) -> None:
    """Texts of both engines begin alike, grow, are cut, predict and end in any order."""
    pairs: list[list] = []
    for _ in range(60):
        if len(pairs) < 4:
            pairs.append([engine.core.session(96) for engine in engines])
        place = int(rng.integers(len(pairs)))
        pair, length = pairs[place], len(pairs[place][0])
        act = rng.choice(["read", "read", "write", "cut", "block", "end", "together"])
        if act == "end":
            pairs.pop(place)
        elif act == "cut":
            keep = int(rng.integers(0, length + 1))
            for session in pair:
                session.truncate(keep)
        elif act == "write" and len(pair[0].logits()) and length < 90:
            np.testing.assert_array_equal(*(session.generate(5) for session in pair))
        elif act == "block" and length < 80:
            found = [session.predict(np.arange(16, dtype=np.int32), np.array([2, 9])) for session in pair]
            np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-3, atol=1e-4)
        elif act == "together":
            ready = [pair for pair in pairs if len(pair[0].logits()) and len(pair[0]) < 90]
            if ready:
                one = type(ready[0][1]).generate_all([pair[1] for pair in ready], 4)
                np.testing.assert_array_equal(one, [pair[0].generate(4) for pair in ready])
        else:
            # There are few beginnings, so that texts have pages in common.
            start = 7 * int(rng.random() < 0.2)
            ids = (start + length + np.arange(rng.integers(0, 97 - length))).astype(np.int32)
            for session in pair:
                session.prefill(ids)
        for native, other in pairs:
            assert len(native) == len(other)
            np.testing.assert_allclose(other.logits(), native.logits(), rtol=1e-3, atol=1e-4)


def test_whatever_happens_to_texts_they_read_the_same_and_leave_no_page_behind(tiny_decoder_dir):
    engines = [
        ArrowEngine(tiny_decoder_dir, device="cpu", backend=backend, prefix_cache_bytes=kept)
        for backend, kept in (("native", 0), ("torch", 200_000))
    ]
    for seed in range(4):
        live(engines, np.random.default_rng(seed))
    assert engines[1].core.prefix_stats()["reused_tokens"] > 0
    engines[1].core.session(96)
    texts = engines[1].core.backend._texts
    assert len(texts.cache._holders) - len(texts.cache._free) == 1 + len(texts.prefixes)


def test_texts_that_the_device_has_no_room_for_are_refused(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        texts = engine.core.backend._texts
        texts.cache._room = lambda: 40 * texts.cache.page_bytes
        held = [engine.core.session(96) for _ in range(10)]
        texts.cache._room = lambda: 0
        refused = pytest.raises(DeviceError, match=r"keys and values of 192 tokens need .*free are 0\.00")
        with refused:
            held += [engine.core.session(96) for _ in range(40)]
        del held
        session = engine.core.session(96)
        session.prefill(ids(1, 2, 3))
        assert len(session.generate(4)) == 4


def test_a_pass_without_memory_fails_by_name_and_the_engine_goes_on(tiny_decoder_dir, monkeypatch):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        network = engine.core.backend.network
        expected = engine.generate("abc", max_tokens=8).tokens

        def fail(*_args):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

        session = engine.core.session(32)
        with monkeypatch.context() as patch:
            patch.setattr(type(network), "__call__", fail)
            for call in (
                lambda: session.prefill(ids(1, 2, 3)),
                lambda: engine.core.hidden_states([[1, 2]]),
                lambda: engine.core.logits([1, 2]),
            ):
                with pytest.raises(
                    DeviceError, match=r"cpu: no memory for .*: CUDA out of memory\. .* 2 GiB; give"
                ):
                    call()
        assert len(session) == 0
        session.prefill(ids(1, 2, 3))
        assert engine.generate("abc", max_tokens=8).tokens == expected


def test_texts_are_embedded_in_smaller_parts_where_memory_is_short(tiny_encoder_dir, monkeypatch):
    with ArrowEngine(tiny_encoder_dir, device="cpu", backend="torch") as engine:
        texts = ["one", "two words", "a third text", "x" * 20] * 5
        expected = engine.encode(texts)
        network, sizes = type(engine.core.backend.network), []
        forward = network.__call__

        def short(self, asked, *rest):
            sizes.append(len(asked.ids))
            if len(asked.ids) > 3:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return forward(self, asked, *rest)

        monkeypatch.setattr(network, "__call__", short)
        np.testing.assert_allclose(engine.encode(texts), expected, atol=1e-6)
    assert sizes[0] == 20
    assert sum(size for size in sizes if size <= 3) == 20


def test_what_is_not_finite_is_told_and_stays_with_its_text(make_model):
    folder = make_model(decoder=True)
    with ArrowEngine(folder, device="cpu", backend="torch") as engine:
        good = engine.core.session(96)
        good.prefill(ids(1, 2, 3))
        expected = good.generate(6).tolist()
        embedding = engine.core.backend.network._embedding
        with torch.inference_mode():
            before = embedding[200].clone()
            embedding[200] = float("inf")
        for _ in range(3):
            bad = engine.core.session(96)
            bad.prefill(ids(5, 200, 6))
            with pytest.raises(InferenceError, match="logits are not finite"):
                bad.sample(_native.Sampler())
            with pytest.raises(InferenceError, match="logits are not finite"):
                bad.predict(ids(7, 8), np.array([0]))
            del bad
        with torch.inference_mode():
            embedding[200] = before
        again = engine.core.session(96)
        again.prefill(ids(1, 2, 3))
        assert again.generate(6).tolist() == expected


def test_faults_have_the_names_and_words_of_the_native_core(cores):
    def faults(core: InferenceCore) -> list[tuple[type, str]]:
        session = core.session(8)
        session.prefill(ids(1, 2, 3))
        wide = core.session(96)
        found = []
        for call in (
            lambda: session.prefill(ids(*range(6))),
            lambda: session.prefill(ids(1, 999)),
            lambda: session.prefill(ids(-1), causal=False),
            lambda: core.session(8).generate(1),
            lambda: session.predict(ids(*range(6)), np.array([0])),
            lambda: session.predict(ids(1), np.array([0]), forbidden=[999]),
            lambda: core.session(97),
            lambda: type(wide).prefill_all([wide, wide], [ids(1), ids(2)]),
            lambda: type(wide).prefill_all([wide], []),
            lambda: core.logits([1] * 97),
            lambda: core.logits([999]),
            lambda: core.token_nll([1]),
        ):
            with pytest.raises(InferenceError) as raised:
                call()
            found.append((raised.type, str(raised.value)))
        return found

    native, other = (faults(core) for core in cores)
    assert other == native
    with pytest.raises(ShapeError, match="span 0 has no rows"):
        cores[1].session(8).predict(ids(), np.array([], np.int64))


def test_halves_are_near(tiny_decoder_dir):
    expected = None
    for options in ({}, {"half_cache": True}, {"dtype": "bfloat16"}, {"dtype": "float16"}):
        with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch", **options) as engine:
            session = engine.core.session(64)
            session.prefill(np.arange(20, dtype=np.int32))
            session.push(3)
            logits = session.logits()
        expected = logits if expected is None else expected
        assert np.corrcoef(logits, expected)[0, 1] > 0.999
