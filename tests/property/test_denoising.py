"""Diffusion models of every kind keep what is given, fill each position once and never with the mask.

And a text is the same in any company.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ai_os_diffusion.diffusion import DiffusionCore, DiffusionRequest
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.diffusion_options import SAMPLERS, DiffusionOptions
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from ai_os_diffusion.models.convert import convert_model
from support.diffusion_checkpoints import CHECKPOINTS, MASK, VOCAB, write_checkpoint

WAYS = [("llada", "none"), ("llada", "prefix"), ("llada", "dual"), ("dream", "none"), ("dream", "prefix")]
WAYS += [("dream", "dual"), ("a2d", "dual"), ("sdar", "none"), ("fast_dllm_v2", "none")]
IDS = st.integers(0, VOCAB - 1).filter(lambda id: id != MASK)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder, opened = tmp_path_factory.mktemp("models"), {}
    for kind in CHECKPOINTS:
        write_checkpoint(folder / kind, kind, seed=7)
        convert_model(folder / kind, folder / f"{kind}-out")
        opened[kind] = ArrowEngine(folder / f"{kind}-out", device="cpu")
    yield opened
    for engine in opened.values():
        engine.close()


@st.composite
def texts(draw):
    """A prompt, blocks with given text and open positions, and how they are written."""
    prompt = draw(st.lists(IDS, max_size=12))
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        ids = draw(st.lists(st.just(MASK) | IDS, min_size=1, max_size=10))
        ids[draw(st.integers(0, len(ids) - 1))] = MASK
        blocks.append(np.array(ids, np.int32))
    sampler = draw(st.sampled_from([None, *SAMPLERS]))
    options = DiffusionOptions(sampler=sampler, temperature=draw(st.sampled_from([0.0, 1.0])))
    return np.array(prompt, np.int32), blocks, options, draw(st.integers(0, 99)), draw(st.booleans())


def request(settings, text):
    prompt, blocks, options, seed, stops = text
    return DiffusionRequest(
        prompt,
        blocks,
        options.sampler_of(settings, blocks, by_token=False),
        temperature=options.temperature,
        seed=seed,
        top_k=options.told,
        stops=stops,
    )


def found(written):
    return [canvas.ids.tolist() for canvas in written.canvases], written.passes, written.is_ended


@pytest.mark.parametrize(("kind", "cache"), WAYS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(several=st.lists(texts(), min_size=1, max_size=4), most=st.sampled_from([None, 1, 2]))
def test_any_texts_in_any_company(engines, kind, cache, several, most):
    engine = engines[kind]
    how = replace(engine.metadata.diffusion, cache=cache)
    denoiser = SessionDenoiser(engine.core, engine.core.cards.in_use("diffusion"), how, frozenset([5]))
    together = DiffusionCore(denoiser).write((request(how, text) for text in several), most=most)
    for text, written in zip(several, together, strict=True):
        (alone,) = DiffusionCore(denoiser).write([request(how, text)])
        assert found(alone) == found(written)
        _, blocks, options, _, _ = text
        for block, canvas in zip(blocks, written.canvases, strict=False):
            given_rows = block != MASK
            assert (canvas.ids[given_rows] == block[given_rows]).all()
            assert not canvas.is_given[~given_rows].any()
            assert (canvas.ids[~canvas.is_open] != MASK).all()
            if options.sampler != "remdm":
                assert not canvas.revisions.any()
            if not written.is_ended:
                assert not canvas.is_open.any()
