"""The lines of the guide to Python run as they stand, and what they show is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ai_os_diffusion import open_runtime
from ai_os_diffusion.config import load_config

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python.md"


@pytest.mark.models
def test_the_guide_runs(tmp_path, monkeypatch, minilm_dir, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIOS_MODELS_DIR", str(minilm_dir.parent))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "roses.md").write_text("# Roses\n\nCut roses in February.\n")
    (tmp_path / "notes" / "empty.txt").write_text("")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert repr(names["report"]) == "AddReport(documents: 2 added, 1 empty; passages: 2 added)"
    assert "The pump costs 120 euros." in capsys.readouterr().out


def test_what_a_runtime_is_fits_a_line(tmp_path):
    runtime = open_runtime(load_config(overrides={"storage.path": tmp_path / "store"}))
    assert repr(runtime) == f"Runtime('{tmp_path}/store', encoder='minilm', decoder='smollm2')"
    # Saying so opens nothing.
    assert not (tmp_path / "store").exists()
