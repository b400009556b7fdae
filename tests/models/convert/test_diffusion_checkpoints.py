"""Diffusion models of other projects convert by what their configuration says, and are refused by name "
"otherwise."""

from __future__ import annotations

import json

import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import (
    ConfigurationError,
    InferenceError,
    ModelLoadError,
    TokenizerError,
    WeightError,
)
from support.diffusion_checkpoints import CHECKPOINTS, EOS, MASK, VOCAB, write_checkpoint

EXPECTED = {
    "llada": ("llama", "full", False, 32, None),
    "dream": ("qwen2", "full", True, 32, None),
    "a2d": ("qwen3", "full", False, 32, None),
    "sdar": ("qwen3", "block", False, 4, None),
    "fast_dllm_v2": ("qwen2", "block", True, 32, 8),
}


def converted(tmp_path, kind, *, diffusion=None, quantize=None, **options):
    write_checkpoint(tmp_path / "source", kind, **options)
    report = convert_model(tmp_path / "source", tmp_path / "out", diffusion=diffusion, quantize=quantize)
    return ModelMetadata.from_folder(tmp_path / "out"), report


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_every_kind_converts_and_writes_without_a_card(tmp_path, kind, quantize):
    metadata, report = converted(tmp_path, kind, quantize=quantize)
    settings = metadata.diffusion
    assert (
        metadata.architecture,
        settings.attention,
        settings.shift,
        settings.block_length,
        settings.sub_block_length,
    ) == EXPECTED[kind]
    assert (settings.mask_id, settings.end_ids, metadata.vocab_size) == (MASK, (EOS,), VOCAB)
    assert metadata.model_type == metadata.kind == "diffusion"
    assert not report.dropped
    assert [("mdlm" in note) for note in report.notes] == ([True] if kind == "a2d" else [])
    with ArrowEngine(tmp_path / "out", device="cpu") as engine:
        assert engine.model_info["model_type"] == "diffusion"
        found = engine.diffuse("What?", max_tokens=12)
        assert len(found.tokens) <= 12
        assert MASK not in found.tokens
        assert engine.diffuse(infill="Ann has {} cats.", max_fill=3).startswith("Ann has ")
        assert engine.diffuse(template={"age": int}).value.keys() == {"age"}
        with pytest.raises(InferenceError, match=r"generate\(\.\.\., mode='diffusion'\) or diffuse"):
            engine.generate("What?")
        with pytest.raises(InferenceError, match="perplexity reads a text from left to right"):
            engine.perplexity("Some text.")
    convert_model(tmp_path / "out", tmp_path / "again", quantize="int4")
    assert ModelMetadata.from_folder(tmp_path / "again").diffusion == settings


def test_what_the_configuration_does_not_say_can_be_given(tmp_path):
    metadata, _ = converted(tmp_path, "a2d", diffusion={"attention": "block", "threshold": 0.7})
    assert (metadata.diffusion.attention, metadata.diffusion.threshold) == ("block", 0.7)
    assert metadata.diffusion.chat_template.startswith("{%- set enable_thinking = false -%}")


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_mask_token_is_found_or_asked_for(tmp_path, kind):
    without = ("mask_token_id",)
    # Its project's own spelling, without anyone saying that it is the mask.
    write_checkpoint(tmp_path / "spelled", kind, without=without, mask=CHECKPOINTS[kind].mask)
    convert_model(tmp_path / "spelled", tmp_path / "found")
    assert ModelMetadata.from_folder(tmp_path / "found").diffusion.mask_id == MASK
    write_checkpoint(tmp_path / "unnamed", kind, without=without, mask="<|other|>")
    with pytest.raises(ModelLoadError, match=r"a diffusion model without a mask token: .* mask_id"):
        convert_model(tmp_path / "unnamed", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert_model(tmp_path / "unnamed", tmp_path / "out", diffusion={"mask_id": 7})
    assert ModelMetadata.from_folder(tmp_path / "out").diffusion.mask_id == 7


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("llada", {"alibi": True}, "alibi is True, expected False: scores would be changed"),
        ("llada", {"rope": None}, "rope is False, expected True: positions would have no part"),
        ("llada", {"block_type": "sequential"}, "block_type is 'sequential', expected 'llama'"),
        ("llada", {"layer_norm_type": None}, "layer_norm_type is 'default', expected 'rms'"),
        ("llada", {"activation_type": None}, "activation_type is 'swiglu', expected one of silu"),
        ("llada", {"attention_layer_norm": True}, "attention_layer_norm is True, expected False"),
        ("llada", {"multi_query_attention": True}, "multi_query_attention is True, expected False"),
        ("llada", {"d_model": None}, "d_model is missing"),
        ("llada", {"n_layers": 10**9}, r"n_layers is 1000000000, expected a whole number from 1 to 4096"),
        ("llada", {"n_heads": "4"}, "n_heads is '4', expected a whole number"),
        (
            "llada",
            {"architectures": ["LLaDAMoEModelLM"]},
            "architectures is 'LLaDAMoEModelLM', expected LLaDAM",
        ),
        (
            "dream",
            {"architectures": ["DreamForCausalLM"]},
            "architectures is 'DreamForCausalLM', expected Dre",
        ),
        ("dream", {"use_mrope": True}, "use_mrope is True, expected False: positions would have three"),
        ("dream", {"mask_token_id": VOCAB}, f"mask_token_id is {VOCAB}, and the mask_token .* is {MASK}"),
        (
            "llada",
            {"mask_token_id": VOCAB},
            f"mask_id is {VOCAB}, expected a whole number from 0 to {VOCAB - 1}",
        ),
        ("llada", {"mask_token_id": "mask"}, "mask_token_id is 'mask', expected a whole number"),
        ("sdar", {"block_size": 0}, "block_size is 0, expected a whole number from 1 to 4096"),
        ("sdar", {"model_type": "sdar_moe"}, "model_type 'sdar_moe' cannot be run"),
        ("fast_dllm_v2", {"bd_size": "32"}, "bd_size is '32', expected a whole number"),
        (
            "a2d",
            {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0, "layer_types": None},
            "sliding_window",
        ),
        ("a2d", {"model_type": "qwen3"}, "auto_map .* expected no such key"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_its_own_name(tmp_path, kind, config, message):
    with pytest.raises(ModelLoadError, match=message):
        converted(tmp_path, kind, config=config)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_missing_tensor_is_named(tmp_path, kind):
    network = write_checkpoint(tmp_path / "source", kind)
    from support.loopback_hub import safetensors

    for name in list(network.tensors)[1::4]:
        left = {other: values for other, values in network.tensors.items() if other != name}
        (tmp_path / "source" / "model.safetensors").write_bytes(safetensors(left))
        with pytest.raises(WeightError, match=r"is missing|takes no part"):
            convert_model(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"attentoin": "full"}, ConfigurationError, "'attentoin' is no setting, expected some of mask_id"),
        ({"attention": "all"}, ModelLoadError, "attention is 'all', expected 'prefix', 'causal', 'full' or"),
        ({"block_length": 0}, ModelLoadError, "block_length is 0, expected a whole number from 1 to 4096"),
        ({"cache": "both"}, ModelLoadError, "cache is 'both', expected 'none', 'prefix' or 'dual'"),
        (
            {"attention": "block", "cache": "dual"},
            ModelLoadError,
            "cache is 'dual', expected 'none' with attention 'block'",
        ),
        ({"mask_id": -1}, ModelLoadError, "mask_id is -1"),
    ],
)
def test_settings_that_are_given_wrong_are_refused(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        converted(tmp_path, "llada", diffusion=settings)
    assert not (tmp_path / "out").exists()


def test_any_decoder_can_be_said_to_write_so(tmp_path, tiny_encoder_dir, tiny_decoder_dir):
    convert_model(tiny_decoder_dir, tmp_path / "out", diffusion={"mask_id": 3, "attention": "full"})
    with ArrowEngine(tmp_path / "out", device="cpu") as engine:
        assert 3 not in engine.diffuse("What?", max_tokens=8).tokens
    with pytest.raises(ModelLoadError, match="an encoder does not write"):
        convert_model(tiny_encoder_dir, tmp_path / "other", diffusion={"mask_id": 3})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"attention": "full"}, "names no mask_id"),
        ({"mask_id": 10**6}, "mask_id is 1000000"),
        ({"mask_id": 1, "shift": "yes"}, "shift is 'yes'"),
        ([1], "diffusion is .*, expected an object"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, section, message):
    converted(tmp_path, "llada")
    file = tmp_path / "out" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "diffusion": section}))
    with pytest.raises(ModelLoadError, match=message):
        ModelMetadata.from_folder(tmp_path / "out")


def split_tokenizer(source, merges):
    """Dream is saved without a tokenizer.json: a vocabulary, merges, and added tokens by their ids."""
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").unlink()
    (source / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    (source / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "DreamTokenizer"
    config["auto_map"] = None
    config["added_tokens_decoder"] = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def test_a_tokenizer_of_vocabulary_and_merges_cuts_as_qwen2_does(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    write_checkpoint(tmp_path / "source", "dream")
    source = tmp_path / "source"
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    # Two words stand where two rare bytes did.
    pairs = [("t", "h"), ("1", "2")]
    for id, pair in zip((0, 1), pairs, strict=True):
        del vocab[next(text for text, one in vocab.items() if one == id)]
        vocab["".join(pair)] = id
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    split_tokenizer(source, pairs)
    convert_model(source, tmp_path / "out")
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    peer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, pairs))
    peer.normalizer = tokenizers.normalizers.NFC()
    peer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(words), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    with ArrowEngine(tmp_path / "out", device="cpu") as engine:
        for text in ("the bath in 12 ways", "It's e\u0301 \u00e9  \n\n x", "\u4f60\u597d 1212!"):
            found = engine.tokenizer.encode(text, add_special_tokens=False, padding=False).flat_ids.tolist()
            assert found == peer.encode(text).ids
            assert engine.tokenizer.decode(found) == peer.normalizer.normalize_str(text)
        # Digits are cut apart before pairs are merged.
        assert 1 not in engine.tokenizer.encode("1212", padding=False).flat_ids.tolist()
        assert engine.metadata.diffusion.mask_id == MASK
        assert engine.diffuse("What?", max_tokens=8).tokens


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", '{"a": "b"}', "a is 'b', expected the id of a token"),
        ("merges.txt", "#version: 0.2\na b c\n", r"merges.txt: no merges, or one that is not two texts"),
        ("merges.txt", "", r"merges.txt: no merges"),
    ],
)
def test_a_damaged_vocabulary_is_named(tmp_path, file, content, message):
    write_checkpoint(tmp_path / "source", "dream")
    split_tokenizer(tmp_path / "source", [("t", "h")])
    (tmp_path / "source" / file).write_text(content)
    with pytest.raises(TokenizerError, match=message):
        convert_model(tmp_path / "source", tmp_path / "out")
