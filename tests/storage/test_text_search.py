"""Any text is a query, what was just saved is found, and both searches tell the same scores."""

from __future__ import annotations

import random
import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion import _native
from ai_os_diffusion.storage import ArrowStorage, Candidate, TextHits
from ai_os_diffusion.utils.errors import FilterError, StorageError


@pytest.fixture
def store(tmp_path):
    with ArrowStorage(tmp_path / "s") as store:
        yield store


def fill(store, texts, **metadata):
    generator = np.random.default_rng(len(texts))
    store.save_many(
        {"memory_id": key, "content": text, "embedding": generator.standard_normal(8), "metadata": metadata}
        for key, text in texts.items()
    )


def ids(hits):
    return [memory["memory_id"] for memory, *_ in hits]


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("running shoes", "She runs in a new shoe every day of the week."),
        ("resume", "Envoyez votre résumé à cette adresse avant la fin du mois."),
        ("STRASSE", "Die Straße ist wegen der Bauarbeiten bis Freitag gesperrt."),
        ("maisons", "La maison est grande et le jardin est plein de fleurs."),
        ("собаки", "Моя собака любит гулять в парке каждый день."),
        ("backoff", "The constant DEFAULT_BACKOFF_MAX limits how long a client waits."),
        ("DEFAULT_BACKOFF_MAX", "The constant DEFAULT_BACKOFF_MAX limits how long a client waits."),
        ("--limit-rate", "With --limit-rate a download is slowed down."),
        ("os.path.join", "Use os.path.join(a, b) to build a path."),
        ("user name", "The function getUserName returns what is shown."),
        ("京都", "東京都庁の展望室は無料で利用できます。"),
        ("数据库", "这个数据库支持全文检索功能。"),
        ("서울", "서울에서 부산까지 기차로 간다."),
        ("ไทย", "ภาษาไทยเป็นภาษาราชการ"),
    ],
)
def test_a_word_is_found_in_any_form_and_script(store, query, text, flushed):
    fill(store, {"it": text, "other": "Something else, which has none of these words."})
    if flushed:
        store.flush()
    assert ids(store.search_text(query))[:1] == ["it"]


def test_a_word_as_it_was_asked_for_scores_higher(store):
    fill(store, {"a": "tell us more", "b": "made in the US now", "c": "nothing", "d": "tell us this"})
    assert ids(store.search_text("US")) == ["b", "a", "d"]


def test_what_was_just_saved_is_found_and_what_was_deleted_is_not(store):
    fill(store, {"a": "an apple", "b": "a pear"})
    store.flush()
    fill(store, {"c": "another apple"})
    assert sorted(ids(store.search_text("apple"))) == ["a", "c"]
    store.update("a", content="a quince", embedding=np.ones(8))
    assert ids(store.search_text("apple")) == ["c"]
    assert ids(store.search_text("quince")) == ["a"]
    store.delete("c")
    assert store.search_text("apple") == []
    assert store.search_text("apple").state == "fresh"


def test_a_reader_beside_a_writer_finds_what_was_saved(tmp_path):
    with ArrowStorage(tmp_path / "s") as writer:
        fill(writer, {"a": "an apple"})
        with ArrowStorage(tmp_path / "s", read_only=True) as reader:
            assert ids(reader.search_text("apple")) == ["a"]
            fill(writer, {"b": "more apples"})
            assert sorted(ids(reader.search_text("apple"))) == ["a", "b"]
            writer.flush()
            assert sorted(ids(reader.search_text("apple"))) == ["a", "b"]


def test_the_filter_selects_before_anything_is_scored(store):
    fill(store, {f"n{number}": "apple " * 9 for number in range(300)}, kind="many")
    fill(store, {f"r{number}": "one apple among many other words" for number in range(3)}, kind="rare")
    assert len(store.search_text("apple", 5, filter={"kind": "rare"})) == 3
    store.flush()
    assert len(store.search_text("apple", 5, filter={"kind": "rare"})) == 3
    assert len(store.search_text("apple", 5, filter={"kind": "many"})) == 5
    assert store.search_text("apple", 5, filter={"kind": "none"}) == []


def test_every_candidate_of_both_searches_has_both_scores(store):
    words = ["apple", "pear", "quince", "plum", "fig"]
    dice = random.Random(1)
    fill(store, {f"m{number:03}": " ".join(dice.choices(words, k=4)) for number in range(200)})
    store.flush()
    fill(store, {f"l{number:03}": " ".join(dice.choices(words, k=4)) for number in range(40)})
    vector = np.random.default_rng(5).standard_normal(8)
    near, text = store.query(vector, 1000), store.search_text("plum fig", 1000)
    similarity = {memory["memory_id"]: score for memory, score in near}
    score = {memory["memory_id"]: found for memory, found in text}
    both = store.query(vector, 10, text="plum fig")
    assert both.state == "fresh"
    assert set(ids(both)) == set(ids(near[:10])) | set(ids(text[:10]))
    for candidate in both:
        assert isinstance(candidate, Candidate)
        memory_id = candidate.memory["memory_id"]
        assert (candidate.similarity, candidate.bm25) == (similarity[memory_id], score.get(memory_id, 0.0))
    assert [c.similarity for c in both] == sorted((c.similarity for c in both), reverse=True)


def test_any_punctuation_is_a_query(store):
    fill(store, {"a": "one two", "b": "three"})
    store.flush()
    dice = random.Random(2)
    marks = string.punctuation + " \t\n\0…«»“”、。「」·–—"
    for _ in range(1000):
        query = "".join(dice.choices(marks, k=dice.randrange(12)))
        assert store.search_text(query) == []
        assert ids(store.search_text(f"{query} two {query}")) == ["a"], query
        assert len(store.query(np.ones(8), text=query)) == 2


def test_settings_out_of_range_are_refused(store):
    fill(store, {"a": "one"})
    for wrong in ({"k1": -1.0}, {"b": 1.5}, {"k1": float("nan")}, {"top_k": -1}):
        with pytest.raises(StorageError, match="expected"):
            store.search_text("one", **wrong)
    with pytest.raises(StorageError, match="expected a text"):
        store.search_text(3)
    with pytest.raises(FilterError):
        store.search_text("one", filter={"a": {"$near": 1}})
    assert isinstance(store.search_text("one", k1=0.0, b=0.0), TextHits)
    assert store.search_text("one", 0) == []


def test_a_lost_index_is_made_again(tmp_path):
    with ArrowStorage(tmp_path) as store:
        fill(store, {f"m{number}": f"apple number{number}" for number in range(50)})
    (index,) = tmp_path.glob("seg-*.fts")
    sound = index.read_bytes()
    index.unlink()
    with ArrowStorage(tmp_path, read_only=True) as store:
        assert ids(store.search_text("number7")) == ["m7"]
        assert store.search_text("number7").state == "degraded"
    with ArrowStorage(tmp_path) as store:
        assert store.verify() == []
    assert index.read_bytes() == sound, "closing makes it"
    index.write_bytes(sound[:-9])
    with ArrowStorage(tmp_path) as store:
        assert [index.name in message for message in store.verify()] == [True]
        assert store.search_text("number7").state == "building"
        assert store.search_text("number7").state == "fresh"
        store.rebuild_text_index()
        assert store.verify() == []
    assert index.read_bytes() == sound
    index.write_bytes(sound[:-9])
    with ArrowStorage(tmp_path) as store:
        store.compact()
        assert store.verify() == []
        assert store.stats()["text_index_bytes"] == len(sound)


def test_sentences_are_spans_of_characters():
    text = "Ça va? Oui, très bien.\n  今日は雨です。明日は晴れ。"
    found = [text[start:end] for start, end in _native.sentences(text)]
    assert found == ["Ça va?", "Oui, très bien.", "今日は雨です。", "明日は晴れ。"]
    assert _native.sentences("") == []


@given(st.text(max_size=200))
def test_the_spans_of_sentences_hold_all_but_white_space(text):
    spans = _native.sentences(text)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    outside = set(range(len(text))) - {at for start, end in spans for at in range(start, end)}
    assert all(text[at].isspace() for at in outside)
