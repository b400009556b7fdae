"""The lines that README and the design promise run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"

INFERENCE = """
from ai_os_diffusion.inference import ArrowEngine, WeightLoader, FastTokenizer, InferenceCore
engine = ArrowEngine("./models/minilm")
embeddings = engine.encode(["Hello, world!"])
print(embeddings.shape)                          # (1, 384)
loader = WeightLoader("weights.parquet"); weights = loader.load_weights()          # < 100 ms
tokenizer = FastTokenizer("./tokenizer"); encoded = tokenizer.encode(["Hello", "World"])   # input_ids, attention_mask
"""
CORE = """
core = InferenceCore(weights, config, device="cpu"); embeddings = core(input_ids, attention_mask)
"""
STORAGE = """
from ai_os_diffusion.storage import ArrowStorage
storage = ArrowStorage()                                  # default path from StorageConfig; ArrowStorage(storage_path=dir)
storage.save("mem_001", "Hello world", [0.1, 0.2, 0.3])   # + metadata={...}
memory = storage.load("mem_001")                          # {"memory_id","content","embedding","metadata","created_at",...} or None
results = storage.query_by_similarity([0.1, 0.2, 0.3], top_k=5)   # [(memory, similarity), ...] best first
"""


@pytest.mark.models
def test_the_inference_lines(minilm_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "minilm").symlink_to(minilm_dir)
    (tmp_path / "tokenizer").symlink_to(minilm_dir)
    (tmp_path / "weights.parquet").symlink_to(minilm_dir / "weights.parquet")
    names: dict = {}
    exec(INFERENCE, names)
    assert capsys.readouterr().out == "(1, 384)\n"
    first = names["embeddings"]
    encoded = names["encoded"]
    assert encoded["input_ids"].shape == encoded["attention_mask"].shape == (2, 3)
    names["config"] = json.loads((minilm_dir / "metadata.json").read_text(encoding="utf-8"))
    names["input_ids"] = encoded["input_ids"]
    names["attention_mask"] = encoded["attention_mask"]
    exec(CORE, names)
    assert names["embeddings"].shape == (2, 384)
    assert first.shape == (1, 384)
    names["engine"].close()


def test_the_storage_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("AIOS_STORAGE_PATH", str(tmp_path / "store"))
    names: dict = {}
    exec(STORAGE, names)
    assert names["memory"]["content"] == "Hello world"
    assert {"memory_id", "content", "embedding", "metadata", "created_at"} <= names["memory"].keys()
    assert names["results"][0][0]["memory_id"] == "mem_001"
    assert names["results"][0][1] == pytest.approx(1.0, abs=1e-6)
    assert (tmp_path / "store").is_dir()
    names["storage"].close()


def readme_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.models
@pytest.mark.parametrize("block", readme_blocks(), ids=lambda block: block.splitlines()[0])
def test_the_readme_lines(block, minilm_dir, smollm2_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIOS_STORAGE_PATH", str(tmp_path / "store"))
    monkeypatch.chdir(README.parent)
    exec(block, {"__name__": "__readme__"})
    said = capsys.readouterr().out
    for line in re.findall(r"print\(.*?#\s*(.+)$", block, re.MULTILINE):
        assert line in said
