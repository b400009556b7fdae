"""A tokenizer and the files beside it: what they say, and that damaged ones are refused."""

from __future__ import annotations

import json
import random

import pytest

pytest.importorskip("tokenizers")

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.utils.errors import TokenizerError
from support.trained_tokenizers import train_byte_bpe, train_byte_fallback_bpe, train_wordpiece


def test_special_tokens_come_from_the_files_beside(tmp_path):
    train_byte_bpe().save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"unk_token": "<|endoftext|>"}))
    tokenizer = FastTokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id) == (1, 2, None)
    assert tokenizer.pad_id == 2
    assert tokenizer.special_tokens["unk_token"] == "<|endoftext|>"
    assert tokenizer.special_ids == {0, 1, 2}


def test_a_tokenizer_is_of_one_time_whatever_comes_into_its_folder_later(tmp_path):
    train_byte_bpe().save(str(tmp_path / "tokenizer.json"))
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (tmp_path / "metadata.json").write_text(json.dumps({"chat_template": "old"}))
    tokenizer = FastTokenizer(tmp_path)
    settings.write_text(json.dumps({"eos_token": "<|endoftext|>", "pad_token": "<|im_start|>"}))
    (tmp_path / "metadata.json").write_text(json.dumps({"chat_template": "new"}))
    assert tokenizer.chat_template == "old"
    assert tokenizer.special_tokens == {"eos_token": "<|im_end|>"}


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "metadata.json", "chat_template.jinja"]
)
def test_a_damaged_file_beside_a_tokenizer_is_refused_when_it_is_opened(tmp_path, name):
    train_byte_bpe().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_bytes(b"\xff{")
    with pytest.raises(TokenizerError, match=name):
        FastTokenizer(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"not found; expected a tokenizer\.json"):
        FastTokenizer(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match=r"holds no tokenizer\.json; pull or convert"):
        FastTokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]")
    with pytest.raises(TokenizerError, match=r"vocab\.txt alone"):
        FastTokenizer(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe\x00",
        b'{"model": {"type": "BPE"}}',
        b'{"model": {"type": "Magic", "vocab": {}}}',
        b'{"version": "9", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "c"]]}}',
        b'{"model": {"type": "BPE", "continuing_subword_prefix": "##",'
        b' "vocab": {"a": 0}, "merges": [["a", "a"]]}}',
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        FastTokenizer(file)


def template_without_its_token():
    document = json.loads(train_wordpiece().to_str())
    document["post_processor"]["special_tokens"] = {}
    return document


def merge_shorter_than_its_prefix():
    document = json.loads(train_byte_fallback_bpe().to_str())
    document["model"]["continuing_subword_prefix"] = "x" * 99
    return document


def strip_longer_than_a_token():
    document = json.loads(train_byte_fallback_bpe().to_str())
    document["decoder"] = {"type": "Strip", "content": "e", "start": 0, "stop": 2**31}
    return document


def split_into_pieces_of_no_length():
    document = json.loads(train_wordpiece().to_str())
    document["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    return document


def decoder_cut_off():
    return json.dumps({"decoder": {"type": "Fuse"}, "model": {}}).split("}")[0]


@pytest.mark.parametrize(
    "make",
    [
        template_without_its_token,
        merge_shorter_than_its_prefix,
        strip_longer_than_a_token,
        split_into_pieces_of_no_length,
        decoder_cut_off,
    ],
)
def test_a_file_that_contradicts_itself_is_an_error_and_prints_nothing(tmp_path, capfd, make):
    document = make()
    file = tmp_path / "tokenizer.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))

    def use():
        tokenizer = FastTokenizer(file)
        tokenizer.encode("e")
        tokenizer.decode([tokenizer.token_to_id("e")])

    with pytest.raises(TokenizerError):
        use()
    assert capfd.readouterr().err == ""


def test_a_file_cut_anywhere_is_refused(tmp_path):
    file = tmp_path / "tokenizer.json"
    train_byte_bpe().save(str(file), pretty=False)
    whole = file.read_bytes()
    for length in random.Random(0).sample(range(len(whole) - 1), 60):
        file.write_bytes(whole[:length])
        with pytest.raises(TokenizerError):
            FastTokenizer(file)
