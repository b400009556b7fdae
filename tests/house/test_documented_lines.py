"""The lines that README and the design promise run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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


def readme_blocks(language: str = "python") -> list[str]:
    blocks = rf"^```{language}\n(.*?)^```"
    return re.findall(blocks, README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.models
@pytest.mark.parametrize("block", readme_blocks(), ids=lambda block: block.splitlines()[0])
def test_the_readme_lines(block, minilm_dir, smollm2_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIOS_STORAGE_PATH", str(tmp_path / "store"))
    monkeypatch.chdir(README.parent)
    exec(block, {"__name__": "__readme__"})
    said = capsys.readouterr().out
    for line in re.findall(r"print\(.*?#\s*(.+)$", block, re.MULTILINE):
        assert line in said


@pytest.fixture
def shell(minilm_dir, smollm2_dir, pdf_of, tmp_path):
    """Runs a line of a shell as a user with the documents that README names; returns what it wrote."""
    pytest.importorskip("pypdfium2")
    program = tmp_path / "bin" / "aios"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom ai_os_diffusion.cli.main import run\nrun()\n")
    program.chmod(0o755)
    home = tmp_path / "home"
    for folder in ("notes", "books"):
        (home / folder).mkdir(parents=True)
    (notes,) = re.findall(r"^notes = (\[.*\])$", "".join(readme_blocks()), re.MULTILINE)
    (home / "notes" / "notes.md").write_text("\n".join(json.loads(notes)), encoding="utf-8")
    (home / "books" / "manual.pdf").write_bytes(pdf_of("Press the red button to stop the mower."))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIOS_", "XDG_"))
    }
    environment |= {
        "HOME": str(home),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "AIOS_MODELS_DIR": str(minilm_dir.parent),
        "AIOS_STORAGE_PATH": str(tmp_path / "store"),
    }

    def run(line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.models
def test_the_readme_shell_lines(shell):
    (block,) = [block for block in readme_blocks("sh") if "aios" in block]
    said = {line.split()[1]: shell(line) for line in block.strip().splitlines()}
    assert list(said) == ["pull", "add", "recall", "ask", "diffuse", "embed"]
    assert "minilm" in said["pull"]
    assert "2 added" in said["add"]
    assert "notes/notes.md:1" in said["recall"]
    assert "Roses are cut in March." in said["recall"]
    assert said["diffuse"].startswith("Roses are ")
    answer, cited = said["ask"].split("\n\n")
    assert "March" in answer
    assert cited.startswith("[1] notes/notes.md:1")
    assert len(json.loads(said["embed"])["embedding"]) == 384

    answer, cited = shell('aios ask "When is Anna\'s birthday?"').split("\n\n")
    assert "4 May" in answer
    assert cited.startswith("[1] notes/notes.md:3")
    answer, cited = shell('aios ask "what do I press to stop the mower?"').split("\n\n")
    assert "red button" in answer
    assert cited.startswith("[1] books/manual.pdf:1 page 1")
