"""Settings of foreign files are applied, harmless, or refused by name; none is ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.settings.architecture import metadata_from_config
from ai_os_diffusion.utils.errors import ModelLoadError
from support.foreign_models import DECODER, MODULES, SENTENCE_FILES, TYPES
from support.loopback_hub import FILES


def write(folder: Path, changes: Mapping[str, Any], *, sentence: bool = True) -> Path:
    """A tiny sentence model; a changed object is laid over the file's own, any other value replaces it."""
    for name, content in {**FILES, **(SENTENCE_FILES if sentence else {}), **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            own = SENTENCE_FILES.get(name, json.loads(FILES[name]) if name in FILES else {})
            content = {**own, **content} if isinstance(own, dict) else content
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def converted(tmp_path: Path, changes: Mapping[str, Any], **options: Any) -> tuple[dict[str, Any], Any]:
    report = convert_model(write(tmp_path / "source", changes, **options), tmp_path / "out")
    return json.loads((tmp_path / "out" / "metadata.json").read_text()), report


REFUSED = [
    ("config.json", {"is_decoder": True}),
    ("config.json", {"add_cross_attention": True}),
    ("config.json", {"position_embedding_type": "relative_key"}),
    ("config.json", {"is_causal": True}),
    ("config.json", {"quantization_config": {"quant_method": "gptq"}}),
    ("config.json", {"auto_map": {"AutoModel": "modeling.Model"}}),
    ("config.json", {"pruned_heads": {"0": [1]}}),
    ("config.json", {"layer_types": ["sliding_attention"]}),
    ("tokenizer_config.json", {"truncation_side": "left"}),
    ("tokenizer_config.json", {"split_special_tokens": True}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x"}}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "<new>"}}}),
    ("sentence_bert_config.json", {"transformer_task": "fill-mask"}),
    ("sentence_bert_config.json", {"modality_config": {"message": {"method": "forward"}}}),
    ("sentence_bert_config.json", {"module_output_name": "scores"}),
    ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 4}}}),
    ("sentence_bert_config.json", {"query_length": 32}),
    ("sentence_bert_config.json", {"a_setting_of_tomorrow": 3}),
    ("sentence_bert_config.json", {"model_args": {"num_hidden_layers": 1}}),
    ("config_sentence_transformers.json", {"similarity_fn_name": "manhattan"}),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}),
    ("config_sentence_transformers.json", {"default_prompt_name": "nowhere"}),
    ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}),
    ("1_Pooling/config.json", {"pooling_mode": "attention"}),
    ("1_Pooling/config.json", {"a_setting_of_tomorrow": True}),
    ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}),
]


@pytest.mark.parametrize(("file", "change"), REFUSED)
def test_a_setting_that_cannot_be_applied_is_refused_by_name(tmp_path: Path, file: str, change: dict) -> None:
    (key,) = change
    with pytest.raises(ModelLoadError) as caught:
        converted(tmp_path, {file: change})
    assert key in str(caught.value)
    assert file in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["Dense", "LayerNorm", "CNN"])
def test_modules_that_are_not_computed_are_refused(tmp_path: Path, kind: str) -> None:
    modules = [*MODULES, {"idx": 3, "name": "3", "path": f"3_{kind}", "type": TYPES + kind}]
    with pytest.raises(ModelLoadError, match=f"modules.json.* type is .*{kind}"):
        converted(tmp_path, {"modules.json": modules})


@pytest.mark.parametrize("head", ["MultipleChoice", "TokenClassification", "QuestionAnswering"])
def test_a_model_that_is_for_its_head_is_refused(tmp_path: Path, head: str) -> None:
    changes = {"config.json": {"architectures": [f"BertFor{head}"]}}
    with pytest.raises(ModelLoadError, match=f"architectures is 'BertFor{head}'"):
        converted(tmp_path / "plain", changes, sentence=False)
    # Modules say that the states below the head are what counts, whatever the network was trained for.
    converted(tmp_path / "sentence", changes)


def test_a_network_in_a_folder_of_its_module_is_found(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"sentence_bert_config.json": {"max_seq_length": 8}})
    inner = source / "0_Transformer"
    inner.mkdir()
    for name in (*FILES, "sentence_bert_config.json"):
        (source / name).rename(inner / name)
    (source / "modules.json").write_text(json.dumps([{**MODULES[0], "path": inner.name}, *MODULES[1:]]))
    convert_model(source, tmp_path / "out")
    with ArrowEngine(tmp_path / "out") as engine:
        assert engine.max_seq_length == 8
        assert engine.encode("hello").shape == (32,)


def test_an_adapter_that_is_not_merged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"adapter_config.json: an adapter"):
        converted(tmp_path, {"adapter_config.json": {"peft_type": "LORA"}})


def test_what_does_nothing_is_taken_without_a_word(tmp_path: Path) -> None:
    harmless = {
        "config.json": {
            "is_decoder": False,
            "attention_probs_dropout_prob": 0.1,
            "transformers_version": "5.24.0",
            "id2label": {"0": "LABEL_0"},
            "pruned_heads": {},
            "quantization_config": None,
            "an_option_that_is_off": False,
        },
        "tokenizer_config.json": {"padding_side": "left", "truncation_side": "right", "max_length": 4},
        "1_Pooling/config.json": {"word_embedding_dimension": 32},
        "sentence_bert_config.json": {"model_args": {"torch_dtype": "float16"}, "unpad_inputs": True},
    }
    metadata, report = converted(tmp_path, harmless)
    assert report.notes == ()
    assert metadata["max_seq_length"] == 16


def test_what_is_not_known_is_told_of(tmp_path: Path) -> None:
    _, report = converted(tmp_path, {"config.json": {"a_setting_of_tomorrow": 3}})
    (note,) = report.notes
    assert "config.json: a_setting_of_tomorrow is 3, which is not known; it was not applied" in note


@pytest.mark.parametrize(
    ("sentence_bert", "tokenizer", "window"),
    [
        ({}, {}, 16),
        ({"max_seq_length": 8}, {}, 8),
        ({}, {"model_max_length": 8}, 8),
        ({}, {"model_max_length": 1e30}, 16),
        ({"max_seq_length": 12}, {"model_max_length": 8}, 12),
        ({"max_seq_length": 999}, {"model_max_length": 8}, 16),
        ({"max_seq_length": None}, {"model_max_length": 4}, 4),
    ],
)
def test_the_window_is_that_of_sentence_transformers(
    tmp_path: Path, sentence_bert: dict, tokenizer: dict, window: int
) -> None:
    changes = {"sentence_bert_config.json": sentence_bert, "tokenizer_config.json": tokenizer}
    assert converted(tmp_path, changes)[0]["max_seq_length"] == window


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    ("theirs", "flag", "ours"),
    [
        ("cls", "pooling_mode_cls_token", "cls"),
        ("mean", "pooling_mode_mean_tokens", "mean"),
        ("max", "pooling_mode_max_tokens", "max"),
        ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt"),
        ("weightedmean", "pooling_mode_weightedmean_tokens", "weighted_mean"),
        ("lasttoken", "pooling_mode_lasttoken", "last"),
    ],
)
def test_every_pooling_is_applied_in_the_spelling_of_both_eras(
    tmp_path: Path, theirs: str, flag: str, ours: str, is_new: bool
) -> None:
    pooling = {"pooling_mode": theirs} if is_new else {"pooling_mode_mean_tokens": False, flag: True}
    written = json.dumps({"word_embedding_dimension": 32, "include_prompt": True, **pooling}).encode()
    metadata, _ = converted(tmp_path, {"1_Pooling/config.json": written})
    assert metadata["pooling"] == ours
    with ArrowEngine(tmp_path / "out") as engine:
        ids = engine.tokenizer.encode("hello world hello", padding=False).flat_ids
        (states,) = engine.core.hidden_states(ids[None])
        places = np.arange(1, len(states) + 1)[:, None]
        expected = {
            "cls": states[0],
            "mean": states.mean(0),
            "max": states.max(0),
            "mean_sqrt": states.sum(0) / np.sqrt(len(states)),
            "weighted_mean": (states * places).sum(0) / places.sum(),
            "last": states[-1],
        }[ours]
        found = engine.encode("hello world hello", normalize=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_prompt_that_is_not_pooled_is_still_seen(tmp_path: Path) -> None:
    converted(tmp_path, {"1_Pooling/config.json": {"include_prompt": False}})
    with ArrowEngine(tmp_path / "out") as engine:
        ids = engine.tokenizer.encode("hello world", padding=False).flat_ids
        (states,) = engine.core.hidden_states(ids[None])
        found = engine.encode_query("world", normalize=False)
        # [CLS] and the prompt's "hello" are left out; "world" and [SEP] are pooled.
        np.testing.assert_allclose(found, states[2:].mean(0), rtol=1e-5, atol=1e-6)


def test_the_default_prompt_stands_before_texts_of_no_stated_use(tmp_path: Path) -> None:
    prompts = {"prompts": {"mine": "world ", "query": "hello "}, "default_prompt_name": "mine"}
    converted(tmp_path, {"config_sentence_transformers.json": prompts})
    with ArrowEngine(tmp_path / "out") as engine:
        with_default, without = engine.encode("hello"), engine.encode("hello", prompt="")
        np.testing.assert_array_equal(with_default, engine.encode("world hello", prompt=""))
        assert not np.array_equal(with_default, without)
        np.testing.assert_array_equal(engine.encode_query("hello"), engine.encode("hello hello", prompt=""))
        np.testing.assert_array_equal(engine.encode_document("hello"), without)


def test_the_models_own_dimension_is_kept(tmp_path: Path) -> None:
    converted(tmp_path, {"config_sentence_transformers.json": {"truncate_dim": 8}})
    with ArrowEngine(tmp_path / "out") as engine:
        assert engine.dimension == 8
        assert engine.encode(["hello", "world"]).shape == (2, 8)
        assert engine.encode("hello", truncate_dim=16).shape == (16,)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"tokenizer_config.json": {"do_lower_case": False}}, False),
        ({"tokenizer_config.json": {"do_lower_case": False, "tokenizer_class": "BertTokenizerFast"}}, False),
        ({"tokenizer_config.json": {"do_lower_case": False, "tokenizer_class": "TokenizersBackend"}}, True),
        (
            {
                "tokenizer_config.json": {"do_lower_case": False},
                "sentence_bert_config.json": {"do_lower_case": True},
            },
            True,
        ),
    ],
)
def test_texts_are_lower_cased_as_the_configurations_say(tmp_path: Path, changes: dict, same: bool) -> None:
    converted(tmp_path, changes)
    with ArrowEngine(tmp_path / "out") as engine:
        ids = [engine.tokenizer.encode(text, padding=False).flat_ids.tolist() for text in ("HELLO", "hello")]
    assert (ids[0] == ids[1]) is same


@pytest.mark.parametrize(
    "change",
    [
        {"use_sliding_window": True, "sliding_window": 1024, "max_window_layers": 1},
        {"model_type": "llama", "sliding_window": 1024},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"hidden_act": "gelu"},
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mrope_section": [1, 2]}},
        {"is_causal": False},
    ],
)
def test_decoders_whose_attention_differs_are_refused(change: dict) -> None:
    with pytest.raises(ModelLoadError):
        metadata_from_config({**DECODER, **change})


@pytest.mark.parametrize(
    ("change", "theta", "scaling"),
    [
        ({"use_sliding_window": False, "sliding_window": 1024, "max_window_layers": 1}, 1e4, None),
        ({"use_sliding_window": True, "sliding_window": 1024, "max_window_layers": 2}, 1e4, None),
        ({"rope_theta": 5e5}, 5e5, None),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, None),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}, 5e5, ("linear", 4.0)),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4}}, 5e5, ("linear", 4.0)),
        ({"rope_scaling": {"rope_theta": 5e5, "type": "linear", "factor": 4}}, 5e5, ("linear", 4.0)),
    ],
)
def test_rotary_settings_of_both_eras_are_applied(
    change: dict, theta: float, scaling: tuple[str, float] | None
) -> None:
    metadata = metadata_from_config({**DECODER, **change})
    assert metadata["rope_theta"] == theta
    found = metadata["rope_scaling"]
    assert (None if found is None else (found["rope_type"], found["factor"])) == scaling


@pytest.mark.parametrize(
    ("own", "models", "original"),
    [(None, None, 4096), (1024, None, 1024), (None, 2048, 2048), (1024, 2048, 2048)],
)
def test_the_length_before_scaling_is_found_where_transformers_finds_it(
    own: int | None, models: int | None, original: int
) -> None:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = {**DECODER, "rope_parameters": {**llama3, "original_max_position_embeddings": own}}
    scaling = metadata_from_config({**config, "original_max_position_embeddings": models})["rope_scaling"]
    assert scaling["original_max_position_embeddings"] == original
