"""Gzip files: what is in them is read as its own name and bytes say."""

import gzip
import io
import tarfile

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document, reading
from ai_os_diffusion.ingestion.readers import compressed
from ai_os_diffusion.utils.errors import IngestError

INGESTOR = Ingestor(lambda texts: [len(text.split()) for text in texts], max_tokens=12)


def archive():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("notes.txt")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"Roses"))
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("notes.txt", b"Roses\n\nCut in March.\n", "text"),
        ("manual.html", b"<title>Boiler</title>\n<p>Serviced", "html"),
        ("a.md", b"# Boiler\n\nServiced\n", "markdown"),
        ("a.csv", b"part,who\nBoiler,Hugo\n", "table"),
        ("ls.1", b".TH LS 1\n.SH NAME\nls \\- list directory contents\n", "text"),
        ("a.py", b"def f():\n    return 1\n", "python"),
        ("page", b"<!DOCTYPE html><p>x", "html"),
    ],
)
@pytest.mark.parametrize("ending", [".gz", ".GZ"])
def test_what_is_compressed_is_read_as_it_is_without(name, data, kind, ending):
    plain, packed = read_document(name, data), read_document(name + ending, gzip.compress(data))
    assert (packed.kind, packed.source) == (kind, name + ending)
    assert packed.blocks == plain.blocks
    chunks = list(INGESTOR.open(name + ending, gzip.compress(data)).chunks())
    whole = list(INGESTOR.open(name, data).chunks())
    assert {chunk.source for chunk in chunks} == {name + ending}
    assert [(c.text, c.line, c.end_line, c.headings) for c in chunks] == [
        (c.text, c.line, c.end_line, c.headings) for c in whole
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_long_file_is_unpacked_piece_by_piece(monkeypatch, tmp_path, name):
    monkeypatch.setattr(reading, "_SHORT_BYTES", 100)
    text = "".join(f"Line {number} of some words.\n\n" for number in range(500))
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text[:5000].encode()) + gzip.compress(text[5000:].encode()))
    opened = INGESTOR.open(str(path), path)
    assert " ".join(chunk.text for chunk in opened.chunks()).split() == text.split()
    assert opened.bytes_done == opened.size_bytes == len(text)
    assert opened.state == INGESTOR.open(name, text.encode()).state


def test_a_text_that_is_only_called_so_is_read():
    assert read_document("notes.txt.gz", b"Cut in March.").blocks[0].text == "Cut in March."


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.tar.gz", archive(), "archive.*tar xzf"),
        ("a.tgz", archive(), "archive.*tar xzf"),
        ("a.txt.gz.gz", gzip.compress(gzip.compress(b"Roses")), "within a gzip file"),
        ("a.txt.gz", gzip.compress(b"Roses " * 99)[:-12], "damaged"),
        ("a.txt.gz", gzip.compress(b"Roses") + b"more", "damaged"),
        ("a.txt.gz", b"\x1f\x8b\x08\x00 no such thing", "damaged"),
        ("a.txt.gz", b"\x1f\x8b", "damaged"),
        ("a.bin.gz", gzip.compress(bytes(range(256)) * 9), "binary"),
    ],
    # The bytes hold the time.
    ids="tar tgz gzip cut longer no_deflate mark binary".split(),
)
def test_what_cannot_be_unpacked_is_refused_with_a_remedy(name, data, said):
    with pytest.raises(IngestError, match=said):
        read_document(name, data)
    with pytest.raises(IngestError, match=said):
        list(INGESTOR.open(name, data).chunks())


@pytest.mark.parametrize("bound", ["_MAX_BYTES", "_SPARE_BYTES"])
def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch, tmp_path, bound):
    monkeypatch.setattr(compressed, bound, 100_000)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"word " * 1_000_000))
    with pytest.raises(IngestError, match="unpacks to more than"):
        INGESTOR.open(str(path), path)


def test_a_page_is_held_to_its_limit_unpacked(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "_SHORT_BYTES", 10)
    monkeypatch.setitem(reading._MAX_WHOLE_BYTES, "html", 1000)
    path = tmp_path / "a.html.gz"
    path.write_bytes(gzip.compress(b"<p>" + b"words " * 200))
    with pytest.raises(IngestError, match="larger than"):
        list(INGESTOR.open(str(path), path).chunks())
