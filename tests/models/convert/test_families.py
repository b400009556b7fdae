"""Every family converts, runs as it was stored, and refuses by name what it does not compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine, InferenceCore
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.needed import needed_tensors
from ai_os_diffusion.models.convert.settings.architecture import metadata_from_config
from ai_os_diffusion.models.convert.settings.head import head_of_config
from ai_os_diffusion.models.family import families, tensors_of
from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import InferenceError, ModelLoadError, WeightError
from support.loopback_hub import FILES, safetensors

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "vocab_size": 7,
    "max_position_embeddings": 20,
    **dict.fromkeys(("layer_norm_eps", "rms_norm_eps", "norm_eps"), 1e-6),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert"},
    "roberta": {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", "pad_token_id": 1, "type_vocab_size": 1},
    "modernbert": {"model_type": "modernbert", "local_attention": 4},
    "llama": {"model_type": "llama", "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 8},
}
RERANKERS = {
    name: {**CONFIGS[name], "architectures": ["XForSequenceClassification"], "id2label": {"0": "x"}}
    for name in ("bert", "roberta", "xlm-roberta", "modernbert")
}


def metadata_of(config: dict[str, Any]) -> dict[str, Any]:
    metadata = metadata_from_config(config)
    return metadata | head_of_config(UntrustedValues("config.json", config), metadata["architecture"])


def write(folder: Path, config: dict[str, Any], without: str = "", **more: np.ndarray) -> Path:
    """A source of random weights, with the names that transformers gives them in a network with a head."""
    config = {**COMMON, **config}
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(size=shape, scale=0.3) + (len(shape) == 1 and name.endswith("weight"))
        for name, shape in needed_tensors(metadata_of(config)).items()
        if name != without
    }
    folder.mkdir(exist_ok=True)
    files = {name: FILES[name] for name in ("tokenizer.json", "tokenizer_config.json")}
    files["config.json"] = json.dumps(config).encode()
    files["model.safetensors"] = safetensors({**tensors, **more})
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_every_model_type_is_tried():
    assert set(CONFIGS) == {kind for family in families().values() for kind in family.model_types}


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_needed_is_what_runs(kind):
    metadata = metadata_of({**COMMON, **CONFIGS[kind]})
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape) for name, shape in needed_tensors(metadata).items()}
    InferenceCore(weights, metadata)
    for name in weights:
        with pytest.raises(WeightError, match=name):
            InferenceCore({other: weights[other] for other in weights if other != name}, metadata)


@pytest.mark.parametrize("kind", CONFIGS)
def test_sources_that_lack_or_misshape_a_tensor_are_refused_by_name(tmp_path, kind):
    needed = needed_tensors(metadata_of({**COMMON, **CONFIGS[kind]}))
    for name, shape in list(needed.items())[::3]:
        source = write(tmp_path / "source", CONFIGS[kind], without=name)
        with pytest.raises(WeightError, match=f"tensor '{name}' of shape .* is missing"):
            convert_model(source, tmp_path / "out")
        write(source, CONFIGS[kind], **{name: np.ones((shape[0] + 1, *shape[1:]))})
        with pytest.raises(WeightError, match=f"tensor '{name}': expected shape"):
            convert_model(source, tmp_path / "out")


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tensor_that_takes_no_part_is_refused(tmp_path, kind):
    name = next(iter(needed_tensors(metadata_of({**COMMON, **CONFIGS[kind]}))))
    extra = name.replace(".weight", "_extra.weight")
    source = write(tmp_path / "source", CONFIGS[kind], **{extra: np.ones((2, 2))})
    with pytest.raises(WeightError, match="takes no part"):
        convert_model(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "modernbert"])
@pytest.mark.parametrize("quantize", [None, "int8", "bf16"])
def test_encoders_embed_as_they_are_stored(tmp_path, kind, quantize):
    convert_model(write(tmp_path / "source", CONFIGS[kind]), tmp_path / "plain")
    convert_model(tmp_path / "source", tmp_path / "out", quantize=quantize)
    with ArrowEngine(tmp_path / "plain") as plain, ArrowEngine(tmp_path / "out") as engine:
        texts = ["hello", "world hello", "hello " * 40]
        cosines = (plain.encode(texts) * engine.encode(texts)).sum(1)
        assert cosines.min() > 0.995
        with pytest.raises(InferenceError, match="reranker"):
            engine.relevance("hello", ["world"])


@pytest.mark.parametrize("kind", RERANKERS)
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_rerankers_score_and_do_not_embed(tmp_path, kind, quantize):
    source = write(tmp_path / "source", RERANKERS[kind])
    convert_model(source, tmp_path / "out", quantize=quantize)
    convert_model(tmp_path / "out", tmp_path / "again")
    with ArrowEngine(tmp_path / "out") as engine, ArrowEngine(tmp_path / "again") as again:
        found = engine.relevance("hello", ["world", "hello " * 40, "world"])
        assert found.shape == (3,)
        assert found[0] == found[2] != found[1]
        assert ((found > 0) & (found < 1)).all()
        np.testing.assert_array_equal(again.relevance("hello", ["world"]), found[:1])
        assert engine.relevance("hello", []).shape == (0,)
        with pytest.raises(InferenceError, match="without a pooling does not embed"):
            engine.encode("hello")
        head = [t.name for t in tensors_of(json.loads(engine.metadata.to_json())) if t.kind == "table"]
        stored = {engine.weights.native.info(name)["quant_type"] for name in head if name.endswith("weight")}
        assert stored <= {None, "fp32"}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("modernbert", {"classifier_activation": "relu"}, "classifier_activation"),
        (
            "modernbert",
            {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
            "layer_types",
        ),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types"),
        ("modernbert", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}}},
            "rope_type",
        ),
        ("modernbert", {"hidden_activation": "tanh"}, "hidden_activation"),
        ("modernbert", {"hidden_size": 36}, "num_attention_heads"),
        ("roberta", {"pad_token_id": 19}, "max_position_embeddings"),
        ("roberta", {"is_decoder": True}, "is_decoder"),
        ("xlm-roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("roberta", {"architectures": ["RobertaForTokenClassification"]}, "ForTokenClassification"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "ForSequenceClassification"),
        ("bert", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types"),
    ],
)
def test_what_a_family_does_not_compute_is_refused_by_name(tmp_path, kind, change, message):
    write(tmp_path / "source", CONFIGS[kind])
    config = {**COMMON, **CONFIGS[kind], **change}
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=message):
        convert_model(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "2 labels, expected 1"),
        ({"id2label": None}, "2 labels, expected 1"),
        ({"classifier_pooling": "max"}, "classifier_pooling"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.ReLU"}}, "activation_fn"),
        ({"sbert_ce_default_activation_function": "os.system"}, "sbert_ce_default_activation_function"),
    ],
)
def test_heads_that_score_another_way_are_refused(tmp_path, change, message):
    write(tmp_path / "source", RERANKERS["modernbert"])
    config = {**COMMON, **RERANKERS["modernbert"], **change}
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=message):
        convert_model(tmp_path / "source", tmp_path / "out")


def test_windows_of_both_spellings_are_the_same():
    old = {"global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_rope_theta": 50.0}
    new = {
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    }
    first, second = (metadata_of({**COMMON, **CONFIGS["modernbert"], **spelled}) for spelled in (old, new))
    assert first == second
    expected = {"rope_theta": 500.0, "window_reach": 2, "windowed_layers": [1], "window_rope_theta": 50.0}
    assert {key: first[key] for key in expected} == expected
