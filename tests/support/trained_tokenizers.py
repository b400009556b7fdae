"""Tokenizers of every kind, trained by the `tokenizers` package on texts of many scripts."""

from __future__ import annotations

import json

CORPUS = [
    "",
    " ",
    "Hello, world!",
    "It's a well-known fact that don't, can't and we'll are contractions .",
    "  leading and trailing   spaces\t\n\n",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "いろはにほへと ちりぬるを。漢字とカタカナ",
    "天地玄黃,宇宙洪荒。日月盈昃",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "ภาษาไทยไม่มีช่องว่าง",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 thumb, 🇩🇪 flag",
    "e\u0301 o\u0308 Z\u0310\u0311\u0312 combining",
    "\x00\x01\x07\x1b[0m control \u200b\u200e\ufeff\ufffd",
    "soft\u00adhyphen no\u00a0break \u2028line\u2029paragraph",
    "x" * 500,
    "ab" * 150 + " short",
    "İstanbul ß ſ ﬁ Ⅷ ℌ ㎒ ﷽",
    "123456789 3.14159e-10 0x1F600 1,000,000",
    "def f(x):\n    return {'a': [x ** 2 for _ in range(10)]}\n",
    "<|im_start|>user\nhi<|im_end|>\n[CLS] [SEP] [MASK] <s></s>",
    "https://example.org/a?b=c&d=%20#e user@example.com",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 🀄",
]


def train_wordpiece():
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    return tokenizer


def train_byte_bpe():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("hello", normalized=True)]
    )
    return tokenizer


def train_byte_fallback_bpe():
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(
        ["plain English words train this one, so others fall back to bytes"], trainer
    )
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def train_unigram():
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    # Pieces of one letter's or two letters' run segment it in many ways of one score, and which of them is
    # taken differs from release to release.
    tokenizer.train_from_iterator([text for text in CORPUS if len(text) < 200], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def train_roberta():
    from tokenizers import processors

    tokenizer = train_byte_bpe()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|im_end|>", 2), ("<|im_start|>", 1), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


KINDS = {
    "wordpiece": train_wordpiece,
    "byte_bpe": train_byte_bpe,
    "byte_fallback_bpe": train_byte_fallback_bpe,
    "unigram": train_unigram,
    "roberta": train_roberta,
}
