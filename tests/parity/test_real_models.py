"""Real weights give the vectors, tokens and perplexity of transformers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from ai_os_diffusion.inference.convert import convert_model

pytestmark = [pytest.mark.models, pytest.mark.torch, pytest.mark.slow]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def parity():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("parity", BENCHMARKS / "parity.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def minilm_source() -> Path:
    """The original files, where the benchmarks have fetched them."""
    folder = BENCHMARKS.parent / ".cache" / "benchmarks" / "sources" / "minilm"
    found = next(iter(sorted(folder.rglob("model.safetensors"))), None)
    if found is None:
        pytest.skip("the original MiniLM is not here: run benchmarks/parity.py once")
    return found.parent


def test_minilm_vectors(parity, minilm_source, minilm_dir, data_dir, tmp_path):
    convert_model(minilm_source, tmp_path / "fp32", quantize="fp32")
    figures = parity.encoder_figures(minilm_source, data_dir, {"fp32": tmp_path / "fp32", "int8": minilm_dir})
    assert figures["minilm fp32"]["least"] >= 0.99999
    assert figures["minilm fp32, torch reference"]["least"] >= 0.99999
    assert figures["minilm int8"]["mean cosine"] >= 0.999


def test_smollm2_tokens_and_perplexity(parity, smollm2_dir, data_dir):
    figures = parity.decoder_figures(smollm2_dir, data_dir, windows=8)
    agreement = figures[f"smollm2 greedy, equal tokens of {parity.TOKENS}"]
    assert agreement["native"] == [parity.TOKENS] * len(parity.PROMPTS)
    assert agreement["torch"] == [parity.TOKENS] * len(parity.PROMPTS)
    assert figures["smollm2 perplexity ratio, native fp32"] == pytest.approx(1, abs=0.003)
    # Activations rounded to int8 cost about 0.2 %; eight windows say it within half a per cent.
    assert figures["smollm2 perplexity ratio, as stored"] == pytest.approx(1, abs=0.005)
