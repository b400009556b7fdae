"""Real weights give the vectors, tokens and perplexity of transformers.

The sources are fetched once, as benchmarks fetch them; the sentences beside this file are our own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.hub.known_source import fetch_source
from ai_os_diffusion.utils.errors import ModelLoadError

pytestmark = [pytest.mark.torch, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SENTENCES = Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def parity(benchmark):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return benchmark("parity")


def source(name: str) -> Path:
    """A model's original files, in the benchmarks' cache; a wrong hash is no reason to skip."""
    try:
        return fetch_source(name, ROOT / ".cache" / "benchmarks" / "sources" / name)
    except ModelLoadError as error:
        if "sha256" in str(error):
            raise
        pytest.skip(f"the original {name} is not here and cannot be fetched: {error}")


def test_minilm_vectors(parity, tmp_path):
    files = source("minilm")
    folders = {storage: tmp_path / storage for storage in ("fp32", "int8")}
    for storage, folder in folders.items():
        convert_model(files, folder, quantize=storage)
    figures = parity.encoder_figures(files, SENTENCES, folders)
    assert figures["minilm fp32"]["least"] >= 0.99999
    assert figures["minilm fp32, torch reference"]["least"] >= 0.99999
    assert figures["minilm int8"]["mean cosine"] >= 0.999


@pytest.fixture(scope="module")
def smollm2(parity, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    convert_model(source("smollm2"), folder)
    return folder


def test_smollm2_tokens_and_perplexity(parity, smollm2):
    figures = parity.decoder_figures(smollm2, "\n".join(SENTENCES), windows=8)
    agreement = figures[f"smollm2 greedy, equal tokens of {parity.TOKENS}"]
    assert agreement["native"] == [parity.TOKENS] * len(parity.PROMPTS)
    assert agreement["torch"] == [parity.TOKENS] * len(parity.PROMPTS)
    assert figures["smollm2 fp32 logits, greatest difference"] < 1e-3
    assert figures["smollm2 perplexity ratio, native fp32"] == pytest.approx(1, abs=1e-4)
    # A short text says it less exactly than the whole of WikiText-2, below.
    assert figures["smollm2 perplexity ratio, as stored"] == pytest.approx(1, abs=0.006)


def test_smollm2_perplexity_as_stored(parity, smollm2, data_dir):
    figures = parity.decoder_figures(smollm2, parity.wikitext(data_dir), windows=16, prompts=0)
    assert figures["smollm2 perplexity ratio, native fp32"] == pytest.approx(1, abs=1e-4)
    assert figures["smollm2 perplexity ratio, as stored"] == pytest.approx(1, abs=0.003)
