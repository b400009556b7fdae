"""Tiny models of random weights with a tokenizer of bytes, written as model folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion import _native

SPECIALS = ["<pad>", "<s>", "</s>", "[CLS]", "[SEP]"]
HIDDEN, WIDE, LAYERS, HEADS, WINDOW = 32, 48, 2, 4, 96


def byte_alphabet() -> list[str]:
    """One printable character for each byte, in the order of GPT-2's byte-level vocabulary."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    table = {byte: chr(byte) for byte in kept}
    table.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return [table[byte] for byte in range(256)]


def tokenizer_json(begin: str | None, end: str | None) -> str:
    vocab = {char: index for index, char in enumerate(byte_alphabet())}
    added = [
        {
            "id": 256 + index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(SPECIALS)
    ]
    around = [{"SpecialToken": {"id": begin, "type_id": 0}}] if begin else []
    around.append({"Sequence": {"id": "A", "type_id": 0}})
    around += [{"SpecialToken": {"id": end, "type_id": 0}}] if end else []
    used = {
        token: {"id": token, "ids": [256 + SPECIALS.index(token)], "tokens": [token]}
        for token in (begin, end)
        if token
    }
    template = {"type": "TemplateProcessing", "single": around, "pair": around, "special_tokens": used}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": level,
            "post_processor": template if used else None,
            "decoder": level,
            "model": model,
        }
    )


def shapes(decoder: bool) -> dict[str, list[int]]:
    vocab = 256 + len(SPECIALS)
    if decoder:
        found = {"model.embed_tokens.weight": [vocab, HIDDEN], "model.norm.weight": [HIDDEN]}
        for layer in range(LAYERS):
            prefix = f"model.layers.{layer}"
            for part in ("q", "k", "v", "o"):
                rows = HIDDEN // 2 if part in "kv" else HIDDEN
                found[f"{prefix}.self_attn.{part}_proj.weight"] = [rows, HIDDEN]
            found[f"{prefix}.mlp.gate_proj.weight"] = found[f"{prefix}.mlp.up_proj.weight"] = [WIDE, HIDDEN]
            found[f"{prefix}.mlp.down_proj.weight"] = [HIDDEN, WIDE]
            found[f"{prefix}.input_layernorm.weight"] = [HIDDEN]
            found[f"{prefix}.post_attention_layernorm.weight"] = [HIDDEN]
        return found
    found = {
        "embeddings.word_embeddings.weight": [vocab, HIDDEN],
        "embeddings.position_embeddings.weight": [WINDOW, HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, HIDDEN],
    }
    layers = {"embeddings.LayerNorm": [HIDDEN]}
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            layers[f"{prefix}.{part}"] = [HIDDEN, HIDDEN]
        layers[f"{prefix}.attention.output.dense"] = [HIDDEN, HIDDEN]
        layers[f"{prefix}.attention.output.LayerNorm"] = [HIDDEN]
        layers[f"{prefix}.intermediate.dense"] = [WIDE, HIDDEN]
        layers[f"{prefix}.output.dense"] = [HIDDEN, WIDE]
        layers[f"{prefix}.output.LayerNorm"] = [HIDDEN]
    for prefix, shape in layers.items():
        found[f"{prefix}.weight"], found[f"{prefix}.bias"] = shape, shape[:1]
    return found


def write_model(folder: Path, *, decoder: bool, **changes: object) -> Path:
    """A model folder; `changes` go into its metadata."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    writer = _native.WeightWriter(folder / "weights.parquet", {})
    for name, shape in shapes(decoder).items():
        array = random.normal(0, 0.25, shape).astype(np.float32)
        writer.add_plain(name, array + np.float32(name.endswith(("norm.weight", "Norm.weight"))))
    writer.finish()
    metadata = {
        "format_version": 1,
        "model_type": "decoder" if decoder else "encoder",
        "architecture": "llama" if decoder else "bert",
        "hidden_size": HIDDEN,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "num_kv_heads": HEADS // 2 if decoder else HEADS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": WIDE,
        "vocab_size": 256 + len(SPECIALS),
        "max_position_embeddings": WINDOW,
        "max_seq_length": WINDOW if decoder else 24,
        "norm_eps": 1e-5,
        "hidden_act": "silu" if decoder else "gelu",
        "rope_theta": 10000.0,
        "tied_embeddings": True,
        "type_vocab_size": 2,
        "pooling": None if decoder else "mean",
        "normalize": not decoder,
        "prompts": {} if decoder else {"query": "q: ", "document": ""},
        "eos_token_ids": [258] if decoder else [],
        "chat_template": "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}",
        **changes,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    marks = (None, None) if decoder else ("[CLS]", "[SEP]")
    (folder / "tokenizer.json").write_text(tokenizer_json(*marks), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny-encoder", decoder=False)


@pytest.fixture(scope="session")
def tiny_decoder_dir(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny-decoder", decoder=True)


@pytest.fixture(scope="session", params=["native", pytest.param("torch", marks=pytest.mark.torch)])
def backend(request) -> str:
    """What `InferenceCore` promises holds on each."""
    if request.param == "torch":
        pytest.importorskip("torch")
    return request.param


@pytest.fixture
def alike(backend):
    """Compares numbers: to the bit, or where passes of other shapes round in another order, nearly."""

    def compare(got, expected) -> None:
        if backend == "native":
            np.testing.assert_array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)

    return compare


@pytest.fixture
def make_model(tmp_path):
    """Writes a model folder of one's own: `make_model(decoder=True, pooling="last")`."""
    return lambda **options: write_model(tmp_path / f"model-{len(list(tmp_path.iterdir()))}", **options)
