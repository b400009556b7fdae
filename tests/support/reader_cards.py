"""Reader cards of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription


def reader_card(
    base: Path,
    file: Path,
    *,
    outputs: int = 3,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    rank: int = 4,
) -> Card:
    """A card that reads: factors for every matrix of the blocks, and the head; what it finds means nothing.

    Args:
        base: folder of the encoder.
        file: where it is written.
        outputs: of the head: start, end, and relevance where there is a third.
        config: of the card.
        seed: of the weights.
        rank: of the factors.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    with ArrowEngine(base, device="cpu") as engine:
        for full in engine.weights:
            layer, _, part = full.rpartition(".")
            shape = engine.weights[full].shape
            if part == "weight" and len(shape) == 2 and "embed" not in layer:
                tensors[f"{layer}.lora_A.weight"] = rng.normal(size=(rank, shape[1])).astype(np.float32)
                tensors[f"{layer}.lora_B.weight"] = rng.normal(size=(shape[0], rank)).astype(np.float32)
        digest = engine.metadata.source.get("weights_sha256", "0" * 64)
        own = Base("tiny", engine.metadata.architecture, digest)
        tensors["qa_outputs.weight"] = rng.normal(size=(outputs, engine.dimension)).astype(np.float32)
        tensors["qa_outputs.bias"] = rng.normal(size=outputs).astype(np.float32)
    about = CardDescription(file.stem, "reader", own, rank, 0.2, heads=("qa_outputs",), config=config or {})
    return Card.write(file, about, tensors.items())
