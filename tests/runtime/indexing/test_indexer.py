import json
import random
from collections import Counter

import pytest

from ai_os_diffusion.ingestion import Found, Ledger, reading
from ai_os_diffusion.ingestion.reader import read_parts
from ai_os_diffusion.utils.errors import InferenceError


def document(*lines):
    return "\n\n".join(lines).encode()


def outcomes(report):
    return {told.path: told.outcome for told in report.documents}


def test_an_unchanged_document_is_current_and_a_partly_stored_one_is_not(library):
    text = document("# One\n\nfirst", "# Two\n\nsecond")
    assert outcomes(library.add(("a.md", text))) == {"a.md": "added"}
    assert outcomes(library.add(("a.md", text))) == {"a.md": "unchanged"}
    library.store.delete(next(iter(library.store))["memory_id"])
    report = library.add(("a.md", text))
    assert (outcomes(report), report.passages["added"]) == ({"a.md": "changed"}, 1)
    assert outcomes(library.add(("a.md", text))) == {"a.md": "unchanged"}


def test_a_change_embeds_only_what_is_new(library):
    library.add(("a.md", document("# A\n\none", "# B\n\ntwo", "# C\n\nthree")))
    before = len(library.embedder.texts)
    report = library.add(("a.md", document("# A\n\none", "# B\n\nnew", "# C\n\nthree")))
    assert library.embedder.texts[before:] == ["a > B\nnew"]
    assert report.passages == {"added": 1, "updated": 2, "removed": 1, "merged": 0}


def test_ids_do_not_depend_on_what_stands_around(library, tmp_path):
    library.add(("a.md", document("# A\n\none", "# B\n\ntwo")))
    before = {memory["content"]: memory["memory_id"] for memory in library.store}
    library.add(("a.md", document("# Z\n\nzero", "# B\n\ntwo")))
    assert before["a > B\ntwo"] in {memory["memory_id"] for memory in library.store}


def test_memories_that_were_not_ingested_are_left_alone(library):
    library.store.save("note", "mine", [1.0] * 8, {"source": "a.md"})
    library.add(("a.md", b"text"))
    library.add(("a.md", b""))
    assert [memory["memory_id"] for memory in library.store] == ["note"]


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_any_order_of_edits_ends_with_exactly_the_passages_of_the_documents(library, batch):
    rng = random.Random(batch)
    files = {}
    for _ in range(60 if batch > 3 else 15):
        added = []
        for source in rng.sample("abcd", rng.randint(1, 3)):
            records = [rng.choice("pqrstu") for _ in range(rng.randint(0, 6))]
            files[source] = records
            added.append((f"{source}/a.jsonl", "\n".join(json.dumps({"text": text}) for text in records)))
        library.add(*((name, text.encode()) for name, text in added), batch=batch)
        wanted = Counter(
            (f"{source}/a.jsonl", line, text)
            for source, records in files.items()
            for line, text in enumerate(records, 1)
        )
        assert Counter(library.places()) == wanted
        assert len({memory["content"] for memory in library.store}) == library.store.count()
        ledger = Ledger(library.store.iter_metadata())
        assert set(ledger.sources) == {f"{source}/a.jsonl" for source, records in files.items() if records}


def test_a_dry_run_counts_what_would_be_done_and_embeds_nothing(library):
    library.add(("a.md", document("# A\n\none", "# B\n\ntwo")))
    before, embedded = library.places(), len(library.embedder.texts)
    text = document("# A\n\none", "# B\n\nnew", "# C\n\nmiddle", "# B\n\nnew")
    report = library.add(("a.md", text), ("b/a.md", b"# B\n\nnew"), batch=1, dry_run=True)
    assert report.passages == {"added": 2, "updated": 1, "removed": 1, "merged": 2}
    assert (library.places(), len(library.embedder.texts)) == (before, embedded)


def test_a_reader_sees_the_old_version_until_the_new_one_is_whole(library):
    library.add(("a.md", document(*(f"# Part {part}\n\nold {part}" for part in range(20)))))
    seen = []
    encode = library.embedder.encode_document

    def looking(texts):
        seen.append({content.split()[0] for _, _, content in library.places()})
        return encode(texts)

    library.embedder.encode_document = looking
    library.add(("a.md", document(*(f"# Part {part}\n\nnew {part}" for part in range(30)))), batch=4)
    assert seen == [{"old"}] * len(seen)
    assert len(seen) >= 7
    assert {content.split()[0] for _, _, content in library.places()} == {"new"}


@pytest.mark.parametrize("batch", [2, 256])
def test_a_passage_that_cannot_be_embedded_costs_only_itself(library, batch):
    texts = ["one", "no embedding", "two", "not a number", "three"]
    lines = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    report = library.add(("a.jsonl", lines), ("good.txt", b"kept"), batch=batch)
    assert {content for _, _, content in library.places()} == {"one", "two", "three", "kept"}
    assert outcomes(report) == {"a.jsonl": "added", "good.txt": "added"}
    told = report.documents[0]
    assert [(remark.kind, remark.lines) for remark in told.remarks] == [
        ("refused", ((2, 2),)),
        ("refused", ((4, 4),)),
    ]
    # It is tried again and told again, and nothing else of it is embedded anew.
    before = len(library.embedder.texts)
    assert library.add(("a.jsonl", lines)).documents[0].remarks == told.remarks
    assert {*library.embedder.texts[before:]} <= {"text", "a.jsonl\nnot a number"}


def test_a_memory_that_the_store_refuses_costs_only_itself(library):
    library.add(("first.txt", b"decides the dimension"))
    report = library.add(("wide.txt", b"one number more"), ("good.txt", b"kept"))
    assert {content for _, _, content in library.places()} == {"decides the dimension", "kept"}
    told = {document.path: document for document in report.documents}
    assert "9" in told["wide.txt"].remarks[0].reason
    assert not told["good.txt"].remarks
    assert report.passages["added"] == 1


def test_an_embedder_that_embeds_nothing_ends_the_work(library):
    library.embedder.is_broken = True
    with pytest.raises(InferenceError):
        library.add(("a.txt", b"text"))


def test_whatever_a_reader_raises_concerns_its_document_alone(library, monkeypatch):
    def failing(source, data, kind):
        if source == "bad.txt":
            raise RecursionError("too deep")
        return read_parts(source, data, kind)

    monkeypatch.setattr(reading, "read_parts", failing)
    report = library.add(("bad.txt", b"x"), ("good.txt", b"kept"))
    assert outcomes(report) == {"bad.txt": "skipped", "good.txt": "added"}
    assert "RecursionError" in report.documents[0].reason


def found(path):
    return Found(path.resolve(), path.stat().st_size)


@pytest.mark.parametrize("batch", [2, 256])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_document_that_fails_half_way_leaves_what_was_there(
    library, monkeypatch, tmp_path, was_there, batch
):
    monkeypatch.setattr(reading, "_SHORT_BYTES", 50)
    path = tmp_path / "a.txt"
    if was_there:
        path.write_text("# A\n\nbefore\n")
        library.add(found(path))
    before = library.places()
    path.write_text("\n\n".join(f"Sentence number {number} of many." for number in range(20)))

    def breaking(file, **options):
        yield file.read(200), 1
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reading, "text_pieces", breaking)
    report = library.add(found(path), ("good.txt", b"kept"), batch=batch)
    assert outcomes(report) == {str(path): "skipped", "good.txt": "added"}
    assert report.documents[0].kept == len(before)
    assert Counter(library.places()) == Counter([*before, ("good.txt", 1, "kept")])
