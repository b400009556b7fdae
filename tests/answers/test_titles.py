"""Titles above a passage are searched with it, and are no part of what it says."""

import numpy as np
import pytest

from ai_os_diffusion.answers.recall import RecallHit, distinct_hits
from ai_os_diffusion.contracts import Chunk
from ai_os_diffusion.ingestion import embedding_text, passage_text, stored_text
from ai_os_diffusion.storage import ArrowStorage


def saved(store, name, text, headings):
    chunk = Chunk(text, name, 1, 1, headings, {})
    metadata = {"source": name, "line": 1, "end_line": 1, "headings": list(headings), "content_hash": name}
    store.save(name, stored_text(chunk), np.ones(2), metadata)


def test_a_passage_is_found_by_its_titles_and_shown_without_them(tmp_path):
    with ArrowStorage(tmp_path / "store") as store:
        saved(store, "a", "do not ignore hidden entries", ("ls.1", "OPTIONS"))
        saved(store, "b", "do not ignore case", ("grep.1", "OPTIONS"))
        (hit,) = store.search_text("ls", 5)
        assert RecallHit.from_hit(hit).text == "do not ignore hidden entries"
        assert RecallHit.from_hit(hit).headings == ("ls.1", "OPTIONS")


def test_titles_between_the_outermost_and_the_innermost_are_embedded_and_not_searched_by_words(tmp_path):
    headings = ("shutil", "High-level file operations", "copytree")
    chunk = Chunk("copy a tree", "a", 1, 1, headings, {})
    assert embedding_text(chunk) == "shutil > High-level file operations > copytree\ncopy a tree"
    assert stored_text(chunk) == "shutil > copytree\ncopy a tree"
    with ArrowStorage(tmp_path / "store") as store:
        saved(store, "a", chunk.text, headings)
        assert store.search_text("operations", 5) == []
        (hit,) = store.search_text("copytree", 5)
        assert RecallHit.from_hit(hit).text == chunk.text


def test_the_same_text_below_other_titles_is_one_hit_with_both_places(tmp_path):
    with ArrowStorage(tmp_path / "store") as store:
        saved(store, "a", "all rights reserved", ("x",))
        saved(store, "b", "all rights reserved", ("y",))
        (hit,) = distinct_hits(lambda count: store.query(np.ones(2), count), 3)
        found = RecallHit.from_hit(hit)
        assert {found.source, *(place.source for place in found.also)} == {"a", "b"}


def test_memories_of_before_hold_no_titles():
    assert passage_text("-a  all", ("ls.1",)) == "-a  all"
    assert passage_text("ls.1\n-a  all", ()) == "ls.1\n-a  all"


@pytest.mark.parametrize("headings", ["ls.1", 7, ["ls.1", 7], {"ls.1": 1}, None])
def test_what_others_call_headings_is_no_title(headings):
    assert passage_text("ls.1\n-a  all", headings) == "ls.1\n-a  all"
