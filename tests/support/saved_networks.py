"""Networks of random weights with the tokenizers of their families, as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.charsmap import SOME, charsmap
from support.trained_tokenizers import CORPUS

WINDOW = 64
_BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_NAMES = {
    "[": dict(zip(("pad", "unk", "cls", "sep", "mask"), _BRACKETS, strict=True)),
    "<": {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
}


def byte_bpe(specials: list[str]) -> Any:
    """Byte-level BPE, as RoBERTa and ModernBERT have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    if specials == _ANGLES:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), add_prefix_space=False
        )
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return tokenizer


def unigram(specials: list[str]) -> Any:
    """SentencePiece's Unigram with its table of replacements, as XLM-R has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([text for text in CORPUS if len(text) < 200], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Metaspace()
    document = json.loads(tokenizer.to_str())
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap(SOME)}
    return Tokenizer.from_str(json.dumps(document))


def word_piece(specials: list[str]) -> Any:
    """WordPiece, as BERT has it."""
    from support.trained_tokenizers import train_wordpiece

    tokenizer = train_wordpiece()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


FAMILIES: dict[str, tuple[Any, list[str], dict[str, Any]]] = {
    "Bert": (word_piece, _BRACKETS, {}),
    "Roberta": (byte_bpe, _ANGLES, {"pad_token_id": 1, "type_vocab_size": 1}),
    "XLMRoberta": (unigram, _ANGLES, {"pad_token_id": 1, "type_vocab_size": 1}),
    "ModernBert": (
        byte_bpe,
        _BRACKETS,
        {
            "pad_token_id": 0,
            **dict.fromkeys(("bos_token_id", "cls_token_id"), 2),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
            "local_attention": 12,
            "num_hidden_layers": 4,
        },
    ),
}
"""By transformers' prefix: the tokenizer, its special tokens, and settings of the network."""


def save_network(folder: Path, family: str, head: str = "Model", **changes: Any) -> Path:
    """A network of `{family}{head}` and its tokenizer in `folder`."""
    import torch
    import transformers

    train, specials, own = FAMILIES[family]
    tokenizer = train(specials)
    torch.manual_seed(3)
    kind = getattr(transformers, family + head)
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": WINDOW + own.get("type_vocab_size", 0) * 2,
        "initializer_range": 0.3,
    }
    kind(kind.config_class(**{**settings, **own, **changes})).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    names = {f"{name}_token": token for name, token in _NAMES[specials[0][0]].items()}
    if specials == _ANGLES:
        names |= {"bos_token": "<s>", "eos_token": "</s>"}
    config = {"tokenizer_class": f"{family}Tokenizer", "model_max_length": WINDOW, **names}
    if family == "ModernBert":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
