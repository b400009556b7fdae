"""A model folder of float32 weights that were trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightWriter
from ai_os_diffusion.models.contents import contents_of, sha256_of
from ai_os_diffusion.models.convert.arrow import ArrowFolder
from ai_os_diffusion.utils.files.atomic_folder import replacing_folder

__all__ = ["write_plain_model"]


def write_plain_model(
    folder: Path, base: Path, weights: Mapping[str, NDArray[np.float32]], name: str
) -> None:
    """Write what a model became, whole or not at all; a folder that is there is replaced.

    Args:
        folder: to write.
        base: folder of the model that was trained: all but the weights is its.
        weights: by name.
        name: of the new model.
    """
    described = ArrowFolder(base).describe()
    with replacing_folder(folder) as draft:
        for file, content in described.files.items():
            (draft / file).write_bytes(content)
        writer = WeightWriter(draft / "weights.parquet", {"writer": "ai-os-diffusion"}, 1)
        try:
            for tensor, array in weights.items():
                writer.add_plain(tensor, array)
            writer.finish()
        finally:
            writer.abort()
        origin = {"name": name, "trained_from": described.metadata.get("source")}
        metadata = {
            **described.metadata,
            "source": {**origin, "weights_sha256": sha256_of(draft / "weights.parquet")},
            "contents": contents_of(draft),
        }
        document = json.dumps(metadata, ensure_ascii=False, indent=2)
        (draft / "metadata.json").write_text(document + "\n", encoding="utf-8")
