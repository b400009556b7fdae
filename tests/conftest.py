"""Fixtures shared by all tests: real models where they have been pulled, and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ai_os_diffusion.config import load_config


def _pulled(name: str) -> Path:
    folder = load_config().models_dir / name
    if not (folder / "weights.parquet").is_file():
        pytest.skip(f"model {name} is not pulled: run `aios pull {name}`")
    return folder


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The converted MiniLM, int8."""
    return _pulled("minilm")


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """The converted SmolLM2-135M-Instruct, as its GGUF stores it."""
    return _pulled("smollm2")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The evaluation data named by AIOS_DATA."""
    folder = os.environ.get("AIOS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("evaluation data is not here: set AIOS_DATA to its folder")
    return Path(folder)
