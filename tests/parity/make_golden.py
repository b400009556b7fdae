"""Tiny random models and what transformers computes with them.

Run with an interpreter that has torch and transformers: `python tests/parity/make_golden.py roberta`. It
rewrites `golden/roberta.npz`, without a name all files, which the tests compare with where torch is absent.
Weights are rounded to half precision before the reference runs, so the files hold them exactly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.models.convert.settings.architecture import canonical_name, metadata_from_config
from ai_os_diffusion.models.convert.settings.head import head_of_config
from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.untrusted_values import UntrustedValues

GOLDEN = Path(__file__).parent / "golden"
LENGTHS = (1, 5, 23, 40)
VOCAB = 48

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4.0,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

MODERN: dict[str, Any] = {
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2),
    "num_hidden_layers": 4,
    "local_attention": 10,
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {}),
    "bert_relu": ("BertModel", {"hidden_act": "relu", "type_vocab_size": 1}),
    "bert_reranker": ("BertForSequenceClassification", {"num_labels": 1}),
    "roberta": ("RobertaModel", {"type_vocab_size": 1}),
    "xlm_roberta": ("XLMRobertaModel", {"pad_token_id": 4, "hidden_act": "gelu_new"}),
    "xlm_roberta_reranker": ("XLMRobertaForSequenceClassification", {"num_labels": 1, "type_vocab_size": 1}),
    "modernbert": ("ModernBertModel", MODERN),
    "modernbert_biased": (
        "ModernBertModel",
        {
            **MODERN,
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "hidden_activation": "silu",
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        },
    ),
    "modernbert_reranker": (
        "ModernBertForSequenceClassification",
        {**MODERN, "num_labels": 1, "classifier_pooling": "mean", "classifier_bias": True},
    ),
    "llama": ("LlamaForCausalLM", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama_long": (
        "LlamaForCausalLM",
        {"num_key_value_heads": 1, "rope_parameters": LLAMA3, "attention_bias": True},
    ),
    "llama_yarn": ("LlamaForCausalLM", {"num_key_value_heads": 4, "rope_parameters": YARN}),
    "qwen2": ("Qwen2ForCausalLM", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", {"num_key_value_heads": 2, "head_dim": 16, "rope_parameters": LINEAR}),
}


def sequences(seed: int) -> list[np.ndarray]:
    """Ids of one sequence of each of `LENGTHS`."""
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, length).astype(np.int32) for length in LENGTHS]


def build(case: str, seed: int) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    """A transformers model with random weights, those weights, and their metadata."""
    import torch
    import transformers

    kind, options = CASES[case]
    torch.manual_seed(seed)
    network = getattr(transformers, kind)
    config = network.config_class(**{**COMMON, **options})
    config._attn_implementation = "eager"
    # The poolers of bare models are for training.
    has_pooler = kind in ("BertModel", "RobertaModel", "XLMRobertaModel")
    model = network(config, **({"add_pooling_layer": False} if has_pooler else {}))
    model = model.eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn_like(parameter) * 0.3
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_((spread + is_gain).half().float())
    document = {**config.to_dict(), "architectures": [kind]}
    metadata = metadata_from_config(document)
    metadata |= head_of_config(UntrustedValues("config.json", document), metadata["architecture"])
    weights = {}
    for name, tensor in model.state_dict().items():
        own = canonical_name(family_of(metadata["architecture"]), name, classifies="num_labels" in metadata)
        if own is not None:
            weights[own] = tensor.numpy().copy()
    if metadata["tied_embeddings"]:
        weights.pop("lm_head.weight", None)
    return model, weights, metadata


def reference(model: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    """States [length, hidden], a decoder's logits [length, vocab], a reranker's scores [labels]."""
    import torch

    with torch.no_grad():
        batch = torch.from_numpy(ids.astype(np.int64))[None]
        bare = getattr(model, model.base_model_prefix, model)
        hidden = bare(input_ids=batch).last_hidden_state
        found = {"hidden": hidden[0]}
        if hasattr(model, "lm_head"):
            found["logits"] = model.lm_head(hidden)[0]
        if hasattr(model, "classifier"):
            found["scores"] = model(input_ids=batch).logits[0]
        return {name: array.numpy() for name, array in found.items()}


def main() -> None:
    """Write one file a case."""
    GOLDEN.mkdir(exist_ok=True)
    for case in sys.argv[1:] or CASES:
        model, weights, metadata = build(case, seed=1)
        arrays: dict[str, np.ndarray] = {"metadata": np.array(json.dumps(metadata))}
        arrays.update({f"weight:{name}": array.astype(np.float16) for name, array in weights.items()})
        for index, ids in enumerate(sequences(seed=2)):
            if metadata.get("position_offset"):
                # Transformers gives padding within a text a position of its own; no text has any.
                ids = np.where(ids == metadata["pad_token_id"], 0, ids)
            arrays[f"ids:{index}"] = ids
            arrays.update({f"{name}:{index}": array for name, array in reference(model, ids).items()})
        np.savez_compressed(GOLDEN / f"{case}.npz", **arrays)


if __name__ == "__main__":
    main()
