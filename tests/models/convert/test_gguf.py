"""GGUF: every storage type, row order, metadata, tokenizer, and damaged files."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.gguf.blocks import BLOCK_TYPES, dequantize_blocks, split_blocks
from ai_os_diffusion.models.convert.gguf.container import GgufFile
from ai_os_diffusion.utils.errors import ModelLoadError, TokenizerError, WeightError

RNG = np.random.default_rng(3)
HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, LAYERS = 256, 8, 4, 512, 2
TOKENS = ["<|end|>", "<|start|>", *(chr(33 + i) for i in range(90)), "Ġ", "Ġa", "ab"]


def halves_in(raw: np.ndarray, *offsets: int) -> np.ndarray:
    """Random blocks with sane half-precision numbers at some offsets."""
    for at in offsets:
        raw[:, at : at + 2] = RNG.normal(0, 0.1, (len(raw), 1)).astype(np.float16).view(np.uint8)
    return raw


@pytest.mark.parametrize("number", sorted(BLOCK_TYPES))
def test_every_storage_type_reads_as_the_reference_does(number: int) -> None:
    kind = BLOCK_TYPES[number]
    reference = gguf.GGMLQuantizationType(number)
    assert (kind.block, kind.size_bytes) == gguf.GGML_QUANT_SIZES[reference]
    assert kind.name == reference.name
    offsets = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q4_K": (0, 2)}
    offsets |= {"Q5_K": (0, 2), "Q6_K": (208,), "F16": (0,)}
    if kind.name == "F32":
        raw = RNG.standard_normal((640, 1)).astype(np.float32).view(np.uint8)
    else:
        raw = RNG.integers(0, 256, (640, kind.size_bytes), dtype=np.uint8)
        if kind.name == "BF16":
            raw[:, 1] = 0x3F
    raw = halves_in(raw, *offsets.get(kind.name, ()))
    expected = dequantize(raw, reference).astype(np.float32).reshape(640, kind.block)
    np.testing.assert_array_equal(dequantize_blocks(kind, raw), expected)
    if kind.split is not None:
        codes = split_blocks(kind, raw, (64, 10 * kind.block))
        middle = 0 if codes.zero_points is not None else 1 << (kind.bits - 1)
        values = codes.codes.reshape(640, -1).astype(np.float32) - middle
        values *= codes.scales.reshape(640, 1).astype(np.float32)
        if codes.zero_points is not None:
            values += codes.zero_points.reshape(640, 1).astype(np.float32)
        np.testing.assert_array_equal(values, expected)


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of query and key rows, as its converter makes it."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors(architecture: str, vocab: int) -> dict[str, tuple[str, np.ndarray]]:
    """llama.cpp name to Hugging Face name and weights."""
    shapes = {
        "attn_q": ("self_attn.q_proj", (HIDDEN, HIDDEN)),
        "attn_k": ("self_attn.k_proj", (HIDDEN // 2, HIDDEN)),
        "attn_v": ("self_attn.v_proj", (HIDDEN // 2, HIDDEN)),
        "attn_output": ("self_attn.o_proj", (HIDDEN, HIDDEN)),
        "ffn_gate": ("mlp.gate_proj", (FEED_FORWARD, HIDDEN)),
        "ffn_up": ("mlp.up_proj", (FEED_FORWARD, HIDDEN)),
        "ffn_down": ("mlp.down_proj", (HIDDEN, FEED_FORWARD)),
        "attn_norm": ("input_layernorm", (HIDDEN,)),
        "ffn_norm": ("post_attention_layernorm", (HIDDEN,)),
    }
    found: dict[str, tuple[str, np.ndarray]] = {}

    def add(name: str, target: str, shape: tuple[int, ...]) -> None:
        found[name] = (target, RNG.standard_normal(shape).astype(np.float32) * 0.1)

    add("token_embd.weight", "model.embed_tokens.weight", (vocab, HIDDEN))
    add("output_norm.weight", "model.norm.weight", (HIDDEN,))
    for layer in range(LAYERS):
        for short, (long, shape) in shapes.items():
            add(f"blk.{layer}.{short}.weight", f"model.layers.{layer}.{long}.weight", shape)
        if architecture == "qwen2":
            for part, rows in (("q", HIDDEN), ("k", HIDDEN // 2), ("v", HIDDEN // 2)):
                add(
                    f"blk.{layer}.attn_{part}.bias",
                    f"model.layers.{layer}.self_attn.{part}_proj.bias",
                    (rows,),
                )
    return found


def write(path: Path, architecture: str = "llama", kind: str = "Q4_1", **extra: Any) -> dict[str, np.ndarray]:
    """A tiny decoder; returns its Hugging Face tensors as the storage type holds them."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_tokenizer_model(extra.get("model", "gpt2"))
    writer.add_tokenizer_pre(extra.get("pre", "smollm"))
    tokens = extra.get("tokens", TOKENS)
    if tokens is not None:
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    if "scores" in extra:
        writer.add_token_scores(extra["scores"])
    else:
        writer.add_token_merges(["Ġ a", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    reference = gguf.GGMLQuantizationType[kind]
    expected = {}
    for name, (target, weights) in tensors(architecture, len(tokens or TOKENS)).items():
        stored, heads = weights, {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[-2], 0)
        if architecture == "llama" and heads:
            stored = permuted(weights, heads)
        if weights.ndim == 1:
            writer.add_tensor(name, stored)
            expected[target] = weights
            continue
        blocks = quantize(stored, reference)
        if kind == "F16":
            writer.add_tensor(name, stored.astype(np.float16))
        else:
            writer.add_tensor(name, blocks, raw_dtype=reference)
        expected[target] = dequantize(quantize(weights, reference), reference).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32", "Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_weights_carry_over_without_loss(tmp_path: Path, architecture: str, kind: str) -> None:
    expected = write(tmp_path / "model.gguf", architecture, kind)
    report = convert_model(tmp_path / "model.gguf", tmp_path / "out")
    file = WeightFile(tmp_path / "out" / "weights.parquet")
    assert set(file.names) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(file.dequantize(name), values, err_msg=name)
    assert report.notes == ()
    stored = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "Q8_0": "int8", "Q4_0": "int4", "Q4_1": "int4"}
    matrices = 1 + 7 * LAYERS
    assert report.stored[f"{kind} -> {stored[kind]}"] >= matrices
    bits = {"Q8_0": 8.5, "Q4_0": 4.5, "Q4_1": 5.0}.get(kind, {"F32": 32.0}.get(kind, 16.0))
    assert report.linear_bits_per_weight == bits


@pytest.mark.parametrize("kind", ["Q5_0", "Q5_1"])
def test_five_bits_become_eight_and_the_report_says_so(tmp_path: Path, kind: str) -> None:
    expected = write(tmp_path / "model.gguf", kind=kind)
    report = convert_model(tmp_path / "model.gguf", tmp_path / "out")
    assert report.notes == (f"{1 + 7 * LAYERS} {kind} tensors dequantised and rounded again",)
    file = WeightFile(tmp_path / "out" / "weights.parquet")
    for name, values in expected.items():
        np.testing.assert_allclose(file.dequantize(name), values, atol=np.abs(values).max() / 200)


def test_metadata_is_translated(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf")
    convert_model(tmp_path / "model.gguf", tmp_path / "out", name="tiny", revision="r1", licence="mit")
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    expected = {
        "format_version": 1,
        "model_type": "decoder",
        "architecture": "llama",
        "hidden_size": HIDDEN,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "num_kv_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": FEED_FORWARD,
        "vocab_size": len(TOKENS),
        "max_position_embeddings": 512,
        "max_seq_length": 512,
        "norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 100000.0,
        "rope_scaling": None,
        "tied_embeddings": True,
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_ids": [0],
        "chat_template": "{{ messages }}",
    }
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["source"]["name"] == "tiny"
    assert metadata["source"]["revision"] == "r1"
    assert metadata["source"]["license"] == "mit"
    assert list(metadata["source"]["files"]) == ["model.gguf"]


def test_a_byte_pair_tokenizer_is_rebuilt(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf")
    convert_model(tmp_path / "model.gguf", tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("ab12 a<|end|>").tokens == ["ab", "1", "2", "Ġa", "<|end|>"]
    assert tokenizer.decode(tokenizer.encode("ab12 a").ids) == "ab12 a"


def test_a_sentence_piece_tokenizer_is_rebuilt(tmp_path: Path) -> None:
    tokens = ["<s>", "</s>", "<unk>", "▁", "a", "b", "▁a", "ab", *(f"<0x{i:02X}>" for i in range(256))]
    scores = [0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -1.0, -2.0, *[0.0] * 256]
    write(tmp_path / "model.gguf", model="llama", tokens=tokens, scores=scores)
    convert_model(tmp_path / "model.gguf", tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("ab a", add_special_tokens=False).tokens == ["▁a", "b", "▁a"]
    assert tokenizer.encode("é", add_special_tokens=False).tokens == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("ab a é", add_special_tokens=False).ids) == "ab a é"


def test_a_tokenizer_that_cannot_be_rebuilt_is_taken_from_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf")
    convert_model(tmp_path / "model.gguf", tmp_path / "donor")
    write(tmp_path / "model.gguf", tokens=None)
    with pytest.raises(
        TokenizerError, match=r"no vocabulary in its metadata; put the model's tokenizer\.json"
    ):
        convert_model(tmp_path / "model.gguf", tmp_path / "out")
    beside = (tmp_path / "donor" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(beside)
    convert_model(tmp_path / "model.gguf", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == beside


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "bert.gguf", "bert")
    with pytest.raises(ModelLoadError, match="architecture 'bert' cannot be run; expected llama"):
        convert_model(tmp_path / "bert.gguf", tmp_path / "out")
    write(tmp_path / "pre.gguf", pre="poro-chat")
    with pytest.raises(TokenizerError, match="pre-tokenizer 'poro-chat'"):
        convert_model(tmp_path / "pre.gguf", tmp_path / "out")
    write(tmp_path / "model.gguf", model="t5")
    with pytest.raises(TokenizerError, match="tokenizer 't5'"):
        convert_model(tmp_path / "model.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf")
    whole = (tmp_path / "model.gguf").read_bytes()
    header_end = min(tensor.offset for tensor in GgufFile(tmp_path / "model.gguf").tensors)
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, header_end, 13), header_end, len(whole) // 2, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightError, match=r"cut\.gguf"):
            GgufFile(cut)


def test_damaged_headers_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf")
    whole = (tmp_path / "model.gguf").read_bytes()
    bad = tmp_path / "bad.gguf"
    for at, value, message in [
        (0, b"GGML", "not a GGUF file"),
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack(">I", 3), "version 50331648"),
        (8, struct.pack("<Q", 2**60), "counts 1152921504606846976"),
        (16, struct.pack("<Q", 2**60), "counts 1152921504606846976"),
        (24, struct.pack("<Q", 2**63), "truncated"),
    ]:
        bad.write_bytes(whole[:at] + value + whole[at + len(value) :])
        with pytest.raises(WeightError, match=message):
            GgufFile(bad)
    rng = np.random.default_rng(5)
    header_end = min(tensor.offset for tensor in GgufFile(tmp_path / "model.gguf").tensors)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(header_end)] ^= 1 << rng.integers(8)
        bad.write_bytes(damaged)
        # Damage may go unseen in a text or a number; anything else is an error of ours.
        with contextlib.suppress(WeightError):
            GgufFile(bad)
