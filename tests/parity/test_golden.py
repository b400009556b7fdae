"""Both backends give transformers' numbers on tiny random models of every architecture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import InferenceCore
from ai_os_diffusion.inference.ragged import as_ragged
from ai_os_diffusion.models.family import families

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(file.stem for file in GOLDEN.glob("*.npz"))
BACKENDS = ["native", pytest.param("torch", marks=pytest.mark.torch)]
TOLERANCE = 2e-5
"""Greatest difference of hidden states and logits, which lie around 1 to 20."""


def load(case: str):
    with np.load(GOLDEN / f"{case}.npz") as file:
        arrays = dict(file)
    weights = {
        name.removeprefix("weight:"): array.astype(np.float32)
        for name, array in arrays.items()
        if name.startswith("weight:")
    }
    return json.loads(str(arrays["metadata"])), weights, arrays


def of_kind(result: str) -> list[str]:
    """The cases that have such a result."""
    return [case for case in CASES if f"{result}:0" in load(case)[2]]


def core_of(case: str, backend: str) -> tuple[InferenceCore, dict[str, np.ndarray]]:
    if backend == "torch":
        pytest.importorskip("torch")
    metadata, weights, arrays = load(case)
    return InferenceCore(weights, metadata, backend=backend, num_threads=2), arrays


def sequences(arrays) -> list[np.ndarray]:
    return [arrays[f"ids:{index}"] for index in range(sum(name.startswith("ids:") for name in arrays))]


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    scale = max(1.0, float(np.abs(expected).max()))
    return got.shape == expected.shape and float(np.abs(got - expected).max()) <= TOLERANCE * scale


def test_the_cases_cover_every_architecture():
    assert {load(case)[0]["architecture"] for case in CASES} == set(families())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_hidden_states(case, backend):
    core, arrays = core_of(case, backend)
    ids = sequences(arrays)
    for index, got in enumerate(core.hidden_states(ids)):
        assert close(got, arrays[f"hidden:{index}"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", of_kind("logits"))
def test_logits_and_losses(case, backend):
    core, arrays = core_of(case, backend)
    for index, ids in enumerate(sequences(arrays)):
        expected = arrays[f"logits:{index}"].astype(np.float64)
        assert close(core.logits(ids), arrays[f"logits:{index}"])
        if len(ids) > 1:
            losses = np.log(np.exp(expected[:-1]).sum(-1)) - expected[np.arange(len(ids) - 1), ids[1:]]
            np.testing.assert_allclose(core.token_nll(ids), losses, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", of_kind("scores"))
def test_scores_of_whole_texts(case, backend):
    core, arrays = core_of(case, backend)
    batch = as_ragged(sequences(arrays), None)
    expected = np.stack([arrays[f"scores:{index}"] for index in range(len(sequences(arrays)))])
    assert close(core.class_scores(batch), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", of_kind("logits"))
def test_a_session_reads_token_by_token(case, backend):
    from ai_os_diffusion import _native

    core, arrays = core_of(case, backend)
    ids = sequences(arrays)[-1]
    session = core.session(len(ids))
    session.prefill(ids[:7])
    for position in range(7, len(ids)):
        expected = arrays[f"logits:{len(sequences(arrays)) - 1}"][position - 1]
        id, logprob = session.sample(_native.Sampler())
        assert id == expected.argmax()
        whole = expected - np.log(np.exp(expected.astype(np.float64)).sum())
        assert logprob == pytest.approx(whole[id], abs=1e-4)
        session.push(int(ids[position]))
    assert len(session) == len(ids)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_poolings(pooling, backend):
    core, arrays = core_of("bert", backend)
    states = [arrays[f"hidden:{index}"] for index in range(len(sequences(arrays)))]
    pick = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}[pooling]
    expected = np.stack([pick(h) for h in states])
    got = core(sequences(arrays), pooling=pooling, normalize=False)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    unit = core(sequences(arrays), pooling=pooling, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
