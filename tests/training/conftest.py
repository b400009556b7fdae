"""Runs of training that take seconds: one thread, a tiny decoder."""

from __future__ import annotations

import pytest

from ai_os_diffusion.training import Recipe

MASK, NULL, END = 258, 257, 2


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small are slower on several threads, and far slower where others use the cores."""
    try:
        import torch
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_recipe(tiny_decoder_dir, tmp_path):
    """A recipe with some values changed: `make_recipe(rows, optimizer={"steps": 4})`."""

    def make(rows, base=None, **changes) -> Recipe:
        import json

        file = tmp_path / "examples.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        document = {
            "base": str(base or tiny_decoder_dir),
            "seed": 1,
            "data": {"files": [str(file)]},
            "batch": {"rows": 2, "length": 160, "longest": 120},
            "card": {"rank": 8, "mask": MASK, "null": NULL, "block_length": 16},
            "optimizer": {"rate": 5e-3, "steps": 4},
            "report": {"log_every": 1, "save_every": 2},
        }
        for key, value in changes.items():
            if isinstance(value, dict):
                document[key] = {**document.get(key, {}), **value}
            else:
                document[key] = value
        return Recipe.of(document, "recipe.toml")

    return make
