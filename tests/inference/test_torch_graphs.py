"""Steps and blocks that were captured once serve other texts: graphs are imitated, one operation at a time.

An imitated graph holds the operations of a capture with the tensors that they took and made. Replaying it
does them again on the same tensors, as a graph of CUDA does at the same addresses: a number that came from
the host, or a shape that came from data, would be that of the capture.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from ai_os_diffusion.inference.torch import torch_core  # noqa: E402
from ai_os_diffusion.inference.torch.device import Device  # noqa: E402


class Tape(TorchDispatchMode):
    """A graph, as `torch.cuda.CUDAGraph` is used."""

    replays = 0

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        Tape.replays += 1
        for func, args, kwargs, made in self.operations:
            again = func(*args, **kwargs)
            pairs = zip(made, again, strict=True) if isinstance(made, tuple | list) else [(made, again)]
            for old, new in pairs:
                # Views and what was written in place are where they were; the rest goes there.
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def captured(graph, _pool, _stream, *, capture_error_mode):
    assert capture_error_mode == "thread_local"
    with graph:
        yield


class Stream:
    def wait_stream(self, _other) -> None:
        """Nothing runs aside."""


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    monkeypatch.setattr(Device, "captures", True)
    monkeypatch.setattr(torch_core, "_FIRST_BYTES", 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    Tape.replays = 0


@pytest.fixture
def engines(tiny_decoder_dir):
    """Native, which has no graphs, and torch."""
    with (
        ArrowEngine(tiny_decoder_dir, device="cpu") as native,
        ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as other,
    ):
        yield native, other


def written(engine: ArrowEngine, first: int, texts: int, count: int, **settings) -> list[list[int]]:
    """What texts of several lengths write, each step of which is looked at."""
    sessions, tokens = [], [[] for _ in range(texts)]
    samplers = [_native.Sampler(**settings, seed=first + index) for index in range(texts)]
    for index in range(texts):
        sessions.append(engine.core.session(96))
        sessions[-1].prefill(np.arange(first + index, first + 4 * index + 20, dtype=np.int32))
    for _ in range(count):
        for session, sampler, own in zip(sessions, samplers, tokens, strict=True):
            own.append(session.sample(sampler)[0])
            session.push(own[-1])
    return tokens


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.9, "top_k": 50, "top_p": 0.9}, {"repetition_penalty": 1.3}]
)
def test_a_captured_step_serves_other_texts(engines, settings):
    native, engine = engines
    for first in (3, 60):
        assert written(engine, first, 3, 6, **settings) == written(native, first, 3, 6, **settings)
    # One step is captured, and serves both texts of other tokens, positions and pages.
    assert len(engine.core.backend._texts.batcher.steps._kept) == 1
    assert Tape.replays == 2 * 3 * 6


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.9}, {"repetition_penalty": 1.3}])
def test_captured_steps_run_ahead_of_the_host(engines, settings):
    native, engine = engines
    prompts = [np.arange(5 + 13 * index, dtype=np.int32) for index in range(5)]
    expected = []
    for index, prompt in enumerate(prompts):
        session = native.core.session(96)
        session.prefill(prompt)
        expected.append(session.generate(35, _native.Sampler(**settings, seed=index)).tolist())
    for _ in range(2):
        sessions = [engine.core.session(96) for _ in prompts]
        type(sessions[0]).prefill_all(sessions, prompts)
        samplers = [_native.Sampler(**settings, seed=index) for index in range(5)]
        assert type(sessions[0]).generate_all(sessions, 35, samplers).tolist() == expected
    assert Tape.replays == 2 * 35


def test_a_captured_block_serves_others(engines):
    native, engine = engines
    for length, behind in ((5, 3), (8, 70), (6, 0), (7, 40)):
        found = []
        for each in (native, engine):
            session = each.core.session(96)
            session.prefill(np.arange(behind, dtype=np.int32))
            block = np.arange(9, 9 + length, dtype=np.int32)
            found.append(session.predict(block, np.array([0, length - 1]), top_k=2))
        for got, expected in zip(found[1][:5], found[0][:5], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    assert len(engine.core.backend._texts.batcher.steps._kept) == 1
    assert Tape.replays == 4


def test_graphs_are_captured_anew_when_the_memory_of_keys_moves(engines):
    native, engine = engines
    expected = written(native, 3, 1, 4)
    assert written(engine, 3, 1, 4) == expected
    texts = engine.core.backend._texts
    steps, generation = texts.batcher.steps, texts.cache.generation
    (before,) = steps._kept.values()
    held = [engine.core.session(96) for _ in range(30)]
    assert texts.cache.generation > generation
    assert written(engine, 3, 1, 4) == expected
    assert before not in steps._kept.values()
    del held


def test_what_cannot_be_captured_is_told_and_done_step_by_step(engines, monkeypatch, caplog):
    native, engine = engines

    @contextmanager
    def refuse(*_args, **_options):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    assert written(engine, 3, 2, 4) == written(native, 3, 2, 4)
    assert "steps are not captured, which makes them several times slower: operation not" in caplog.text
    assert Tape.replays == 0
