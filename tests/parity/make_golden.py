"""Tiny random models and what transformers computes with them.

Run with an interpreter that has torch and transformers: `python tests/parity/make_golden.py`. It rewrites
`golden/*.npz`, which the tests compare with where torch is absent. Weights are rounded to half precision
before the reference runs, so the files hold them exactly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.models.convert.settings.architecture import metadata_from_config

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

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "bert_relu": ("Bert", {"hidden_act": "relu", "type_vocab_size": 1}),
    "llama": ("Llama", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama_long": ("Llama", {"num_key_value_heads": 1, "rope_parameters": LLAMA3, "attention_bias": True}),
    "llama_yarn": ("Llama", {"num_key_value_heads": 4, "rope_parameters": YARN}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16, "rope_parameters": LINEAR}),
}


def sequences(seed: int) -> list[np.ndarray]:
    """Ids of one sequence of each of `LENGTHS`."""
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, length).astype(np.int32) for length in LENGTHS]


def build(case: str, seed: int) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    """A transformers model with random weights, those weights, and their metadata."""
    import torch
    import transformers

    family, options = CASES[case]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **options})
    config._attn_implementation = "eager"
    if family == "Bert":
        model = transformers.BertModel(config, add_pooling_layer=False)
    else:
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    model = model.eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn_like(parameter) * 0.3
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_((spread + is_gain).half().float())
    weights = {
        name: tensor.numpy().copy()
        for name, tensor in model.state_dict().items()
        if not name.endswith("position_ids")
    }
    metadata = metadata_from_config(config.to_dict())
    if metadata["tied_embeddings"]:
        weights.pop("lm_head.weight", None)
    return model, weights, metadata


def reference(model: Any, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Final hidden states [length, hidden], and a decoder's logits [length, vocab]."""
    import torch

    with torch.no_grad():
        batch = torch.from_numpy(ids.astype(np.int64))[None]
        if hasattr(model, "lm_head"):
            hidden = model.model(input_ids=batch).last_hidden_state
            return hidden[0].numpy(), model.lm_head(hidden)[0].numpy()
        return model(input_ids=batch).last_hidden_state[0].numpy(), None


def main() -> None:
    """Write one file a case."""
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        model, weights, metadata = build(case, seed=1)
        arrays: dict[str, np.ndarray] = {"metadata": np.array(json.dumps(metadata))}
        arrays.update({f"weight:{name}": array.astype(np.float16) for name, array in weights.items()})
        for index, ids in enumerate(sequences(seed=2)):
            hidden, logits = reference(model, ids)
            arrays[f"ids:{index}"], arrays[f"hidden:{index}"] = ids, hidden
            if logits is not None:
                arrays[f"logits:{index}"] = logits
        np.savez_compressed(GOLDEN / f"{case}.npz", **arrays)


if __name__ == "__main__":
    main()
