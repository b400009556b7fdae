"""What a type checker knows of the engine's vectors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SNIPPET = """
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider

engine = ArrowEngine("minilm")
provider: EmbeddingProvider = engine
for_one = engine.{method}("a", precision="int8")
for_several = engine.{method}(["a"], convert_to_numpy=False)
reveal_type(for_one)
reveal_type(for_several)
engine.{method}(["a"], nonsense=1)
engine.{method}(3)
"""


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document", "embed"])
def test_vectors_have_types_and_wrong_arguments_are_found(method, tmp_path, monkeypatch):
    api = pytest.importorskip("mypy.api")
    # There the settings and the cache of the checker are.
    monkeypatch.chdir(Path(__file__).parents[2])
    (tmp_path / "snippet.py").write_text(SNIPPET.format(method=method))
    told, problem, _ = api.run(["--strict", str(tmp_path / "snippet.py")])
    assert problem == ""
    revealed = re.findall(r'Revealed type is "([\w.]+)', told)
    assert [name.rpartition(".")[2] for name in revealed] == ["ndarray", "list"]
    assert re.findall(r"py:(\d+): error", told)[0] == "11"
    assert set(re.findall(r"py:(\d+): error", told)) == {"11", "12"}
