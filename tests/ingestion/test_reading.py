"""Documents of any size and content, in bounded memory and with the lines where things stand."""

import json
import tracemalloc

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document, reader, reading
from ai_os_diffusion.ingestion.readers.text_pieces import text_pieces
from ai_os_diffusion.utils.errors import IngestError


def words(texts):
    return [len(text.split()) for text in texts]


INGESTOR = Ingestor(words, max_tokens=12)


@pytest.fixture
def short_pieces(monkeypatch):
    """Files beyond 100 bytes are read in pieces of 50 characters."""
    monkeypatch.setattr(reading, "_SHORT_BYTES", 100)
    monkeypatch.setattr(
        reading, "text_pieces", lambda file, **options: text_pieces(file, piece_chars=50, **options)
    )


def read(path):
    opened = INGESTOR.open(str(path), path)
    return list(opened.chunks()), opened


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_text_read_in_pieces_keeps_words_and_lines(short_pieces, tmp_path, encoding, ends):
    lines = [f"Zeile {number} erzählt etwas." if number % 3 else "" for number in range(200)]
    path = tmp_path / "a.txt"
    path.write_bytes(ends.join(lines).encode(encoding))
    chunks, opened = read(path)
    assert " ".join(chunk.text for chunk in chunks).split() == " ".join(lines).split()
    for chunk in chunks:
        assert chunk.text.split("\n") == lines[chunk.line - 1 : chunk.end_line]
    assert (opened.bytes_done, opened.size_bytes) == (path.stat().st_size,) * 2
    assert opened.remarks == []


def test_titles_go_on_from_piece_to_piece(short_pieces, tmp_path):
    path = tmp_path / "a.txt"
    sections = [f"Part {part}\n======\n\nInner\n-----\n\n" + "Some words here.\n\n" * 9 for part in range(9)]
    path.write_text("".join(sections))
    chunks, _ = read(path)
    whole = INGESTOR.open("a.txt", path.read_bytes()).chunks()
    assert {chunk.headings for chunk in chunks} == {chunk.headings for chunk in whole}
    assert {chunk.headings for chunk in chunks} == {("a", f"Part {part}", "Inner") for part in range(9)}


def test_records_read_in_pieces_keep_their_numbers(short_pieces, tmp_path):
    path = tmp_path / "a.jsonl"
    records = [json.dumps({"id": number, "text": f"record {number}"}) for number in range(50)]
    records[30] = json.dumps({"id": 30, "text": "a record longer than a piece " * 9})
    records[20:22] = ["no json", "nor this"]
    path.write_text("\n".join(records))
    chunks, opened = read(path)
    assert {(chunk.line, chunk.metadata["record"]) for chunk in chunks} == {
        (number, number) for number in range(1, 51) if number not in (21, 22)
    }
    assert {line for remark in opened.remarks for line in remark.lines} == {(21, 22)}


def test_a_long_file_without_a_record_is_refused(short_pieces, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("no json\n" * 50)
    with pytest.raises(IngestError, match="not JSON"):
        read(path)


def test_stray_bytes_are_told_with_their_lines(short_pieces, tmp_path):
    path = tmp_path / "a.txt"
    good = "Wörter über Wörter.\n".encode()
    path.write_bytes(good * 10 + b"br\xffken\n" + good * 10)
    _, opened = read(path)
    replaced = [remark.lines for remark in opened.remarks if remark.kind == "replaced"]
    assert replaced in ([((11, 11),)], [])  # read as a whole in another encoding, nothing is replaced


def test_the_state_is_that_of_the_bytes_however_they_are_read(short_pieces, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("words " * 100)
    assert INGESTOR.open("a.txt", path).state == INGESTOR.open("b.txt", path.read_bytes()).state


def test_a_parser_that_holds_a_whole_document_has_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "_SHORT_BYTES", 10)
    monkeypatch.setitem(reading._MAX_WHOLE_BYTES, "html", 100)
    path = tmp_path / "a.html"
    path.write_text("<h1>Title</h1>" + "words " * 20)
    with pytest.raises(IngestError, match="larger than"):
        read(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "# Title\n\n## Part\n\n" + "- some words\n\nmore of it\n\n" * 30),
        ("a.c", "int f() {\n  return 1;\n}\n\n" * 30),
        ("a.py", "# coding: latin-1\n\n" + "x = 'Wörter'\n\n" * 30),
        ("a.json", '{"a": [1, 2, "three"]},\n' * 30),
    ],
)
def test_a_format_read_in_pieces_has_the_words_of_the_whole(short_pieces, monkeypatch, tmp_path, name, text):
    monkeypatch.setattr(reader, "MAX_PARSED_CHARS", 100)
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    chunks, opened = read(path)
    whole = read_document(name, text.encode("latin-1"))
    words = [word for block in whole.blocks for word in block.text.split()]
    assert [word for chunk in chunks for word in chunk.text.split()] == words
    assert {chunk.headings for chunk in chunks} == {
        chunk.headings for chunk in INGESTOR.open(name, text.encode("latin-1")).chunks()
    }
    lines = text.split("\n")
    assert all(chunk.text.split("\n")[0].strip() in lines[chunk.line - 1] for chunk in chunks)
    assert (opened.remarks, opened.kind) == ([], whole.kind)


@pytest.mark.parametrize(
    "content",
    [
        ("a.md", "# " + "word " * 150_000 + "\n\ntext here\n"),
        ("a.html", "<html><title>" + "word " * 230_000 + "</title><p>text here</p>"),
        ("a.jsonl", json.dumps({"text": "text here", "title": "word " * 20_000, "id": "x" * 2_000_000})),
        ("a.jsonl", '{"text": "text here", "id": 1, "title": "' + "\\ud800" * 9 + '"}'),
        ("a.py", f"class {'A' * 300_000}:\n    pass\n\n\ndef f():\n    return 'text here'\n"),
    ],
)
def test_what_stands_beside_a_passage_is_bounded(content):
    opened = INGESTOR.open(content[0], content[1].encode())
    chunks = list(opened.chunks())
    assert any("text here" in chunk.text for chunk in chunks)
    for chunk in chunks:
        assert sum(map(len, chunk.headings)) + len(json.dumps(dict(chunk.metadata))) < 8192
        chunk.text.encode()
    # A title too long to stand above is text; what else is known of a passage is cut, and told.
    assert ("limit" in {remark.kind for remark in opened.remarks}) == any(
        long in content[1] for long in ("xxx", "AAA")
    )


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "ก" * 100_000,
        "中" * 50_000,
        "a. A" * 20_000,
        "Mr. A " * 20_000,
        "word\n" * 20_000,
        "word " * 20_000,
        "1,2;" * 30_000,
        "x." + " " * 300_000 + "y",
    ],
)
def test_passages_are_short_and_memory_is_bounded_whatever_stands_in_a_text(text):
    tracemalloc.start()
    try:
        longest = max(
            (len(chunk.text) for chunk in INGESTOR.open("a.txt", text.encode()).chunks()), default=0
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert longest <= 16 * 12
    assert peak < 60 * len(text.encode()) + 10_000_000


def test_a_name_without_end_is_refused():
    with pytest.raises(IngestError, match="5000 characters"):
        INGESTOR.open("x" * 5000, b"text")


def test_python_that_is_long_and_still_parsed_is_read(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f():\n    return 'word'\n\n\n" * 25_000)
    chunks, opened = read(path)
    assert opened.kind == "python"
    assert chunks[0].metadata["symbol"] == "f"
