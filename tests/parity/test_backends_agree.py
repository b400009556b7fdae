"""Both backends write the same tokens in float32, on every architecture and on real weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, InferenceCore
from ai_os_diffusion.models.metadata import ModelMetadata

pytestmark = pytest.mark.torch

GOLDEN = Path(__file__).parent / "golden"


def arrays_of(case: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{case}.npz") as file:
        return dict(file)


def writes(case: str) -> bool:
    return ModelMetadata.from_dict(json.loads(str(arrays_of(case)["metadata"]))).is_decoder


DECODERS = sorted(file.stem for file in GOLDEN.glob("*.npz") if writes(file.stem))
PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "In 1969, the first",
    "Water boils at",
    "My favourite recipe is",
    "The theory of evolution",
    "To install Python on",
    "Dear Sir or Madam,",
    "She opened the door and",
]
TOKENS = 64


def written_by_both(weights: dict, metadata, prompts: list[np.ndarray], tokens: int) -> list[list[list[int]]]:
    """Greedy tokens of each prompt, by the native core and by torch, there all prompts together."""
    native, other = (InferenceCore(weights, metadata, backend=name) for name in ("native", "torch"))
    alone = []
    for prompt in prompts:
        session = native.session(len(prompt) + tokens)
        session.prefill(prompt)
        alone.append(session.generate(tokens).tolist())
    sessions = [other.session(len(prompt) + tokens) for prompt in prompts]
    type(sessions[0]).prefill_all(sessions, prompts)
    return [alone, type(sessions[0]).generate_all(sessions, tokens).tolist()]


@pytest.mark.parametrize("case", DECODERS)
def test_tiny_models_of_every_architecture(case):
    pytest.importorskip("torch")
    arrays = arrays_of(case)
    weights = {
        name.removeprefix("weight:"): array.astype(np.float32)
        for name, array in arrays.items()
        if name.startswith("weight:")
    }
    metadata = json.loads(str(arrays["metadata"]))
    window, vocab = metadata["max_position_embeddings"], metadata["vocab_size"]
    tokens = min(48, window - 12)
    prompts = [np.random.default_rng(seed).integers(0, vocab, seed + 2, dtype=np.int32) for seed in range(10)]
    native, torch = written_by_both(weights, metadata, prompts, tokens)
    assert torch == native


@pytest.mark.slow
def test_smollm2(smollm2_dir):
    pytest.importorskip("torch")
    with ArrowEngine(smollm2_dir, device="cpu") as engine:
        weights = {name: engine.weights.native.dequantize(name) for name in engine.weights.native.names}
        prompts = [engine.tokenizer.encode(prompt, padding=False).flat_ids for prompt in PROMPTS]
        native, torch = written_by_both(weights, engine.metadata, prompts, TOKENS)
    assert torch == native
