"""Recall scores words as it is configured to."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.config import Config, ModelConfig, RetrievalConfig, StorageConfig
from ai_os_diffusion.runtime import Runtime
from support.embedding_service import serving

SHORT = "One zebra."
LONG = "A zebra, another zebra and the third zebra went by, " + "and then a great many other animals " * 8


@pytest.mark.parametrize(("k1", "b", "first"), [(0.9, 1.0, SHORT), (5.0, 0.0, LONG)])
def test_words_are_scored_by_the_configured_bm25(tmp_path, tiny_decoder_dir, k1, b, first):
    with serving(lambda text: np.ones(4, np.float32)) as service:
        config = Config(
            model=ModelConfig(encoder=f"{service.url}#all-alike", decoder=str(tiny_decoder_dir)),
            storage=StorageConfig(path=tmp_path / "store"),
            retrieval=RetrievalConfig(min_similarity=-1, bm25_k1=k1, bm25_b=b),
        )
        with Runtime(config) as runtime:
            runtime.add(texts=[("short", SHORT.encode()), ("long", LONG.encode())])
            assert runtime.recall("zebra").hits[0].text.strip() == first.strip()
