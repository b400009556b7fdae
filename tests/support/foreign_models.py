"""What describes a model to its peers: files of sentence-transformers, a decoder's configuration."""

from __future__ import annotations

from typing import Any

TYPES = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{TYPES}Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{TYPES}Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{TYPES}Normalize"},
]
SENTENCE_FILES: dict[str, Any] = {
    "modules.json": MODULES,
    "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True},
    "2_Normalize/config.json": {
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    },
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    },
    "config_sentence_transformers.json": {
        "__version__": {"sentence_transformers": "6.2.0"},
        "prompts": {"query": "hello ", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        "model_type": "SentenceTransformer",
    },
}
DECODER: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
}
