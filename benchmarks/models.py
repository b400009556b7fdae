"""The models that benchmarks run: the pulled ones, their sources and other quantisations, made once."""

from __future__ import annotations

from pathlib import Path

from ai_os_diffusion.config import load_config
from ai_os_diffusion.models.local_models import fetch_source, pull

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "benchmarks"


def source_folder(name: str) -> Path:
    """The original files of a model, as the peers load them."""
    return fetch_source(name, CACHE / "sources" / name)


def converted(name: str, quantize: str | None) -> Path:
    """A model in our format; None keeps what suits it, as `aios pull` does."""
    return pull(name, quantize=quantize, models_dir=load_config().models_dir)
