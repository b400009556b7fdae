"""How far a vocabulary holds a text."""

import json

import pytest

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sa", "##t", "ä", "##ä", "न", "##म", "?"]


@pytest.fixture
def tokenizer(tmp_path):
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: number for number, word in enumerate(VOCABULARY)},
    }
    special = [
        {"id": number, "content": VOCABULARY[number], "special": True, "single_word": False, "lstrip": False}
        | {"rstrip": False, "normalized": False}
        for number in range(4)
    ]
    saved = {
        "version": "1.0",
        "added_tokens": special,
        "model": model,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    return FastTokenizer(tmp_path)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("the cat?", 0.0),
        ("the sat", 2 / 3),
        ("ää cat", 2 / 3),
        ("नम", 1.0),
        ("the dog", 1 / 2),
        ("", 0.0),
        ("   ", 0.0),
        # What spells a special token is text.
        ("[UNK] the", 3 / 4),
    ],
)
def test_fragments_and_unknown_words_are_counted(tokenizer, text, share):
    assert tokenizer.broken_share(text) == pytest.approx(share)
