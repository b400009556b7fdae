"""Each family of diffusion models writes, token for token, what its paper's definition makes of its
checkpoint.

The references are plain loops over a network in NumPy (`support.diffusion_checkpoints`), which reads the
checkpoint's own tensors; each computes a whole text in every pass unless what it is about is a cache. The
mask is never predicted.
"""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from support.diffusion_checkpoints import CHECKPOINTS, EOS, MASK, VOCAB, write_checkpoint

PROMPTS = [[7], [72, 101, 108, 108, 111], list(range(60, 97)), list(range(40, 72))]
BACKENDS = ["native", pytest.param("torch", marks=pytest.mark.torch)]


@pytest.fixture(scope="module", params=BACKENDS)
def model(request, tmp_path_factory):
    """Makes an engine and its NumPy network of a kind."""
    if request.param == "torch":
        pytest.importorskip("torch")
    folder, opened = tmp_path_factory.mktemp("families"), {}

    def make(kind, **diffusion):
        key = (kind, *diffusion.items())
        if key not in opened:
            source = folder / f"{len(opened)}"
            network = write_checkpoint(source, kind, seed=3)
            convert_model(source, f"{source}-out", diffusion=diffusion or None)
            opened[key] = ArrowEngine(f"{source}-out", device="cpu", backend=request.param), network
        return opened[key]

    yield make
    for engine, _ in opened.values():
        engine.close()


def softmax(logits):
    logits = np.array(logits)
    logits[..., MASK] = -np.inf
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def until_end(ids):
    ids = list(ids)
    return ids[: ids.index(EOS)] if EOS in ids else ids


def shares(count, steps):
    """n_i of LLaDA's `get_num_transfer_tokens`."""
    return [count // steps + (i < count % steps) for i in range(steps)]


def surest(p, masked, count):
    return sorted(masked, key=lambda j: -p[j].max())[:count]


def above(p, masked, threshold):
    return {*surest(p, masked, 1), *(j for j in masked if p[j].max() >= threshold)}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_logits_are_those_of_the_network(model, kind):
    """All of a text seen from everywhere, and in blocks."""
    engine, network = model(kind)
    ids = np.random.default_rng(1).integers(0, VOCAB, 37)
    session = engine.core.session(len(ids))
    found = session.predict(ids.astype(np.int32), np.arange(len(ids)), logits=True)[5]
    np.testing.assert_allclose(found, network(ids)[0], atol=2e-3)
    for length in (4, 32):
        blocks = np.arange(len(ids)) // length
        expected = network(ids, sees=blocks[:, None] >= blocks)[0]
        for start in range(0, len(ids), length):
            part = ids[start : start + length].astype(np.int32)
            found = session.predict(part, np.arange(len(part)), logits=True)[5]
            np.testing.assert_allclose(found, expected[start : start + length], atol=2e-3)
            session.prefill(part, causal=False) if start + length < len(ids) else None
        session.truncate(0)


def llada(network, prompt, wanted, length, steps=None, threshold=None):
    """LLaDA, algorithm 5 in blocks: every pass sees the whole canvas, what is behind the block masked."""
    text = [*prompt, *[MASK] * wanted]
    for start in range(len(prompt), len(text), length):
        end = min(start + length, len(text))
        left = shares(end - start, steps) if steps else []
        while MASK in text[start:end]:
            p = softmax(network(text)[0])
            masked = [j for j in range(start, end) if text[j] == MASK]
            chosen = surest(p, masked, left.pop(0)) if steps else above(p, masked, threshold)
            for j in chosen:
                text[j] = int(p[j].argmax())
    return until_end(text[len(prompt) :])


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", ["llada", "a2d"])
def test_llada_and_mdlm(model, kind, prompt):
    engine, network = model(kind)
    for wanted, length, steps in ((16, 16, 5), (24, 8, 3), (20, 8, 4)):
        blocks = -(-wanted // length)
        found = engine.generate(
            prompt, mode="diffusion", max_tokens=wanted, block_length=length, num_steps=steps * blocks
        )
        assert found.tokens == llada(network, prompt, wanted, length, steps=steps)
    found = engine.generate(prompt, mode="diffusion", max_tokens=40, threshold=0.2)
    assert found.tokens == llada(network, prompt, 40, 32, threshold=0.2)
    assert found.steps < 40


@pytest.mark.parametrize("scale", [0.5, 2.5])
def test_guidance_of_llada(model, scale):
    """l = u + (w + 1)(c - u), u of a text whose prompt is masked; `guidance_scale` is w + 1."""
    engine, network = model("llada")
    turns = [{"role": "user", "content": "Hello"}]
    prompt = engine.tokenizer.apply_chat_template(turns, tokenize=True).tolist()
    text, start = [*prompt, *[MASK] * 12], len(prompt)
    for _ in range(4):
        told, untold = network(text)[0], network([*[MASK] * start, *text[start:]])[0]
        p = softmax(untold + scale * (told - untold))
        for j in surest(p, [j for j in range(start, len(text)) if text[j] == MASK], 3):
            text[j] = int(p[j].argmax())
    options = {"max_tokens": 12, "block_length": 12, "num_steps": 4, "guidance_scale": scale}
    assert engine.diffuse(turns, **options).tokens == until_end(text[start:])
    # The untold text keeps what the told one does.
    for cache in ("prefix", "dual"):
        found = engine.diffuse(turns, cache=cache, **{**options, "num_steps": 1})
        assert found.tokens == engine.diffuse(turns, **{**options, "num_steps": 1}).tokens
        assert engine.diffuse(turns, cache=cache, **options).tokens


def fast_dllm(network, prompt, wanted, length, threshold, cache, shift):
    """Fast-dLLM with a cache (arXiv:2505.22618, and its code for Dream): the first pass of a block reads the
    whole canvas; then keys around the block stay as they were in it. With shift that pass commits the first
    position alone.
    """
    text = np.array([*prompt, *[MASK] * wanted])
    for start in range(len(prompt), len(text), length):
        end = min(start + length, len(text))
        logits, keys = network(text)
        p = softmax(logits)
        if shift:
            text[start] = p[start - 1].argmax()
        else:
            for j in above(p, range(start, end), threshold):
                text[j] = p[j].argmax()
        around = np.r_[0:start, end : len(text)] if cache == "dual" else np.r_[0:start]
        kept = [(k[around], v[around]) for k, v in keys]
        rows = np.arange(start, end) if cache == "dual" else np.arange(start, len(text))
        while (text[start:end] == MASK).any():
            p = softmax(network(text[rows], rows, kept=kept)[0])
            p = np.concatenate([p[:1], p[:-1]]) if shift else p
            masked = np.flatnonzero(text[start:end] == MASK)
            for j in above(p, masked, threshold):
                text[start + j] = p[j].argmax()
    return until_end(text[len(prompt) :].tolist())


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_fast_dllm_caches(model, kind, cache, prompt):
    engine, network = model(kind)
    for wanted, length, threshold in ((24, 8, 0.2), (20, 8, 0.9)):
        found = engine.generate(
            prompt,
            mode="diffusion",
            max_tokens=wanted,
            block_length=length,
            threshold=threshold,
            cache=cache,
        )
        expected = fast_dllm(network, prompt, wanted, length, threshold, cache, kind == "dream")
        assert found.tokens == expected


def dream(network, prompt, wanted, steps, algorithm):
    """Dream's `diffusion_generate`: logits shifted by one, t = linspace(1, 0.001)."""
    start, text = len(prompt), [*prompt, *[MASK] * wanted]
    times = np.linspace(1, 1e-3, steps + 1)
    for i in range(steps):
        logits = network(text)[0]
        p = softmax(np.concatenate([logits[:1], logits[:-1]]))
        masked = [j for j in range(start, len(text)) if text[j] == MASK]
        count = int(len(masked) * (1 - times[i + 1] / times[i])) if i < steps - 1 else len(masked)
        ranked = np.sort(p, -1)[:, ::-1]
        score = {
            "maskgit_plus": ranked[:, 0],
            "topk_margin": ranked[:, 0] - ranked[:, 1],
            "entropy": (p * np.log(np.maximum(p, 1e-300))).sum(-1),
        }[algorithm]
        for j in sorted(masked, key=lambda j: -score[j])[:count]:
            text[j] = int(p[j].argmax())
    return until_end(text[start:])


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "topk_margin", "entropy"])
def test_dream(model, algorithm, prompt):
    engine, network = model("dream")
    found = engine.generate(
        prompt, mode="diffusion", max_tokens=20, block_length=20, num_steps=6, sampler=algorithm
    )
    assert found.tokens == dream(network, prompt, 20, 6, algorithm)


def in_blocks(network, text, length):
    """Logits of a text in which every position sees its block and those before."""
    blocks = np.arange(len(text)) // length
    return network(text, sees=blocks[:, None] >= blocks)[0]


def sdar(network, prompt, wanted, length, threshold=None, steps=None):
    """SDAR's `block_diffusion_generate`, greedy: blocks counted from the beginning, the last one whole."""
    total = -(-(len(prompt) + wanted) // length) * length
    text = [*prompt, *[MASK] * (total - len(prompt))]
    for start in range(len(prompt) // length * length, total, length):
        left = shares(text[start : start + length].count(MASK), steps) if steps else []
        while MASK in text[start : start + length]:
            p = softmax(in_blocks(network, text[: start + length], length))
            masked = [j for j in range(start, start + length) if text[j] == MASK]
            chosen = surest(p, masked, left.pop(0)) if steps else above(p, masked, threshold)
            for j in chosen:
                text[j] = int(p[j].argmax())
    return until_end(text[len(prompt) :][:wanted])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_sdar(model, prompt):
    engine, network = model("sdar")
    for wanted, threshold in ((20, 0.9), (23, 0.2)):
        found = engine.generate(prompt, mode="diffusion", max_tokens=wanted, threshold=threshold)
        assert found.tokens == sdar(network, prompt, wanted, 4, threshold)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_bd3lm(model, prompt):
    """Block diffusion (arXiv:2503.09573) of a checkpoint that does not say so itself."""
    engine, network = model("a2d", attention="block")
    found = engine.generate(prompt, mode="diffusion", max_tokens=40, threshold=0.2)
    assert found.tokens == sdar(network, prompt, 40, 32, 0.2)
    if len(prompt) % 32 == 0:
        found = engine.generate(prompt, mode="diffusion", max_tokens=64, num_steps=16)
        assert found.tokens == sdar(network, prompt, 64, 32, steps=8)


def fast_dllm_v2(network, prompt, wanted, length, sub, threshold):
    """Fast-dLLM v2's `batch_sample` for one text: a block's last state gives the first token of the next;
    then its sub-blocks one after the other, each state predicting the token behind it.
    """
    total = -(-(len(prompt) + wanted) // length) * length
    text = [*prompt, *[MASK] * (total - len(prompt))]
    for start in range(len(prompt) // length * length, total, length):
        if start and text[start] == MASK:
            text[start] = int(softmax(in_blocks(network, text[:start], length))[-1].argmax())
        for begin in range(start, start + length, sub):
            while MASK in text[begin : begin + sub]:
                logits = in_blocks(network, text[: start + length], length)[start:]
                p = softmax(np.concatenate([logits[:1], logits[:-1]]))
                masked = [j - start for j in range(begin, begin + sub) if text[j] == MASK]
                for j in above(p, masked, threshold):
                    text[start + j] = int(p[j].argmax())
    return until_end(text[len(prompt) :][:wanted])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_fast_dllm_v2(model, prompt):
    engine, network = model("fast_dllm_v2")
    for wanted, threshold in ((40, 0.9), (61, 0.2)):
        found = engine.generate(prompt, mode="diffusion", max_tokens=wanted, threshold=threshold)
        assert found.tokens == fast_dllm_v2(network, prompt, wanted, 32, 8, threshold)


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("cache", [None, "prefix", "dual"])
def test_an_end_token_ends_the_text_and_what_is_behind_is_not_written(model, kind, cache):
    engine, _ = model(kind)
    if cache is not None and kind not in ("llada", "a2d", "dream"):
        pytest.skip("its text is blind to what follows")
    asked = {"mode": "diffusion", "max_tokens": 96, "threshold": 0.2, "cache": cache}
    whole = engine.generate([72, 105], **asked)
    at = next(at for at in range(20, 96) if whole.tokens[at] not in whole.tokens[:at])
    ended = engine.generate([72, 105], eos_token_id=whole.tokens[at], **asked)
    assert ended.tokens == whole.tokens[:at]
    assert (ended.finish_reason, whole.finish_reason) == ("stop", "length")
    assert ended.steps < whole.steps
    assert ended.usage.completion_tokens == at + 1
