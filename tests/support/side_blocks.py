"""Cards of side blocks for tiny models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription

WIDTH = 3


def side_blocks(hidden: int, blocks: Iterable[int], seed: int, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Random matrices behind some blocks of a llama."""
    rng, found = np.random.default_rng(seed), {}
    for block in blocks:
        for part, shape in (("down", (width, hidden)), ("up", (hidden, width))):
            name = f"model.layers.{block}.side_{part}.weight"
            found[name] = rng.normal(size=shape).astype(np.float32) * 0.4
    return found


def write_control(
    engine: ArrowEngine,
    folder: Path,
    name: str = "control",
    *,
    blocks: Iterable[int] = (0, 1),
    seed: int = 1,
    width: int = WIDTH,
    scale: float = 1.0,
    **changes,
) -> Card:
    """A card that is nothing but side blocks; at scale 0 it changes nothing yet."""
    tensors = {
        name: tensor * np.float32(scale) if "side_up" in name else tensor
        for name, tensor in side_blocks(engine.metadata.hidden_size, blocks, seed, width).items()
    }
    tensors |= changes.pop("tensors", {})
    metadata = engine.metadata
    base = Base("tiny", metadata.architecture, metadata.source.get("weights_sha256", "0" * 64))
    about = CardDescription(name, "control", base, 0, 1.0, side_width=width)
    return Card.write(folder / f"{name}.parquet", replace(about, **changes), tensors.items())
