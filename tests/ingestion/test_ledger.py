import random

from ai_os_diffusion.contracts import Chunk
from ai_os_diffusion.ingestion import Ledger


def chunks(source, *texts):
    return [Chunk(text, source, line, line) for line, text in enumerate(texts, 1)]


class Store:
    """What a store would hold after each change: metadata by id, texts by id."""

    def __init__(self):
        self.metadata = {}
        self.texts = {}

    def add(self, source, *texts, state=None):
        ledger = Ledger(self.metadata.items())
        change = ledger.replace(source, state or str(texts), "text", chunks(source, *texts))
        for memory_id in change.removed:
            del self.metadata[memory_id], self.texts[memory_id]
        for memory_id, chunk in change.added.items():
            self.texts[memory_id] = chunk.text
        for memory_id in (*change.added, *change.touched):
            self.metadata[memory_id] = ledger.metadata(memory_id)
        return change


def test_an_unchanged_document_is_current_and_a_partly_stored_one_is_not():
    store = Store()
    store.add("a", "one", "two", state="s1")
    assert Ledger(store.metadata.items()).is_current("a", "s1")
    assert not Ledger(store.metadata.items()).is_current("a", "s2")
    store.metadata.popitem()
    assert not Ledger(store.metadata.items()).is_current("a", "s1")


def test_a_change_knows_whether_it_replaces_another_state():
    store = Store()
    assert not store.add("a", "one", "two", state="s1").replaces
    store.metadata.popitem()
    assert not store.add("a", "one", "two", state="s1").replaces
    assert not store.add("b", "one", state="s2").replaces
    assert store.add("a", "one", "two", "three", state="s3").replaces
    assert store.add("a", state="s4").replaces


def test_a_change_embeds_only_what_is_new():
    store = Store()
    store.add("a", "one", "two", "three")
    change = store.add("a", "one", "new", "three")
    assert [chunk.text for chunk in change.added.values()] == ["new"]
    assert len(change.removed) == 1
    assert sorted(store.texts.values()) == ["new", "one", "three"]


def test_a_duplicate_is_one_memory_with_two_places_until_both_are_gone():
    store = Store()
    store.add("a", "same")
    change = store.add("b", "same")
    assert (dict(change.added), change.merged) == ({}, 1)
    (metadata,) = store.metadata.values()
    assert (metadata["source"], metadata["also"][0]["source"]) == ("a", "b")
    store.add("a")
    (metadata,) = store.metadata.values()
    assert metadata["source"] == "b"
    assert "also" not in metadata
    store.add("b")
    assert store.metadata == {}


def test_a_passage_repeated_within_a_document_is_one_memory():
    store = Store()
    change = store.add("a", "same", "same", "other")
    assert (len(change.added), change.merged) == (2, 1)
    assert Ledger(store.metadata.items()).is_current("a", str(("same", "same", "other")))


def test_ids_do_not_depend_on_what_stands_around():
    first, second = Store(), Store()
    first.add("a", "one", "two")
    second.add("a", "zero", "two", "three")
    assert set(first.texts) & set(second.texts)


def test_memories_that_were_not_ingested_are_left_alone():
    ledger = Ledger([("note", {"source": "a"})])
    assert ledger.replace("a", "s", "text", []).removed == frozenset()


def test_any_order_of_edits_ends_with_exactly_the_passages_of_the_documents():
    rng = random.Random(0)
    store, files = Store(), {}
    for _ in range(300):
        source = rng.choice("abc")
        files[source] = [rng.choice("pqrstu") for _ in range(rng.randint(0, 5))]
        store.add(source, *files[source])
        wanted = {
            (source, line, text) for source, texts in files.items() for line, text in enumerate(texts, 1)
        }
        held = set()
        for memory_id, metadata in store.metadata.items():
            for place in (metadata, *metadata.get("also", ())):
                held.add((place["source"], place["line"], store.texts[memory_id]))
        assert held == wanted
        assert len(set(store.texts.values())) == len(store.texts)
