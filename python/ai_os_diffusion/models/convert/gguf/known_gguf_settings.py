"""What llama.cpp reads of a GGUF file, and what becomes of it here; see `settings.known_settings`."""

from __future__ import annotations

from ai_os_diffusion.models.convert.settings.known_settings import CALLER, RECORD
from ai_os_diffusion.models.convert.settings.settings_check import Applied, Harmless, Only, Settings

__all__ = ["GGUF_ARCHITECTURE", "GGUF_GENERAL"]

GGUF_GENERAL = Settings(
    (
        Applied("""
            general.architecture general.alignment general.license general.type
            tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens
            tokenizer.ggml.token_type tokenizer.ggml.scores tokenizer.ggml.merges
            tokenizer.ggml.*_token_id tokenizer.ggml.bos_token_id tokenizer.ggml.eos_token_id
            tokenizer.ggml.eot_token_id tokenizer.ggml.eom_token_id
            tokenizer.ggml.unknown_token_id tokenizer.ggml.padding_token_id
            tokenizer.ggml.mask_token_id tokenizer.ggml.add_bos_token
            tokenizer.ggml.add_eos_token tokenizer.ggml.add_space_prefix tokenizer.chat_template
            """),
        Harmless(
            """
            general.* tokenizer.huggingface.json quantize.imatrix.* imatrix.*
            tokenizer.chat_templates tokenizer.chat_template.* split.tensors.count split.no
            """,
            RECORD,
        ),
        Harmless("general.sampling.*", CALLER),
        Harmless(
            """
            tokenizer.ggml.token_type_count tokenizer.ggml.add_sep_token
            tokenizer.ggml.remove_extra_whitespaces tokenizer.ggml.precompiled_charsmap
            tokenizer.ggml.normalizer.lowercase tokenizer.ggml.normalizer.strip_accents
            tokenizer.rwkv.world tokenizer.ggml.seperator_token_id tokenizer.ggml.cls_token_id
            """,
            "llama.cpp reads it for other kinds of vocabulary",
        ),
        Harmless(
            """
            tokenizer.ggml.fim_* tokenizer.ggml.prefix_token_id tokenizer.ggml.suffix_token_id
            tokenizer.ggml.middle_token_id
            """,
            "it marks a place in a text for a program that fills gaps",
        ),
        Only("tokenizer.ggml.suppress_tokens", "results would be forbidden", ([],)),
        Only(
            "split.count",
            "the weights would continue in other files; join them with llama-gguf-split --merge",
            (0, 1),
        ),
        Only("adapter.*", "the file would be an adapter to another model", ()),
    )
)
"""Metadata of a GGUF file that is the same for every architecture."""

GGUF_ARCHITECTURE = Settings(
    (
        Applied("""
            context_length embedding_length block_count feed_forward_length attention.head_count
            attention.head_count_kv attention.key_length attention.value_length
            attention.layer_norm_rms_epsilon rope.dimension_count rope.freq_base
            rope.scaling.type rope.scaling.factor rope.scale_linear
            rope.scaling.original_context_length rope.scaling.attn_factor rope.scaling.yarn_*
            vocab_size pooling_type attention.sliding_window embedding_length_out
            """),
        Harmless("rope.scaling.finetuned tensor_data_layout", "llama.cpp keeps it without using it"),
        Only(
            """
            expert_count expert_used_count expert_group_count expert_group_used_count
            expert_shared_count expert_feed_forward_length expert_shared_feed_forward_length
            leading_dense_block_count
            """,
            "tokens would pass through experts",
            (0, 1),
        ),
        Only("attention.causal", "every token would see every other", (True,)),
        Only("use_parallel_residual", "attention and feed-forward would run side by side", (False,)),
        Only(
            """
            attention.max_alibi_bias attention.clamp_kqv attention.scale attn_logit_softcapping
            final_logit_softcapping attention.temperature_length attention.temperature_scale
            nextn_predict_layers rope.scaling.alpha
            """,
            "attention scores or numbers between the layers would be changed",
            (0, 0.0),
        ),
        Only(
            """
            logit_scale residual_scale embedding_scale attention.output_scale
            attention.value_scale
            """,
            "numbers between the layers would be scaled",
            (0, 1, 1.0),
        ),
        Only("classifier.*", "the head of a classifier would be used", ()),
    ),
    is_closed=True,
)
"""Metadata of a GGUF file that begins with the architecture's name, which is cut off here."""
