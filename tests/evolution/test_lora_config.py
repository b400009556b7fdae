"""Settings of a training: ranges, and which layers are meant."""

from __future__ import annotations

import json

import pytest

from ai_os_diffusion._native import layout_json
from ai_os_diffusion.evolution import LoRAConfig
from ai_os_diffusion.utils.errors import TrainingError


@pytest.fixture(scope="module")
def layout(tiny_decoder_dir):
    return json.loads(layout_json((tiny_decoder_dir / "metadata.json").read_text(encoding="utf-8")))


def parts(config, layout):
    return sorted({layer["name"].rpartition(".")[2] for layer in config.targets(layout)})


ALL = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["query", "key", "value", "dense"], ALL),
        (["all-linear"], ALL),
        (["query", "value"], ["q_proj", "v_proj"]),
        (["dense"], ["down_proj", "gate_proj", "o_proj", "up_proj"]),
        (["up_proj", "key"], ["k_proj", "up_proj"]),
    ],
)
def test_layers_by_what_they_are_or_are_called(layout, names, expected):
    config = LoRAConfig(target_modules=names)
    assert parts(config, layout) == expected
    assert len(config.targets(layout)) == len(expected) * len(layout["blocks"])


def test_a_name_that_is_no_layer_is_told_with_those_there_are(layout):
    with pytest.raises(TrainingError, match=r"no layers 'c_attn'; it has query, .*down_proj"):
        LoRAConfig(target_modules=["query", "c_attn"]).targets(layout)


def test_a_rank_above_every_layer_is_refused(layout):
    """Within the range of cards, and still gigabytes for nothing."""
    assert LoRAConfig(rank=32).targets(layout)
    with pytest.raises(TrainingError, match="rank is 33, expected at most 32"):
        LoRAConfig(rank=33).targets(layout)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", 8.5),
        ("rank", 1_000_000),
        ("rank", True),
        ("use_dora", 1),
        ("alpha", 0),
        ("alpha", float("nan")),
        ("dropout", 1.0),
        ("rate", -1),
        ("batch_size", 0),
        ("anchor", -0.1),
        ("dropped_words", 1),
        ("paraphrases", 17),
        ("paraphrases", 1.5),
        ("seed", -1),
        ("precision", "float16"),
        ("selected", 0),
        ("selected", 1.5),
        ("target_modules", []),
        ("target_modules", "query"),
        ("target_modules", [3]),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(TrainingError, match=name):
        LoRAConfig(**{name: value})


def test_scaling_of_both_kinds():
    assert LoRAConfig(rank=16, alpha=8).scaling == 2.0
    assert LoRAConfig(rank=16, alpha=8, use_rslora=False).scaling == 0.5
