"""What a step does can be captured: no answer of the device is waited for, no shape or place changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.errors import DeviceError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from ai_os_diffusion.inference.torch.step import StepShape  # noqa: E402

# They read a number back, make a shape of one, or take one from the host.
ILLEGAL = {
    "_local_scalar_dense",
    "item",
    "nonzero",
    "masked_select",
    "_unique2",
    "equal",
    "lift_fresh",
    "is_nonzero",
}


class Recorded(TorchDispatchMode):
    """The operations of a block, with the shapes that they make."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations.append((func._schema.name.partition("::")[2], getattr(out, "shape", None)))
        return out


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.9, "top_p": 0.9}, {"repetition_penalty": 1.2}])
def test_a_step_is_the_same_operations_at_the_same_places_whatever_it_reads(tiny_decoder_dir, settings):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        sessions = [engine.core.session(96) for _ in range(3)]
        samplers = [_native.Sampler(**settings) for _ in sessions]
        for index, session in enumerate(sessions):
            session.prefill(np.arange(5 + 20 * index, dtype=np.int32))
        type(sessions[0]).generate_all(sessions, 2, samplers)
        (step,) = engine.core.backend._texts.batcher.steps._kept.values()
        assert step.shape == StepShape(4, 2, "temperature" in settings, "repetition_penalty" in settings)
        places = [tensor.data_ptr() for tensor in (step._inputs, step._settings, step.logits, step.chosen)]
        recorded = []
        for read in range(2):
            with torch.inference_mode():
                step.load([3 + read, 4, 5], [7 + 40 * read, 27, 47], [session.pages for session in sessions])
                with Recorded() as recording:
                    step._compute()
            recorded.append(recording.operations)
        assert recorded[0] == recorded[1]
        assert not ILLEGAL & {name for name, _ in recorded[0]}
        assert places == [
            tensor.data_ptr() for tensor in (step._inputs, step._settings, step.logits, step.chosen)
        ]
        # The second text's token and position are those of the step after.
        assert step._inputs[1, :2].tolist() == [int(step.chosen[1, 0]), 28]


def test_a_block_is_the_same_operations_whatever_it_reads(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        session = engine.core.session(96)
        session.prefill(np.arange(30, dtype=np.int32))
        recorded = []
        for length in (5, 7):
            session.predict(np.arange(length, dtype=np.int32), np.array([0]))
            (block,) = engine.core.backend._texts.batcher.steps._kept.values()
            with torch.inference_mode(), Recorded() as recording:
                block._compute()
            recorded.append(recording.operations)
        assert recorded[0] == recorded[1]
        assert not ILLEGAL & {name for name, _ in recorded[0]}


def test_texts_join_and_leave_at_any_step(tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, device="cpu", backend="torch") as engine:
        prompts = [np.arange(index, 3 * index + 4, dtype=np.int32) for index in range(6)]
        alone = []
        for prompt in prompts:
            session = engine.core.session(96)
            session.prefill(prompt)
            alone.append(session.generate(20).tolist())
        running: dict[int, tuple] = {}
        written: dict[int, list[int]] = {index: [] for index in range(6)}
        for tick in range(40):
            if tick % 3 == 0 and tick // 3 < 6:
                session = engine.core.session(96)
                session.prefill(prompts[tick // 3])
                running[tick // 3] = session
            ready = [index for index in running if len(written[index]) < 20]
            if ready:
                found = type(session).generate_all([running[index] for index in ready], 1)
                for index, tokens in zip(ready, found, strict=True):
                    written[index] += tokens.tolist()
            running = {index: running[index] for index in ready}
        assert list(written.values()) == alone


def test_there_are_few_shapes():
    shapes = {
        StepShape.fitting(texts, tokens, 128, is_drawn=False, is_penalised=False)
        for texts in range(1, 257)
        for tokens in range(1, 8193, 17)
    }
    assert len(shapes) == 9 * 6
    assert all(shape.texts <= 256 and 4 <= shape.pages <= 128 for shape in shapes)


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return {"device": "cuda", "backend": "torch"}


def write_all(engine: ArrowEngine, count: int, **settings) -> list[list[int]]:
    sessions = [engine.core.session(96) for _ in range(5)]
    for index, session in enumerate(sessions):
        session.prefill(np.arange(index, 3 * index + 70, dtype=np.int32) % 256)
    samplers = [_native.Sampler(**settings, seed=index) for index in range(5)]
    return type(sessions[0]).generate_all(sessions, count, samplers).tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8, "top_k": 40}, {"repetition_penalty": 1.3}])
def test_captured_steps_write_what_the_native_core_writes(gpu, tiny_decoder_dir, settings):
    with ArrowEngine(tiny_decoder_dir, device="cpu") as native:
        expected = []
        for index in range(5):
            session = native.core.session(96)
            session.prefill(np.arange(index, 3 * index + 70, dtype=np.int32) % 256)
            expected.append(session.generate(12, _native.Sampler(**settings, seed=index)).tolist())
    with ArrowEngine(tiny_decoder_dir, dtype="float32", **gpu) as engine:
        assert write_all(engine, 12, **settings) == expected
        steps = engine.core.backend._texts.batcher.steps
        assert all(step._captured.graph is not None for step in steps._kept.values())
        # The memory of the keys moves; graphs of its old addresses are not used again.
        texts = engine.core.backend._texts
        held = [texts.promise(64) for _ in range(len(texts.cache._holders) // 32)]
        assert held
        assert write_all(engine, 12, **settings) == expected


@pytest.mark.gpu
def test_a_gpu_writes_what_the_cpu_writes(gpu, smollm2_dir: Path):
    prompts = ["Once upon a time", "The capital of France is", "def fibonacci(n):", "Water boils at"]
    with ArrowEngine(smollm2_dir, device="cpu") as native:
        weights = {name: native.weights.native.dequantize(name) for name in native.weights.native.names}
        from ai_os_diffusion.inference import InferenceCore

        cores = [
            InferenceCore(weights, native.metadata),
            InferenceCore(weights, native.metadata, dtype="float32", **gpu),
        ]
        for prompt in prompts:
            ids = native.tokenizer.encode(prompt, padding=False).flat_ids
            written = []
            for core in cores:
                session = core.session(128)
                session.prefill(ids)
                written.append(session.generate(64).tolist())
            assert written[0] == written[1]


@pytest.mark.gpu
def test_a_gpu_computes_in_halves_unless_told_otherwise(gpu, tiny_decoder_dir, tiny_encoder_dir):
    with (
        ArrowEngine(tiny_encoder_dir, device="cpu") as native,
        ArrowEngine(tiny_encoder_dir, **gpu) as engine,
    ):
        assert engine.core.backend.device.dtype in (torch.bfloat16, torch.float32)
        texts = ["the quick brown fox", "a", "1 2 3 4 5"]
        assert (native.encode(texts) * engine.encode(texts)).sum(-1).min() > 0.999
    with ArrowEngine(tiny_decoder_dir, **gpu) as engine:
        assert len(engine.generate("abc", max_tokens=12).tokens) > 0


@pytest.mark.gpu
def test_a_gpu_without_memory_says_so_and_goes_on(gpu, tiny_decoder_dir):
    with ArrowEngine(tiny_decoder_dir, **gpu) as engine:
        expected = engine.generate("abc", max_tokens=8).tokens
        texts = engine.core.backend._texts
        with pytest.raises(DeviceError, match=r"keys and values of .* free are"):
            texts.promise(1 << 40)
        with pytest.raises(DeviceError, match="no memory for a test"), texts.device.running("a test"):
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        assert engine.generate("abc", max_tokens=8).tokens == expected
