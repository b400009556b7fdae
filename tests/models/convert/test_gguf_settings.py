"""Settings of GGUF files: applied as llama.cpp reads them, or refused by name.

The expected values are those of llama_model_base::load_hparams and llama_vocab::impl::load.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.utils.errors import DiffusionError, ModelLoadError
from support.gguf_file import GGUF, TENSORS, TOKENS, Value, gguf, numbers, text, texts

BASE = {key: value for key, value in GGUF.items() if ".rope." not in key}


def uint(value: int) -> Value:
    return 4, struct.pack("<I", value)


def real(value: float) -> Value:
    return 6, struct.pack("<f", value)


def flag(value: bool) -> Value:
    return 7, struct.pack("<?", value)


def word(value: str) -> Value:
    return 8, text(value)


def converted(
    tmp_path: Path, changes: dict[str, Value], tensors: dict[str, Any] | None = None, *, without: str = ""
) -> dict[str, Any]:
    values = {key: value for key, value in {**BASE, **changes}.items() if key not in without.split()}
    (tmp_path / "model.gguf").write_bytes(gguf(values, {**TENSORS, **(tensors or {})}))
    convert_model(tmp_path / "model.gguf", tmp_path / "out")
    return json.loads((tmp_path / "out" / "metadata.json").read_text())


LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({}, None),
        ({"scaling.type": word("none"), "scaling.factor": real(4)}, None),
        ({"scaling.type": word("linear"), "scaling.factor": real(4)}, LINEAR),
        # Without a kind, llama.cpp scales linearly; files of 2023 have the factor under another name.
        ({"scaling.factor": real(4)}, LINEAR),
        ({"scale_linear": real(4)}, LINEAR),
        ({"scale_linear": real(2), "scaling.factor": real(4)}, LINEAR),
        ({"scaling.factor": real(1)}, None),
        ({"scaling.factor": real(0)}, None),
        (
            {
                "scaling.type": word("yarn"),
                "scaling.factor": real(4),
                "scaling.original_context_length": uint(16),
                "scaling.yarn_beta_fast": real(32),
            },
            YARN,
        ),
    ],
)
def test_scaling_of_positions_is_applied_in_the_keys_of_every_era(
    tmp_path: Path, settings: dict[str, Value], scaling: dict[str, Any] | None
) -> None:
    changes = {f"llama.rope.{key}": value for key, value in settings.items()}
    assert converted(tmp_path, changes)["rope_scaling"] == scaling
    with ArrowEngine(tmp_path / "out") as engine:
        assert isinstance(engine.generate("ab", max_tokens=2), str)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.type", word("longrope")),
        ("rope.scaling.type", word("of_tomorrow")),
        ("rope.dimension_count", uint(4)),
        ("rope.scaling.attn_factor", real(0.5)),
        ("rope.scaling.alpha", real(2)),
        ("attention.sliding_window", uint(16)),
        ("attention.value_length", uint(4)),
        ("attention.causal", flag(False)),
        ("attention.scale", real(0.5)),
        ("attention.clamp_kqv", real(8)),
        ("attention.max_alibi_bias", real(8)),
        ("expert_count", uint(8)),
        ("final_logit_softcapping", real(30)),
        ("logit_scale", real(2)),
        ("residual_scale", real(0.5)),
        ("use_parallel_residual", flag(True)),
        ("pooling_type", uint(4)),
        ("classifier.output_labels", texts("yes", "no")),
        ("embedding_length_out", uint(16)),
        ("nextn_predict_layers", uint(1)),
        ("a_setting_of_tomorrow", uint(3)),
    ],
)
def test_a_setting_that_cannot_be_applied_is_refused_by_name(tmp_path: Path, key: str, value: Value) -> None:
    with pytest.raises(ModelLoadError, match=rf"llama\.{key} is "):
        converted(tmp_path, {f"llama.{key}": value})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "key", ["yarn_beta_fast", "yarn_ext_factor", "yarn_attn_factor", "yarn_log_multiplier"]
)
def test_settings_of_yarn_that_llama_cpp_leaves_out_are_refused(tmp_path: Path, key: str) -> None:
    yarn = {"llama.rope.scaling.type": word("yarn"), "llama.rope.scaling.factor": real(4)}
    with pytest.raises(ModelLoadError, match=f"{key} is 0.5"):
        converted(tmp_path, {**yarn, f"llama.rope.scaling.{key}": real(0.5)})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.type", word("adapter")),
        ("split.count", uint(3)),
        ("adapter.type", word("lora")),
        ("tokenizer.ggml.suppress_tokens", numbers("i", 5, 3)),
    ],
)
def test_files_that_are_no_whole_model_are_refused(tmp_path: Path, key: str, value: Value) -> None:
    with pytest.raises(ModelLoadError, match=f"{key} is "):
        converted(tmp_path, {key: value})


@pytest.mark.parametrize(
    "name", ["rope_freqs.weight", "blk.0.attn_q_norm.weight", "blk.0.ffn_gate_inp.weight"]
)
def test_tensors_that_take_no_part_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiffusionError, match=r"rope_freqs|q_norm|no place"):
        converted(tmp_path, {}, {name: (4,)})


def test_biases_take_part(tmp_path: Path) -> None:
    biases = {"blk.0.attn_output.bias": (32,), "blk.0.ffn_up.bias": (64,), "blk.0.attn_q.bias": (32,)}
    biases |= {"blk.0.attn_k.bias": (16,), "blk.0.attn_v.bias": (16,)}
    logits = []
    for name, tensors in (("with", biases), ("without", {})):
        (tmp_path / name).mkdir()
        converted(tmp_path / name, {}, tensors)
        with ArrowEngine(tmp_path / name / "out") as engine:
            logits.append(engine.core.logits(np.array([3, 4], np.int32)))
    assert not np.allclose(*logits)


@pytest.mark.parametrize(("number", "pooling"), [(0, None), (1, "mean"), (2, "cls"), (3, "last")])
def test_the_pooling_is_applied(tmp_path: Path, number: int, pooling: str | None) -> None:
    metadata = converted(tmp_path, {"llama.pooling_type": uint(number)})
    assert (metadata["pooling"], metadata["normalize"]) == (pooling, pooling is not None)


@pytest.mark.parametrize(
    ("pre", "begins"),
    [
        ("llama-bpe", True),
        ("llama3", True),
        ("llama-v3", True),
        ("falcon3", True),
        ("pixtral", True),
        ("lfm2", True),
        ("dbrx", False),
        ("smaug-bpe", False),
        ("default", False),
        ("gpt-2", False),
        ("smollm", False),
        ("qwen2", False),
        ("deepseek-r1-qwen", False),
    ],
)
def test_texts_begin_as_the_pre_tokenizer_has_it_unless_the_file_says(
    tmp_path: Path, pre: str, begins: bool
) -> None:
    changes = {"tokenizer.ggml.pre": word(pre)}
    for said, expected in ((None, begins), (False, False), (True, True)):
        own = {} if said is None else {"tokenizer.ggml.add_bos_token": flag(said)}
        without = "tokenizer.ggml.add_bos_token" if said is None else ""
        folder = tmp_path / str(said)
        folder.mkdir()
        converted(folder, {**changes, **own}, without=without)
        ids = Tokenizer.from_file(str(folder / "out" / "tokenizer.json")).encode("ab").ids
        assert ids == [0, 5] if expected else [5]
        settings = json.loads((folder / "out" / "tokenizer_config.json").read_text())
        assert settings["add_bos_token"] is expected


def test_sentence_pieces_begin_with_the_token_that_llama_cpp_takes_for_it(tmp_path: Path) -> None:
    roles = "bos eos unknown padding".split()
    without = " ".join(f"tokenizer.ggml.{role}_token_id" for role in roles)
    metadata = converted(
        tmp_path,
        {"tokenizer.ggml.model": word("llama"), "tokenizer.ggml.add_space_prefix": flag(False)},
        without=f"{without} tokenizer.ggml.add_bos_token tokenizer.ggml.pre",
    )
    assert (metadata["bos_token_id"], metadata["eos_token_ids"]) == (1, [2, 1])
    assert Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode("ab").ids == [1, 5]


def test_tokens_that_end_a_turn_end_a_text(tmp_path: Path) -> None:
    tokens = ["<s>", "<|end_of_text|>", "<|eot_id|>", *TOKENS[3:]]
    metadata = converted(tmp_path, {"tokenizer.ggml.tokens": texts(*tokens)})
    assert metadata["eos_token_ids"] == [1, 2]
    # One outside the vocabulary counts as not said.
    (tmp_path / "beyond").mkdir()
    far = {"tokenizer.ggml.tokens": texts(*tokens), "tokenizer.ggml.eos_token_id": uint(99)}
    assert converted(tmp_path / "beyond", far)["eos_token_ids"] == [1, 2]


def test_the_default_pre_tokenizer_splits_as_llama_cpp(tmp_path: Path) -> None:
    converted(tmp_path, {}, without="tokenizer.ggml.pre")
    split = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).pre_tokenizer
    pieces = [piece for piece, _ in split.pre_tokenize_str("It's $5,12345 a=b  x")]
    assert pieces == ["It", "'", "s", "Ġ", "$", "5", ",", "123", "45", "Ġa", "=", "b", "Ġ", "Ġx"]
