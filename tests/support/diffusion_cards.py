"""A card with which the tiny decoder writes by diffusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Card, CardDescription
from ai_os_diffusion.models.cards.description import Base

MASK, NULL, END = 260, 259, 258
CONFIG = {"mask_id": MASK, "null_id": NULL, "block_length": 8, "threshold": 0.02}


def card(engine: ArrowEngine, path: Path, config=CONFIG, name="writes") -> Card:
    """A card that replaces the last norm."""
    digest = engine.metadata.source.get("weights_sha256", "0" * 64)
    base = Base("tiny", engine.metadata.architecture, digest)
    about = CardDescription(name, "diffusion", base, 0, 1.0, config=config)
    norm = np.random.default_rng(3).normal(size=engine.dimension).astype(np.float32) * 4
    return Card.write(path, about, [("model.norm.weight", norm)])
