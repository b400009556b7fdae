"""Readers that are trained in seconds: a tiny encoder that reads letter by letter."""

from __future__ import annotations

import json

import pytest

from ai_os_diffusion.training.reader import ReaderRecipe

WINDOWS = {"question": 12, "passage": 24, "overlap": 8, "span": 8}


@pytest.fixture
def make_reader(tiny_encoder_dir, tmp_path):
    """A recipe with some values changed: `make_reader(rows, optimizer={"steps": 4})`."""

    def make(rows, **changes) -> ReaderRecipe:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        document = {
            "base": str(tiny_encoder_dir),
            "seed": 1,
            "data": {"files": [str(file)]},
            "windows": WINDOWS,
            "questions": {"count": 2, "negatives": 2},
            "batch": {"rows": 2, "length": 96},
            "card": {"rank": 8, "bits": 0},
            "optimizer": {"rate": 1e-2, "steps": 4},
            "report": {"log_every": 1, "save_every": 2},
        }
        for key, value in changes.items():
            document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
        return ReaderRecipe.of(document, "recipe.toml")

    return make
