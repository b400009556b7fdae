"""Checkpoints that write by diffusion: how each kind says what it is, and how it was trained to write.

Their networks are those of families that are computed already; what differs is what a token sees, and what
stands in the place of a token that is to be found. docs/design/0820-diffusion-checkpoints.md says where each
was looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_os_diffusion.models.convert.settings.known_settings import CONFIG, RECORD, TRAINING
from ai_os_diffusion.models.convert.settings.settings_check import Applied, Harmless, Only, Settings
from ai_os_diffusion.models.convert.settings.tokenizer_settings import token_text
from ai_os_diffusion.models.diffusion_settings import MAX_BLOCK
from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, UntrustedValues, shown
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["DiffusionCheckpoint", "diffusion_checkpoint"]


@dataclass(frozen=True)
class DiffusionCheckpoint:
    """A kind of checkpoints.

    Attributes:
        architecture: the family that computes its network.
        classes: names of its networks with a head, as `architectures` and `auto_map` say them.
        settings: how it was trained to write, as of `DiffusionSettings`.
        masks: texts of the mask token, in tokenizers that do not say which one it is.
        ends: texts of tokens that end a turn, beside the end token of the model.
        block_key: what the configuration calls the length of a block.
        names: what the configuration calls what others say by another name.
        defaults: of the configuration, where other kinds have others.
        renamed: patterns of its tensors' names, and what they are called here.
        known: settings that no other kind has, or of which its code makes something else.
        prelude: put before a chat template; it sets what the template asks for.
        remark: what the configuration does not tell.
    """

    architecture: str
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    masks: tuple[str, ...]
    ends: tuple[str, ...] = ()
    block_key: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    renamed: tuple[tuple[str, str], ...] = ()
    known: tuple[Applied | Harmless | Only, ...] = ()
    prelude: str = ""
    remark: str | None = None

    @property
    def table(self) -> Settings:
        """What is known of its configuration."""
        # Code of the repository is named in `auto_map`; which it is, `architectures` has said.
        return Settings((Applied("auto_map mask_token_id architectures"), *self.known, *CONFIG.table))

    def named(self, config: UntrustedValues) -> UntrustedValues:
        """The configuration by the names that the family's has."""
        given = {key: value for key, value in config.values.items() if value is not None}
        values = UntrustedValues(config.place, {**self.defaults, **given})
        # What is missing under both names is told by its own.
        names = {ours: own for ours, own in self.names.items() if own in values or ours not in values}
        return values.renamed(names)

    def tensor_name(self, name: str) -> str:
        """A tensor's name as the family has it."""
        for pattern, ours in self.renamed:
            name = re.sub(pattern, ours, name)
        return name

    def diffusion(
        self,
        config: UntrustedValues,
        tokenizer_config: UntrustedValues,
        tokens: Mapping[str, int],
        eos_ids: Sequence[int],
        chat_template: str | None,
    ) -> dict[str, Any]:
        """The `diffusion` entry of metadata.json; without `mask_id` where no file names a mask token.

        Args:
            config: config.json.
            tokenizer_config: tokenizer_config.json.
            tokens: of the tokenizer, text to id.
            eos_ids: the model's.
            chat_template: the model's.

        Raises:
            ModelLoadError: two mask tokens are named.
        """
        found: dict[str, Any] = dict(self.settings)
        if self.block_key is not None and self.block_key in config:
            found["block_length"] = config.integer(self.block_key, high=MAX_BLOCK)
        mask_id = self._mask_id(config, tokenizer_config, tokens)
        if mask_id is not None:
            found["mask_id"] = mask_id
        ends = [*eos_ids, *(tokens[text] for text in self.ends if text in tokens)]
        found["end_ids"] = list(dict.fromkeys(ends))
        if self.prelude and chat_template:
            found["chat_template"] = self.prelude + chat_template
        return found

    def _mask_id(
        self, config: UntrustedValues, tokenizer_config: UntrustedValues, tokens: Mapping[str, int]
    ) -> int | None:
        said = config.maybe_integer("mask_token_id")
        text = token_text(tokenizer_config, "mask_token")
        texts = self.masks if text is None else (text,)
        named = next((tokens[one] for one in texts if one in tokens), None)
        if text is not None and named is None:
            raise ModelLoadError(
                f"{tokenizer_config.place}: mask_token is {shown(text)}, which is none of the tokens of "
                "tokenizer.json; save the tokenizer again"
            )
        if said is not None and text is not None and named != said:
            raise ModelLoadError(
                f"{config.place}: mask_token_id is {said}, and the mask_token {text!r} of "
                f"{tokenizer_config.place} is {named}; correct one of them"
            )
        return named if said is None else said


def diffusion_checkpoint(config: UntrustedValues) -> DiffusionCheckpoint | None:
    """The kind of a configuration, None for any other model.

    Raises:
        ModelLoadError: it is of a class whose way to write is not known.
    """
    found = _CHECKPOINTS.get(config.get("model_type")) if isinstance(config.get("model_type"), str) else None
    if found is None:
        return None
    for name in config.texts("architectures", high=MAX_LAYERS):
        if name not in found.classes:
            raise ModelLoadError(
                f"{config.place}: architectures is {shown(name)}, expected {' or '.join(found.classes)}: how "
                "another class of this model_type writes is not known here"
            )
    return found


_PARTS = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}

LLADA = DiffusionCheckpoint(
    architecture="llama",
    classes=("LLaDAModelLM",),
    settings={"attention": "full", "shift": False, "block_length": 32},
    masks=("<|mdm_mask|>",),
    ends=("<|endoftext|>", "<|eot_id|>"),
    names={
        "hidden_size": "d_model",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "num_hidden_layers": "n_layers",
        "intermediate_size": "mlp_hidden_size",
        "max_position_embeddings": "max_sequence_length",
        "hidden_act": "activation_type",
        "tie_word_embeddings": "weight_tying",
        "attention_bias": "include_qkv_bias",
        # Rows of the table; `vocab_size` may count fewer.
        "vocab_size": "embedding_size",
    },
    defaults={
        "activation_type": "swiglu",
        "weight_tying": True,
        "include_qkv_bias": False,
        "rope": False,
        "block_type": "sequential",
        "layer_norm_type": "default",
    },
    renamed=(
        (r"^(model\.)?transformer\.wte\.", "model.embed_tokens."),
        (r"^(model\.)?transformer\.ln_f\.", "model.norm."),
        (r"^(model\.)?transformer\.ff_out\.", "lm_head."),
        *(
            (rf"^(model\.)?transformer\.blocks\.(\d+)\.{theirs}\.", rf"model.layers.\2.{ours}.")
            for theirs, ours in _PARTS.items()
        ),
    ),
    known=(
        Applied("""
            d_model n_heads n_kv_heads n_layers mlp_hidden_size max_sequence_length activation_type
            weight_tying include_qkv_bias embedding_size
            """),
        Harmless(
            """
            init_device init_fn init_std init_cutoff_factor precision residual_dropout embedding_dropout
            train_max_sequence_length
            """,
            TRAINING,
        ),
        Harmless(
            "flash_attention rope_full_precision block_group_size",
            "it chooses how the same numbers are computed",
        ),
        Harmless("mlp_ratio", "mlp_hidden_size says what it would"),
        Harmless("alibi_bias_max", "it is for alibi, which is refused"),
        Harmless("attention_layer_norm_with_affine", "it is for attention_layer_norm, which is refused"),
        Only("rope", "positions would have no part in attention", (True,)),
        Only("block_type", "a block's layers would be in another order", ("llama",)),
        Only("layer_norm_type", "norms would compute something else", ("rms",)),
        Only("layer_norm_with_affine", "norms would have no weights", (True,)),
        Only("bias_for_layer_norm include_bias", "layers and norms would have shifts", (False,)),
        Only("attention_layer_norm input_emb_norm", "there would be further norms", (False,)),
        Only("scale_logits alibi", "scores would be changed", (False,)),
        Only("multi_query_attention", "heads would share keys in another way", (False,)),
    ),
)

DREAM = DiffusionCheckpoint(
    architecture="qwen2",
    classes=("DreamModel",),
    settings={"attention": "full", "shift": True, "block_length": 32},
    masks=("<|mask|>",),
    ends=("<|endoftext|>", "<|im_end|>"),
    known=(Only("use_mrope", "positions would have three numbers", (False,)),),
)


def _adapted(architecture: str, of: str, end: str) -> DiffusionCheckpoint:
    """What the dllm project makes of a decoder."""
    return DiffusionCheckpoint(
        architecture=architecture,
        classes=(f"A2D{of}LMHeadModel",),
        settings={"attention": "full", "shift": False, "block_length": 32},
        masks=("<|mask|>",),
        ends=(end,),
        # Trained on prompts in which thinking is switched off.
        prelude="{%- set enable_thinking = false -%}" if of == "Qwen3" else "",
        remark=(
            "the configuration does not say whether it was trained with every token seeing all of the text "
            "(mdlm) or all up to the end of its block (bd3lm): the first is taken; for the other give the "
            "diffusion setting attention=block"
        ),
    )


SDAR = DiffusionCheckpoint(
    architecture="qwen3",
    classes=("SDARForCausalLM",),
    settings={"attention": "block", "shift": False, "block_length": 4},
    masks=("<|MASK|>",),
    ends=("<|im_end|>", "<|endoftext|>"),
    block_key="block_size",
    known=(
        Applied("block_size"),
        Harmless("fuse_cross_entropy debug ep_size micro_forward skip_checkpoint noise", TRAINING),
        Harmless("use_regular_causal enable_block_generation", RECORD),
    ),
)

FAST_DLLM_V2 = DiffusionCheckpoint(
    architecture="qwen2",
    classes=("Fast_dLLM_QwenForCausalLM",),
    settings={"attention": "block", "shift": True, "block_length": 32, "sub_block_length": 8},
    masks=("|<MASK>|",),
    ends=("<|im_end|>", "<|endoftext|>"),
    block_key="bd_size",
    known=(
        Applied("bd_size"),
        Harmless("complementary_mask", TRAINING),
        Harmless("mask_token", "mask_token_id or the tokenizer says which one it is"),
    ),
)

_CHECKPOINTS: Mapping[str, DiffusionCheckpoint] = {
    "llada": LLADA,
    "Dream": DREAM,
    "a2d-llama": _adapted("llama", "Llama", "<|eot_id|>"),
    "a2d-qwen2": _adapted("qwen2", "Qwen2", "<|im_end|>"),
    "a2d-qwen3": _adapted("qwen3", "Qwen3", "<|im_end|>"),
    "sdar": SDAR,
    "Fast_dLLM_Qwen": FAST_DLLM_V2,
}
"""By `model_type`."""
