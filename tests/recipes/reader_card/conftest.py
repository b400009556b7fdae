"""The recipe's scripts, which stand outside the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[3] / "training" / "reader_card"


@pytest.fixture
def asking(monkeypatch):
    """The folder of scripts that ask by a language model, on the path."""
    pytest.importorskip("tomllib")
    monkeypatch.syspath_prepend(str(RECIPE / "asking"))
    yield RECIPE / "asking"
    names = {path.stem for path in (RECIPE / "asking").glob("*.py")}
    for name in names & set(sys.modules):
        del sys.modules[name]
