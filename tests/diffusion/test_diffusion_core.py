"""Given text stays, every open position is filled once, texts share passes without touching each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_os_diffusion.diffusion import Canvas, DiffusionCore, DiffusionRequest, NoiseScheduler
from ai_os_diffusion.diffusion import samplers as ours
from ai_os_diffusion.diffusion.denoiser import Ask, Reading
from ai_os_diffusion.utils.errors import SamplingError
from support.numpy_denoiser import END, MASK, NumpyDenoiser

SCHEDULER = NoiseScheduler("cosine")
SAMPLERS = {
    "low_confidence": lambda n: {"num_steps": 1 + n // 3},
    "dream": lambda n: {"num_steps": 1 + n // 2, "algorithm": "topk_margin", "alg_temp": 0.5},
    "ancestral": lambda _: {"num_steps": 7, "scheduler": SCHEDULER},
    "remdm": lambda _: {"num_steps": 9, "scheduler": SCHEDULER, "eta": 0.3},
    "by_threshold": lambda _: {"threshold": 0.6},
    "by_factor": lambda _: {"factor": 1.2},
    "by_entropy_bound": lambda _: {"gamma": 0.8},
}
REVISING = {"remdm"}


def sampler_of(name, count):
    keywords = SAMPLERS[name](count)
    return lambda _: lambda canvas, random: getattr(ours, name)(canvas, random, **keywords)


tokens = st.integers(0, END - 1)
blocks = st.lists(st.one_of(tokens, st.just(MASK)), min_size=1, max_size=14).filter(lambda ids: MASK in ids)
texts = st.tuples(
    st.lists(tokens, max_size=6),
    st.lists(blocks, min_size=1, max_size=3),
    st.sampled_from(sorted(SAMPLERS)),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.7]),
)


def request(prompt, canvas_ids, name, seed, temperature, *, stops=False):
    fewest = min(ids.count(MASK) for ids in canvas_ids)
    return DiffusionRequest(
        np.array(prompt, np.int32),
        [np.array(ids, np.int32) for ids in canvas_ids],
        sampler_of(name, fewest - 1),
        temperature=temperature,
        seed=seed,
        top_k=3,
        stops=stops,
    )


def final(found):
    return [canvas.ids.tolist() for canvas in found.canvases]


@settings(max_examples=150, deadline=None)
@given(texts)
def test_given_text_stays_and_all_else_is_filled_once(text):
    asked = request(*text)
    (found,) = DiffusionCore(NumpyDenoiser()).write([asked])
    assert len(found.canvases) == len(asked.blocks)
    for canvas, begun in zip(found.canvases, asked.blocks, strict=True):
        given_rows = begun != MASK
        assert (canvas.ids[given_rows] == begun[given_rows]).all()
        assert MASK not in canvas.ids
        assert (canvas.committed_at[given_rows] == 0).all()
        assert (canvas.committed_at[~given_rows] > 0).all()
        assert (canvas.confidence[~given_rows] > 0).all()
        if text[2] not in REVISING:
            assert not canvas.revisions.any()
    assert found.passes == sum(canvas.passes for canvas in found.canvases)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
def test_a_text_is_the_same_in_any_company(drawn):
    requests = [request(*text, stops=True) for text in drawn]
    denoiser = NumpyDenoiser()
    together = DiffusionCore(denoiser).write(requests)
    alone = [DiffusionCore(NumpyDenoiser()).write([one])[0] for one in requests]
    assert [final(found) for found in together] == [final(found) for found in alone]
    assert [found.passes for found in together] == [found.passes for found in alone]
    # As many passes as the longest takes, and nobody waits in them.
    assert len(denoiser.asked) == max(found.passes for found in together)
    assert sum(denoiser.asked) == sum(found.passes for found in together)


@settings(max_examples=80, deadline=None)
@given(texts)
def test_a_stream_tells_every_change(text):
    asked = request(*text)
    core = DiffusionCore(NumpyDenoiser())
    (found,) = core.write([asked])
    steps = list(core.stream(asked))
    assert [step.number for step in steps] == list(range(1, found.passes + 1))
    canvases = [ids.copy() for ids in asked.blocks]
    for step in steps:
        canvases[step.block][step.rows] = step.ids
        # Taken back between two passes, a token is told with the next.
        assert (canvases[step.block] == step.canvas).all()
    assert [ids.tolist() for ids in canvases] == final(found)


def test_an_end_token_ends_the_text_and_later_blocks_are_not_written():
    def ends_at_once(canvas, random):
        rows = canvas.open_rows
        found = yield rows
        found.ids[0] = 5
        found.ids[1] = END
        canvas.commit(rows, found, np.array([1]))
        found = yield canvas.open_rows
        canvas.commit(canvas.open_rows, found, np.array([0]))
        found = yield canvas.open_rows
        raise AssertionError("asked for what stands behind the end")

    blocks = [np.full(6, MASK, np.int32)] * 3
    asked = DiffusionRequest(np.array([1], np.int32), blocks, lambda _: ends_at_once)
    (found,) = DiffusionCore(NumpyDenoiser()).write([asked])
    assert found.is_ended
    assert len(found.canvases) == 1
    assert found.passes == 2


def test_only_allowed_tokens_are_written():
    allowed = {(0, row): np.array([row + 3, row + 20], np.int32) for row in range(0, 8, 2)}
    asked = DiffusionRequest(
        np.array([1], np.int32),
        [np.full(8, MASK, np.int32)],
        sampler_of("by_threshold", 8),
        allowed=allowed,
        stops=False,
    )
    (found,) = DiffusionCore(NumpyDenoiser()).write([asked])
    for (_, row), choices in allowed.items():
        assert found.canvases[0].ids[row] in choices


def test_alternatives_are_those_of_the_pass_that_committed():
    (found,) = DiffusionCore(NumpyDenoiser()).write([request([1], [[MASK] * 9], "by_threshold", 0, 0.0)])
    ids, probabilities = found.alternatives[0]
    assert (ids[:, 0] == found.canvases[0].ids).all()
    np.testing.assert_array_equal(probabilities[:, 0], found.canvases[0].confidence)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("low_confidence", {"num_steps": 0}, "num_steps is 0, expected 1 or more"),
        ("low_confidence", {"num_steps": 9}, "num_steps is 9, expected at most 8, the open positions"),
        ("dream", {"num_steps": 2, "algorithm": "best"}, "algorithm is 'best'"),
        ("dream", {"num_steps": True}, "num_steps is True"),
        ("ancestral", {"num_steps": 0, "scheduler": SCHEDULER}, "num_steps is 0"),
        ("remdm", {"num_steps": 5, "scheduler": SCHEDULER, "eta": 2}, "eta is 2, expected 0 to 1"),
        ("remdm", {"num_steps": 5, "scheduler": SCHEDULER, "loop": (0.2, 0.4)}, "loop is"),
        ("by_threshold", {"threshold": 1.5}, "threshold is 1.5, expected 0 to 1"),
        ("by_threshold", {"edits_above": -1}, "edits_above is -1"),
        ("by_factor", {"factor": 0}, "factor is 0"),
        ("by_entropy_bound", {"gamma": -1}, "gamma is -1"),
    ],
)
def test_settings_without_meaning_are_refused(name, keywords, message):
    asked = DiffusionRequest(
        np.array([1], np.int32),
        [np.full(8, MASK, np.int32)],
        lambda _: lambda canvas, random: getattr(ours, name)(canvas, random, **keywords),
    )
    with pytest.raises(SamplingError, match=message):
        DiffusionCore(NumpyDenoiser()).write([asked])


def test_what_cannot_be_written_is_refused():
    core = DiffusionCore(NumpyDenoiser())
    with pytest.raises(SamplingError, match="at least one open position"):
        core.write([request([1], [[MASK]], "by_threshold", 0, 0.0), plain([[1, 2]])])
    with pytest.raises(SamplingError, match="at least one block"):
        core.write([plain([])])
    with pytest.raises(SamplingError, match="190 tokens and 20 are to be written, and the model sees 200"):
        core.write([plain([[MASK] * 20], [1] * 190)])


def plain(canvas_ids, prompt=(1,)):
    return DiffusionRequest(
        np.array(prompt, np.int32),
        [np.array(ids, np.int32) for ids in canvas_ids],
        sampler_of("by_threshold", 1),
    )


def test_a_sampler_cannot_touch_given_text():
    canvas = Canvas([3, MASK, MASK], MASK)
    with pytest.raises(SamplingError, match="took back given text"):
        canvas.remask(np.array([0]))
    found = NumpyDenoiser()
    (text,) = found.read([Reading(np.array([1]), 3)])
    rows = np.array([0, 1])
    (predictions,) = found.predict([Ask(text, canvas.ids, rows)])
    with pytest.raises(SamplingError, match="wrote over given text"):
        canvas.commit(rows, predictions, np.array([0]))


def test_what_stands_behind_the_end_is_asked_for_no_more():
    class EndsEarly(NumpyDenoiser):
        def predict(self, asked):
            self.lengths = [*getattr(self, "lengths", []), *((len(ask.rows), ask.length) for ask in asked)]
            found = super().predict(asked)
            for ask, own in zip(asked, found, strict=True):
                own.confidence[:] = 0.1
                own.confidence[ask.rows == 3] = 1.0
                own.ids[ask.rows == 3] = END
                own.ids[(ask.rows != 3) & (own.ids == END)] = 5
            return found

    denoiser = EndsEarly()
    (written,) = DiffusionCore(denoiser).write([request([7], [[MASK] * 8], "by_threshold", 0, 0, stops=True)])
    assert written.is_ended
    assert denoiser.lengths == [(8, 8), (3, 4), (2, 4), (1, 4)]
    canvas = written.canvases[0]
    assert not canvas.is_open[:4].any()
    assert canvas.is_open[4:].all()

    denoiser = EndsEarly()
    (written,) = DiffusionCore(denoiser).write([request([7], [[MASK] * 8], "by_threshold", 0, 0)])
    assert not written.canvases[0].is_open.any()
    assert {length for _, length in denoiser.lengths} == {8}
