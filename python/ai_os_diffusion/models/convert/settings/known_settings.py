"""What transformers and sentence-transformers read of a model, and what becomes of it here.

One table for each kind of file. The keys are those that the loaders of all families read, or that their
writers leave behind; docs/design/0610-foreign-settings.md says where they were looked up and how a key that
stands in no table is judged.
"""

from __future__ import annotations

from ai_os_diffusion.models.convert.settings.settings_check import Applied, Harmless, Only, Settings

__all__ = [
    "CALLER",
    "CONFIG",
    "CROSS_ENCODER",
    "CROSS_ENCODER_MODULE",
    "DROPOUT",
    "GENERATION",
    "MODULE",
    "NORMALIZE",
    "POOLING",
    "RECORD",
    "SENTENCE_BERT",
    "SENTENCE_TRANSFORMERS",
    "TOKENIZER",
    "TRAINING",
    "TRANSFORMER_ARGUMENTS",
]

TRAINING = "it acts in training only"
RECORD = "it is a record of how the file came about"
CALLER = "it is a default of sampling, which the caller of this engine states"
_MACHINERY = "it chooses how the same numbers are computed or handed out"

CONFIG = Settings(
    (
        Applied("""
            model_type architectures hidden_size num_hidden_layers num_attention_heads
            num_key_value_heads head_dim intermediate_size vocab_size max_position_embeddings
            layer_norm_eps rms_norm_eps hidden_act position_embedding_type rope_theta
            rope_scaling rope_parameters original_max_position_embeddings partial_rotary_factor
            tie_word_embeddings type_vocab_size attention_bias mlp_bias bos_token_id
            eos_token_id pad_token_id sliding_window use_sliding_window max_window_layers
            layer_types is_causal tokenizer_class norm_eps hidden_activation norm_bias
            classifier_bias local_attention global_attn_every_n_layers global_rope_theta local_rope_theta
            num_labels id2label classifier_pooling sentence_transformers
            sbert_ce_default_activation_function
            """),
        Harmless(
            """
            attention_dropout hidden_dropout hidden_dropout_prob attention_probs_dropout_prob
            classifier_dropout initializer_range initializer_factor gradient_checkpointing
            embd_pdrop attn_pdrop resid_pdrop router_aux_loss_coef output_router_logits
            embedding_dropout mlp_dropout initializer_cutoff_factor
            """,
            TRAINING,
        ),
        Harmless(
            """
            _name_or_path name_or_path transformers_version _commit_hash torch_dtype dtype
            unsloth_* model_name language license base_model is_llama_config transformers.js_config
            """,
            RECORD,
        ),
        Harmless(
            """
            use_cache chunk_size_feed_forward pretraining_tp output_attentions output_past
            output_hidden_states return_dict torchscript use_bfloat16 attn_implementation
            _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled
            _experts_implementation max_sequence_length tf_legacy_loss
            reference_compile repad_logits_with_grad sparse_prediction sparse_pred_ignore_index
            deterministic_flash_attn
            """,
            _MACHINERY,
        ),
        Harmless(
            """
            directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
            pooler_size_per_head pooler_type summary_activation summary_first_dropout
            summary_proj_to_labels summary_type summary_use_proj sep_token_id cls_token_id
            mask_token_id unk_token_id decoder_start_token_id task_specific_params prefix
            label2id problem_type finetuning_task decoder_bias
            """,
            "it belongs to a head that is not converted",
        ),
        Harmless(
            """
            do_sample temperature top_k top_p typical_p min_p repetition_penalty length_penalty
            no_repeat_ngram_size encoder_no_repeat_ngram_size max_length min_length num_beams
            num_beam_groups num_return_sequences diversity_penalty early_stopping
            remove_invalid_values return_dict_in_generate output_scores
            exponential_decay_length_penalty
            """,
            CALLER,
        ),
        Only(
            "is_decoder add_cross_attention is_encoder_decoder tie_encoder_decoder",
            "the model would attend to earlier tokens only, and to another model's states",
            (False,),
        ),
        Only(
            "quantization_config compression_config",
            "the weights would be packed in another library's format",
            (),
        ),
        Only("auto_map", "the network would be computed by code of the repository", ()),
        Only("pruned_heads", "heads would be left out", ({}, [])),
        Only("classifier_activation", "the head would compute something else", ("gelu",)),
        Only(
            "per_layer_config no_rope_layers mlp_only_layers cross_attention_hidden_size",
            "layers would differ from each other",
            (),
        ),
        Only(
            """
            num_experts num_local_experts n_routed_experts num_experts_per_tok
            moe_intermediate_size
            """,
            "tokens would pass through experts",
            (0, 1, False),
        ),
        Only("attn_logit_softcapping final_logit_softcapping clip_qkv", "scores would be capped", (0, 0.0)),
        Only(
            """
            logit_scale logits_scaling residual_multiplier embedding_multiplier
            attention_multiplier rotary_pct rotary_emb_fraction
            """,
            "numbers between the layers would be scaled",
            (1, 1.0),
        ),
        Only(
            """
            use_bidirectional_attention rope_interleaved use_qk_norm qk_norm use_alibi alibi
            parallel_attn use_parallel_residual
            """,
            "attention would be computed another way",
            (False,),
        ),
        Only(
            """
            bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id
            forced_eos_token_id
            """,
            "results would be forbidden or forced",
            ([],),
        ),
    )
)
"""config.json of all families; what a family has alone is named in its file of `cpu_inference`."""

GENERATION = Settings(
    (
        Applied("eos_token_id"),
        Only(
            """
            bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id
            forced_eos_token_id sequence_bias force_words_ids constraints watermarking_config
            """,
            "results would be forbidden or forced",
            ([],),
        ),
        # Whatever else transformers' GenerationConfig has is a default of one of its methods of sampling.
        Harmless("*", CALLER),
    )
)
"""generation_config.json."""

TOKENIZER = Settings(
    (
        Applied("""
            tokenizer_class model_max_length do_lower_case strip_accents tokenize_chinese_chars
            chat_template bos_token eos_token unk_token sep_token pad_token cls_token mask_token
            added_tokens_decoder additional_special_tokens extra_special_tokens max_len
            """),
        Harmless(
            "add_bos_token add_eos_token",
            "tokenizer.json says what stands around a text, as in transformers since version 5",
        ),
        Harmless("padding_side pad_to_multiple_of pad_token_type_id padding", "nothing is padded here"),
        Harmless(
            """
            do_basic_tokenize never_split legacy legacy_behaviour sp_model_kwargs trim_offsets
            errors wordpieces_prefix clean_text vocab_file merges_file from_slow use_fast
            tokenizer_file tokenizer_type add_prefix_space add_dummy_prefix_space unk_id
            """,
            "tokenizer.json says how a text is cut into words",
        ),
        Harmless(
            "max_length stride truncation_strategy truncation return_tensors",
            "transformers keeps it without using it",
        ),
        Harmless(
            """
            clean_up_tokenization_spaces spaces_between_special_tokens
            clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
            """,
            "it changes how spaces are shown when ids become text; ids here become the text they stand for",
        ),
        Harmless(
            """
            name_or_path special_tokens_map_file backend is_local local_files_only
            processor_class transformers_version files_loaded model_input_names verbose
            init_inputs _commit_hash use_default_system_prompt response_schema response_template
            chat_control_tokens
            """,
            RECORD,
        ),
        Only("truncation_side", "the beginning of a long text would be cut off, not its end", ("right",)),
        Only("split_special_tokens", "special tokens in a text would be read as ordinary ones", (False,)),
        Only("auto_map", "texts would be cut into tokens by code of the repository", ()),
        Harmless(
            """
            image_token audio_token video_token boi_token eoi_token vision_bos_token
            vision_eos_token fim_prefix_token fim_suffix_token fim_middle_token
            """,
            "it names a token of tokenizer.json",
        ),
    )
)
"""tokenizer_config.json, and special_tokens_map.json."""


def _transformer(task: str, output: str) -> Settings:
    """Arguments of a Transformer module whose network is used for that task."""
    return Settings(
        (
            Only("transformer_task", "the network would be used for something else", (task,)),
            Only("module_output_name", "another output would be pooled", (output,)),
            Harmless("unpad_inputs", "nothing is padded here"),
            Only("processing_kwargs", "texts would be tokenised or read with other arguments", ({},)),
            Only(
                "query_length document_length query_expansion",
                "questions and passages would be cut or widened to lengths of their own",
                (),
            ),
            Only("tokenizer_name_or_path", "the tokenizer would come from elsewhere", ()),
            Applied("""
            max_seq_length do_lower_case modality_config model_args tokenizer_args config_args
            model_kwargs processor_kwargs config_kwargs
            """),
        ),
        is_closed=True,
    )


SENTENCE_BERT = _transformer("feature-extraction", "token_embeddings")
"""sentence_bert_config.json: arguments of sentence-transformers' Transformer module."""

CROSS_ENCODER_MODULE = _transformer("sequence-classification", "scores")
"""The same of a CrossEncoder, which scores pairs of texts."""

CROSS_ENCODER = Settings(
    (
        Applied("activation_fn model_type"),
        Harmless("__version__", RECORD),
        Harmless("prompts", CALLER),
        Only("default_prompt_name", "a text would be put before every pair", ()),
    )
)
"""config_sentence_transformers.json of a CrossEncoder."""

TRANSFORMER_ARGUMENTS = Settings(
    (
        Harmless("torch_dtype dtype attn_implementation device_map low_cpu_mem_usage", _MACHINERY),
        Harmless("trust_remote_code revision token cache_dir local_files_only use_auth_token", RECORD),
        Harmless("padding_side", "nothing is padded here"),
    ),
    is_closed=True,
)
"""What a Transformer module passes on when transformers loads its parts."""

SENTENCE_TRANSFORMERS = Settings(
    (
        Applied("prompts default_prompt_name similarity_fn_name model_type truncate_dim"),
        Harmless("__version__ requirements", RECORD),
    )
)
"""config_sentence_transformers.json."""

MODULE = Settings(
    (
        Applied("type path"),
        Harmless("idx name", RECORD),
        Only("kwargs", "the module would be told more at every call", ([],)),
    ),
    is_closed=True,
)
"""One module of modules.json."""

POOLING = Settings(
    (
        Applied("pooling_mode pooling_mode_* include_prompt"),
        Harmless("embedding_dimension word_embedding_dimension", "it follows from the model"),
    ),
    is_closed=True,
)
"""config.json of a Pooling module."""

NORMALIZE = Settings(
    (
        Only(
            "module_input_name module_output_name",
            "something else than the vector of a text would be scaled",
            ("sentence_embedding",),
        ),
    ),
    is_closed=True,
)
"""config.json of a Normalize module."""

DROPOUT = Settings(
    (Harmless("dropout", TRAINING),),
    is_closed=True,
)
"""config.json of a Dropout module."""
