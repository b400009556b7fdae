"""The tiny decoder with a longer window: forms take room when every byte is a token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wide_decoder_dir(tiny_decoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_decoder_dir, tmp_path_factory.mktemp("wide") / "tiny"))
    file = folder / "metadata.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    for name in ("max_position_embeddings", "max_seq_length"):
        values[name] = 1024
    file.write_text(json.dumps(values), encoding="utf-8")
    return folder
