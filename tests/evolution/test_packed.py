"""Texts share their common beginning, and what each says is what it says alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion._native import Trainer, WeightFile, layout_json
from ai_os_diffusion.evolution import LoRAConfig
from ai_os_diffusion.evolution.packed import Packed, Text

ids = st.lists(st.integers(5, 90), min_size=2, max_size=9)


@st.composite
def texts(draw):
    head = draw(st.lists(st.integers(5, 90), max_size=6))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        own = head + draw(ids)
        made.append(Text(tuple(own), draw(st.integers(1, len(own) - 1))))
    return made


@given(texts())
def test_every_learned_token_is_there_once(some):
    packed = Packed.of(some)
    wanted = sorted((at, text.ids[at]) for text in some for at in range(text.learned, len(text.ids)))
    is_counted = packed.weights > 0
    found = zip(packed.positions[is_counted] + 1, packed.labels[is_counted], strict=True)
    assert sorted((int(at), int(id)) for at, id in found) == wanted
    # Nothing is there twice but what texts do not begin with together.
    assert len(packed) <= sum(len(text.ids) - 1 for text in some)


@pytest.fixture(scope="module")
def trainer(tiny_decoder_dir):
    metadata = (tiny_decoder_dir / "metadata.json").read_text(encoding="utf-8")
    rng = np.random.default_rng(0)
    trained = {}
    for layer in LoRAConfig().targets(json.loads(layout_json(metadata))):
        for part, shape in (("A", (2, layer["inputs"])), ("B", (layer["outputs"], 2))):
            trained[f"{layer['name']}.lora_{part}.weight"] = rng.normal(0, 0.3, shape).astype(np.float32)
    return Trainer(WeightFile(tiny_decoder_dir / "weights.parquet"), metadata, trained, scaling=1.0)


@given(texts())
def test_what_is_computed_together_is_what_each_is_alone(trainer, some):
    def loss(packed):
        return trainer.measure(packed.batch, packed.weights, labels=packed.labels)[0]

    alone = sum(loss(Packed.of([text])) for text in some)
    assert loss(Packed.of(some)) == pytest.approx(alone, rel=1e-4)
