"""Tiny models of every family that training knows."""

from __future__ import annotations

import shutil

import pytest

from ai_os_diffusion.models.convert import convert_model

FAMILIES = {
    "Llama": {"tie_word_embeddings": True},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"tie_word_embeddings": False, "head_dim": 16},
}


@pytest.fixture(scope="module", params=FAMILIES)
def family_dir(request, tiny_decoder_dir, tmp_path_factory):
    """A tiny random model of each family, of which no two tensors are alike, with the tiny tokenizer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = tmp_path_factory.mktemp(f"{request.param}_source")
    torch.manual_seed(7)
    kind = getattr(transformers, f"{request.param}ForCausalLM")
    config = kind.config_class(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=261,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=2,
        bos_token_id=0,
        **FAMILIES[request.param],
    )
    model = kind(config)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    model.save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_decoder_dir / name, source / name)
    out = tmp_path_factory.mktemp("models") / request.param
    convert_model(source, out, quantize="fp32")
    return out
