"""A tiny random Qwen2, as `unpack_model.py` would write it, beside the library's."""

from __future__ import annotations

import json

import pytest

_WIDTH = 32
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _name(name: str) -> str:
    name = name.replace("model.layers.", "blk.")
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture
def tiny(asking, tmp_path, monkeypatch):
    """The library's model, and ours with the same weights, in float32."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from safetensors.torch import save_file

    torch.manual_seed(3)
    config = transformers.Qwen2Config(
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=300,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    theirs = transformers.Qwen2ForCausalLM(config).float().eval()
    for name, values in theirs.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(values, 1.0 if "norm" in name else 0.0, 0.3)
    save_file(
        {_name(name): values.contiguous() for name, values in theirs.state_dict().items()},
        tmp_path / "weights.safetensors",
    )
    about = {
        "embedding_length": _WIDTH,
        "block_count": 2,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_parameters["rope_theta"],
    }
    (tmp_path / "settings.json").write_text(
        json.dumps({f"qwen2.{name}": value for name, value in about.items()})
    )
    from qwen2 import Qwen2

    monkeypatch.setattr(Qwen2, "dtype", torch.float32)
    return theirs, Qwen2(tmp_path, torch.device("cpu"))
