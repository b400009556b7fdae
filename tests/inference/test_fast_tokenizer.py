"""Ids equal those of the `tokenizers` package; text comes back whole, also token by token."""

from __future__ import annotations

import random
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.utils.errors import TokenizerError
from support.saved_networks import FAMILIES
from support.trained_tokenizers import CORPUS, KINDS, train_byte_bpe, train_unigram, train_wordpiece

tokenizers = pytest.importorskip("tokenizers")


TRAINED = {**KINDS, **{name: partial(train, special) for name, (train, special, _) in FAMILIES.items()}}
"""The tokenizers of encoders too."""


@pytest.fixture(scope="module", params=TRAINED)
def pair(request, tmp_path_factory):
    """A trained tokenizer of the package and ours opened from its file."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs = TRAINED[request.param]()
    theirs.save(str(folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    return theirs, FastTokenizer(folder)


@pytest.fixture(scope="module")
def byte_bpe(tmp_path_factory):
    file = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_byte_bpe().save(str(file))
    return FastTokenizer(file)


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    file = tmp_path_factory.mktemp("wordpiece") / "tokenizer.json"
    train_wordpiece().save(str(file))
    return FastTokenizer(file)


SCRIPTS = [
    "aé Zß'.,-_ \t\n1",
    "абвЯ",
    "αΩς",
    "عربيّ",
    "עִבְ",
    "हिंदी्",
    "漢字かな。",
    "한글",
    "👍🏽‍👩️🇩🇪",
    "\u0301\u0308\x00\x07\u200b\ufffd",
]
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text(st.sampled_from("".join(SCRIPTS)), max_size=60),
    st.lists(st.sampled_from([*CORPUS, "<tool>", "hello", "[MASK]", "<|im_end|>", "</s>"]), max_size=4).map(
        "".join
    ),
)


def assert_same(theirs, ours, batch):
    for special in (True, False):
        encoded = ours.encode(batch, add_special_tokens=special, return_offsets=True, padding=False)
        plain = ours.encode(batch, add_special_tokens=special, padding=False)
        for text, with_spans, spans, without in zip(
            batch, encoded.ids, encoded.offsets, plain.ids, strict=True
        ):
            expected = theirs.encode(text, add_special_tokens=special)
            assert with_spans.tolist() == expected.ids
            assert without.tolist() == expected.ids
            assert spans.tolist() == [list(span) for span in expected.offsets]


def test_ids_and_offsets_equal_the_package_on_every_script(pair):
    assert_same(*pair, CORPUS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(texts, min_size=1, max_size=4))
def test_ids_and_offsets_equal_the_package_on_fuzzed_text(pair, batch):
    assert_same(*pair, batch)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("length", [2, 3, 7, 64])
def test_truncation_equals_the_package(pair, length, side):
    theirs, ours = pair
    theirs.enable_truncation(length, direction=side)
    try:
        expected = [theirs.encode(text).ids for text in CORPUS]
    finally:
        theirs.no_truncation()
    encoded = ours.encode(CORPUS, max_length=length, truncation_side=side, padding=False)
    assert [row.tolist() for row in encoded.ids] == expected
    spans = ours.encode(CORPUS, max_length=length, truncation_side=side, return_offsets=True)
    assert [row.tolist() for row in spans.ids] == expected
    assert [len(row) for row in spans.offsets] == [len(row) for row in expected]


@pytest.mark.parametrize("length", [8, 11, 12, 40, 10_000])
def test_pairs_equal_the_package(pair, length):
    theirs, ours = pair
    theirs.enable_truncation(length, strategy="longest_first")
    # What spells a special token is text here, and one of those to the package.
    seconds = [text for text in CORPUS if not re.search("[<\\[]|hello", text)]
    for first in ("a short question", CORPUS[5] * 3):
        ids, bounds, types = ours.encode_pairs(first, seconds, length)
        for second, start, end in zip(seconds, bounds[:-1], bounds[1:], strict=True):
            expected = theirs.encode(first, second)
            assert ids[start:end].tolist() == expected.ids
            assert types[start:end].tolist() == expected.type_ids
    theirs.no_truncation()


def test_a_pair_holds_no_special_token_that_a_text_spells(wordpiece):
    ids, _, _ = wordpiece.encode_pairs("[SEP] who", ["[CLS] me [SEP]"], 64)
    assert [int((ids == wordpiece.token_to_id(token)).sum()) for token in ("[CLS]", "[SEP]")] == [1, 2]


def test_pairs_that_leave_no_room_are_refused(wordpiece):
    with pytest.raises(TokenizerError, match="max_length is 2, expected at least 3"):
        wordpiece.encode_pairs("a", ["b"], 2)
    with pytest.raises(TokenizerError, match="lone surrogate"):
        wordpiece.encode_pairs("a", ["\ud800"], 9)


def test_a_large_batch_on_threads_equals_one_text_at_a_time(pair):
    _, ours = pair
    batch = [text + str(index) for index in range(60) for text in CORPUS]
    together = ours.encode(batch, padding=False)
    alone = [ours.encode(text, padding=False).ids[0].tolist() for text in batch]
    assert [row.tolist() for row in together.ids] == alone
    assert ours.count(batch).tolist() == [
        len(row)
        for row in ours.encode(batch, add_special_tokens=False, padding=False, split_special_tokens=True).ids
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(texts, min_size=1, max_size=4))
def test_text_without_control_tokens_has_the_ids_of_the_package(pair, batch):
    theirs, ours = pair
    controls = {id for id in ours.special_ids if not re.fullmatch("<0x..>", ours.id_to_token(id))}
    theirs.encode_special_tokens = True
    try:
        expected = [theirs.encode(text, add_special_tokens=False).ids for text in batch]
    finally:
        theirs.encode_special_tokens = False
    plain = ours.encode(batch, add_special_tokens=False, padding=False, split_special_tokens=True)
    spans = ours.encode(
        batch, add_special_tokens=False, padding=False, split_special_tokens=True, return_offsets=True
    )
    unknown = {ours.token_to_id(token) for token in ("[UNK]", "<unk>")}
    for text, theirs_ids, ids, with_spans in zip(batch, expected, plain.ids, spans.ids, strict=True):
        assert ids.tolist() == with_spans.tolist() == ours.native.encode_marked(text, []).tolist()
        assert not (controls - unknown) & {*ids.tolist()}
        # The package lets a Unigram model spell control tokens; ours cuts them.
        if not controls & {*theirs_ids}:
            assert ids.tolist() == theirs_ids


def test_decoding_equals_the_package(pair):
    theirs, ours = pair
    for text in CORPUS:
        ids = theirs.encode(text).ids
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    rows = [theirs.encode(text).ids for text in CORPUS]
    assert ours.batch_decode(rows) == theirs.decode_batch(rows)


def test_byte_level_decoding_gives_the_text_back(byte_bpe):
    for text in CORPUS[:-3]:
        ids = byte_bpe.encode(text).ids[0]
        assert byte_bpe.decode(ids, skip_special_tokens=False) == text


def stream(tokenizer, ids, skip):
    stream = tokenizer.decode_stream(skip_special_tokens=skip)
    pieces = [stream.step(int(id)) for id in ids]
    return pieces, stream.finish()


def test_streamed_text_equals_the_whole(pair):
    theirs, ours = pair
    for text in CORPUS:
        ids = theirs.encode(text).ids
        for skip in (True, False):
            pieces, rest = stream(ours, ids, skip)
            assert "".join(pieces) + rest == theirs.decode(ids, skip_special_tokens=skip)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(0, 620), max_size=200), skip=st.booleans())
def test_streamed_random_bytes_equal_the_whole(byte_bpe, ids, skip):
    pieces, rest = stream(byte_bpe, ids, skip)
    assert "".join(pieces) + rest == byte_bpe.decode(ids, skip_special_tokens=skip)


def test_broken_bytes_without_end_stream_out_and_equal_the_whole(byte_bpe):
    start_of_a_character = byte_bpe.token_to_id("ð")
    ids = [start_of_a_character] * 500
    pieces, rest = stream(byte_bpe, ids, True)
    assert "".join(pieces) + rest == byte_bpe.decode(ids)
    assert len(rest) <= 3


def test_a_character_streams_out_when_its_last_byte_arrives(byte_bpe):
    ids = [byte_bpe.token_to_id(char) for char in "ðŁĳį"]
    assert None not in ids
    pieces, rest = stream(byte_bpe, ids, True)
    assert pieces == ["", "", "", "👍"]
    assert rest == ""


def test_a_special_token_between_words_keeps_the_space(tmp_path):
    file = tmp_path / "tokenizer.json"
    theirs = train_unigram()
    theirs.save(str(file))
    ours = FastTokenizer(file)
    words = theirs.encode("fact world", add_special_tokens=False).ids
    ids = [0, *words, 2, 2, *words, 2]
    pieces, rest = stream(ours, ids, True)
    assert "".join(pieces) + rest == theirs.decode(ids)


def test_padding_and_masks(wordpiece):
    encoded = wordpiece.encode(["hello", "hello world and more"])
    lengths = [len(row) for row in encoded.ids]
    assert lengths[0] < lengths[1]
    assert encoded.input_ids.shape == encoded.attention_mask.shape == (2, lengths[1])
    assert encoded.input_ids.dtype == encoded.attention_mask.dtype == np.int64
    assert encoded.attention_mask.sum(1).tolist() == lengths
    assert (encoded.input_ids[0, lengths[0] :] == wordpiece.pad_id).all()
    assert (encoded["input_ids"] == encoded.input_ids).all()
    assert set({**encoded}) == {"input_ids", "attention_mask"}


def test_padding_choices(wordpiece):
    assert wordpiece.encode("hello", padding="max_length", max_length=32).input_ids.shape == (1, 32)
    assert wordpiece.encode("hello", pad_to_multiple_of=8).input_ids.shape[1] % 8 == 0
    ragged = wordpiece.encode(["hello", "hello world"], padding=False)
    with pytest.raises(TokenizerError, match=r"padding=False; use `.ids`"):
        _ = ragged.input_ids
    assert wordpiece.encode(["hello", "hello"], padding=False).input_ids.shape[0] == 2
    with pytest.raises(TokenizerError, match="text 1 has"):
        wordpiece.encode(["a", "a b c d e f"], padding="max_length", max_length=4, truncation=False)
    with pytest.raises(TokenizerError, match="padding is 'short'"):
        wordpiece.encode("a", padding="short")


def test_left_padding(tmp_path):
    file = tmp_path / "tokenizer.json"
    train_wordpiece().save(str(file))
    encoded = FastTokenizer(file, padding_side="left").encode(["hello", "hello world and more"])
    assert encoded.attention_mask[0, 0] == 0
    assert encoded.attention_mask[0, -1] == 1
    assert (encoded.input_ids[0][encoded.attention_mask[0] == 1] == encoded.ids[0]).all()


def test_an_empty_batch_has_no_rows(wordpiece):
    encoded = wordpiece.encode([])
    assert encoded.input_ids.shape == (0, 0)
    assert encoded.ids == []
    assert wordpiece.count([]).shape == (0,)
    assert wordpiece.batch_decode([]) == []
    assert wordpiece.decode([]) == ""


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (["fine", "broken \ud83d half"], "text 1 holds a lone surrogate at character 7"),
        ("\udc00", "text 0 holds a lone surrogate at character 0"),
        (["fine", 3], "str at position 1, got int"),
        (["fine", None], "str at position 1, got NoneType"),
        (b"bytes", "got bytes"),
        (7, "got int"),
        ([["nested"]], "str at position 0, got list"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(wordpiece, batch, message):
    with pytest.raises(TokenizerError, match=message):
        wordpiece.encode(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 1}, "max_length is 1, expected at least 2 for the special tokens"),
        ({"truncation": True}, "need max_length"),
        ({"padding": "max_length"}, "need max_length"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
        ({"max_length": 4, "truncation_side": "middle"}, "truncation_side is 'middle'"),
    ],
)
def test_contradicting_lengths_are_refused(wordpiece, arguments, message):
    with pytest.raises(TokenizerError, match=message):
        wordpiece.encode(["hello"], **arguments)


@pytest.mark.parametrize("ids", [[1.5], [[1, 2]], 3, ["a"]])
def test_what_is_not_ids_is_refused(wordpiece, ids):
    with pytest.raises(TokenizerError, match="expected ids"):
        wordpiece.decode(ids)


def test_a_negative_id_is_refused_with_its_place(wordpiece):
    with pytest.raises(TokenizerError, match="id -100 at position 1"):
        wordpiece.decode([1, -100])


def test_vocabulary_lookups(pair):
    theirs, ours = pair
    assert ours.vocab_size == len(ours) == theirs.get_vocab_size()
    for token, id in theirs.get_vocab().items():
        assert ours.token_to_id(token) == id
        assert ours.id_to_token(id) == token
    assert ours.token_to_id("no such token") is None
    assert ours.id_to_token(10**6) is None
    assert ours.id_to_token(-1) is None


def test_special_tokens_of_a_bare_file(wordpiece):
    assert (wordpiece.pad_id, wordpiece.mask_id) == (0, 4)
    assert wordpiece.bos_id is None
    assert wordpiece.special_ids == {0, 1, 2, 3, 4}


def test_a_fork_keeps_working(wordpiece):
    import os

    batch = CORPUS * 100
    expected = wordpiece.encode(batch).flat_ids
    child = os.fork()
    if child == 0:
        os._exit(0 if (wordpiece.encode(batch).flat_ids == expected).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.models
@pytest.mark.parametrize("model", ["minilm_dir", "smollm2_dir"])
def test_real_models_equal_the_package(request, model):
    folder = request.getfixturevalue(model)
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    ours = FastTokenizer(folder)
    assert_same(theirs, ours, CORPUS)
    generator = random.Random(1)
    alphabet = "".join(CORPUS)
    fuzzed = ["".join(generator.choices(alphabet, k=generator.randint(0, 80))) for _ in range(2000)]
    assert_same(theirs, ours, fuzzed)
    for text in CORPUS:
        ids = theirs.encode(text).ids
        pieces, rest = stream(ours, ids, True)
        assert "".join(pieces) + rest == theirs.decode(ids)
