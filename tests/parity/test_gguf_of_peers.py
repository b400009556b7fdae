"""GGUF files of today's gguf package give the logits that today's transformers computes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.convert import convert_model

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

HIDDEN, WIDE, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
TOKENS = ["<s>", "</s>", "<unk>", *"abcdefgh", "ab", "Ġ", "Ġa"]


def shapes(architecture: str, head: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        own = {
            "attn_norm.weight": (HIDDEN,),
            "ffn_norm.weight": (HIDDEN,),
            "attn_q.weight": (HEADS * head, HIDDEN),
            "attn_k.weight": (KV_HEADS * head, HIDDEN),
            "attn_v.weight": (KV_HEADS * head, HIDDEN),
            "attn_output.weight": (HIDDEN, HEADS * head),
            "ffn_gate.weight": (WIDE, HIDDEN),
            "ffn_up.weight": (WIDE, HIDDEN),
            "ffn_down.weight": (HIDDEN, WIDE),
        }
        if architecture == "qwen2":
            own |= {f"attn_{part}.bias": own[f"attn_{part}.weight"][:1] for part in "qkv"}
        if architecture == "qwen3":
            own |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
        found |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    return found


def write(path: Path, architecture: str, kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    # Transformers takes the length of a Qwen3 head from its own default, not from the file.
    head = 128 if architecture == "qwen3" else HIDDEN // HEADS
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if architecture == "llama" else "qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    random = np.random.default_rng(7)
    for name, shape in shapes(architecture, head).items():
        values = (random.standard_normal(shape) * 0.3).astype(np.float32)
        if len(shape) == 1 or kind == "F32":
            writer.add_tensor(name, values + np.float32(name.endswith("norm.weight")))
            continue
        reference = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, reference), raw_dtype=reference)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_logits(tmp_path: Path, architecture: str, kind: str) -> None:
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    write(tmp_path / "model.gguf", architecture, kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    ids = torch.tensor([[3, 4, 5, 11, 13, 9, 3]])
    with torch.inference_mode():
        expected = theirs(ids).logits[0].numpy()
    convert_model(tmp_path / "model.gguf", tmp_path / "out")
    with ArrowEngine(tmp_path / "out", backend="torch") as engine:
        reference = engine.core.logits(ids[0].numpy())
    np.testing.assert_allclose(reference, expected, atol=2e-4 * np.abs(expected).max())
    with ArrowEngine(tmp_path / "out") as engine:
        found = engine.core.logits(ids[0].numpy())
    # Weights of eight and four bits meet activations of eight.
    tolerance = 0.15 if kind.startswith("Q") else 2e-4
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
