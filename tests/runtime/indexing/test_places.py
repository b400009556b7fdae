"""A passage that stands in very many places: every place is kept, and nothing grows without end."""

import json

import pytest

from ai_os_diffusion.answers.recall import RecallHit, distinct_hits

MANY = 1500


@pytest.fixture
def crowded(library):
    """One line in many documents and many lines of one."""
    documents = [(f"{number}/legal.txt", b"all rights reserved") for number in range(MANY)]
    records = "\n".join(json.dumps({"text": "I do not know."}) for _ in range(MANY))
    library.add(*documents, ("answers.jsonl", records.encode()), ("z.txt", b"last"))
    return library


def hits(library, text):
    vector = library.embedder._vector(text)
    return distinct_hits(lambda count: library.store.query(vector, count), 2)


def test_every_place_is_kept_in_bounded_metadata(crowded):
    places = crowded.places()
    assert len(places) == len(set(places)) == 2 * MANY + 1
    assert max(len(json.dumps(memory["metadata"])) for memory in crowded.store) < 64_000
    assert sorted(set(crowded.embedder.texts)) == [
        "answers.jsonl\nI do not know.",
        "legal\nall rights reserved",
        "z\nlast",
    ]
    assert len(crowded.embedder.texts) <= 3 * 2


def test_recall_shows_the_text_once_with_all_its_places(crowded):
    first, second = (RecallHit.from_hit(hit) for hit in hits(crowded, "answers.jsonl\nI do not know."))
    assert (first.text, second.text != first.text) == ("I do not know.", True)
    lines = {(first.source, first.line), *((place.source, place.line) for place in first.also)}
    assert lines == {("answers.jsonl", line) for line in range(1, MANY + 1)}


def test_documents_come_and_go_one_by_one(crowded):
    for number in (0, 700, MANY - 1):
        crowded.add((f"{number}/legal.txt", b""))
    crowded.add(("new/legal.txt", b"all rights reserved"))
    sources = {source for source, _, text in crowded.places() if text == "all rights reserved"}
    assert sources == {f"{number}/legal.txt" for number in range(MANY)} - {
        "0/legal.txt",
        "700/legal.txt",
        f"{MANY - 1}/legal.txt",
    } | {"new/legal.txt"}
    crowded.add(("answers.jsonl", b'{"text": "I do not know."}'))
    assert [source for source, _, text in crowded.places() if text == "I do not know."] == ["answers.jsonl"]


def test_a_store_whose_memories_hold_all_places_goes_on(library):
    """As stores of earlier versions do."""
    library.add(("0.txt", b"all rights reserved"))
    (memory,) = list(library.store)
    also = [{**memory["metadata"], "source": f"{number}.txt"} for number in range(1, 200)]
    metadata = {**memory["metadata"], "also": also}
    library.store.update(memory["memory_id"], metadata=metadata)
    library.add(("200.txt", b"all rights reserved"), ("7.txt", b""))
    sources = {source for source, _, _ in library.places()}
    assert sources == {f"{number}.txt" for number in range(201)} - {"7.txt"}


def test_places_with_long_names_stay_within_bounds(library):
    names = ["\x01" * 4000 + str(number) for number in range(70)]
    report = library.add(*((name, b"all rights reserved") for name in names), ("x" * 5000, b"text"))
    assert report.files == {
        "added": 70, "changed": 0, "unchanged": 0, "empty": 0, "skipped": 1, "failed": 0
    }  # fmt: skip
    assert {source for source, _, _ in library.places()} == set(names)
