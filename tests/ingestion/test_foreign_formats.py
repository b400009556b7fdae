"""What is not read says what it is and what to do, by its bytes before its name."""

import gzip
import random

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import zip_of

OLE = b"\xd0\xcf\x11\xe0" + b"\0" * 99
TAR = b"notes.txt" + b"\0" * 248 + b"ustar\x0000" + b"\0" * 200
BINARY = b"\x00\x01\x02\x03" * 50


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.doc", OLE, "Word before 2007; save it as .docx"),
        ("a.docx", OLE, "with a password; save it anew"),
        ("a.xls", OLE, "save each sheet as .csv"),
        ("a.xlsx", OLE, "with a password; save it anew"),
        ("a.msg", OLE, "save it as .eml"),
        ("a", OLE, "Office before 2007"),
        ("a.rtf", b"{\\rtf1 text}", "save it as .docx"),
        ("a.doc", b"{\\rtf1 text}", "Rich Text"),
        ("a.ps", b"%!PS-Adobe-3.0\n/x 1 def\n", "convert it to .pdf"),
        ("a.xlsx", zip_of({"xl/workbook.xml": "<a/>"}), "save each sheet as .csv"),
        ("a.pptx", zip_of({"ppt/presentation.xml": "<a/>"}), "save them as .pdf"),
        ("a.pages", zip_of({"Index/Document.iwa": "a"}), "export it as .docx or .pdf"),
        ("a.zip", zip_of({"a": "b"}), "unpack it and add its folder"),
        ("a.md", zip_of({"a": "b"}), "unpack it and add its folder"),
        ("a.tar", TAR, "unpack it and add its folder"),
        ("a.tar.gz", gzip.compress(TAR, mtime=0), "unpack it"),
        ("a.tar.xz", b"\xfd7zXZ\0" + BINARY, "unpack it and add what is in it"),
        ("a.tar.bz2", b"BZh9" + BINARY, "unpack it and add what is in it"),
        ("a.7z", b"7z\xbc\xaf'\x1c" + BINARY, "unpack it and add its folder"),
        ("a.djvu", b"AT&TFORM" + BINARY, "ddjvu"),
        ("a.txt", b"\x89PNG\r\n\x1a\n" + BINARY, "a picture; "),
        ("a.jpeg", b"\xff\xd8\xff\xe0" + BINARY, "OCR"),
        ("a.mp3", b"ID3" + BINARY, "transcribed"),
        ("a.mp4", b"\0\0\0\x18ftypmp42" + BINARY, "subtitles"),
        ("a.parquet", b"PAR1" + BINARY, "aios memory import"),
        ("a.sqlite", b"SQLite format 3\0" + BINARY, "export"),
        ("a.mobi", BINARY, "convert it to .epub"),
        ("a.ttf", BINARY, "a font"),
        ("a.xyz", BINARY, "^binary file$"),
    ],
)
def test_formats_that_are_not_read_say_what_to_do(name, data, said):
    with pytest.raises(IngestError, match=said):
        read_document(name, data)
    if not name.endswith(".gz"):
        with pytest.raises(IngestError, match=said):
            list(Ingestor(len).open(name, data + data[-4:] * 150_000).chunks())


def test_a_text_that_speaks_of_them_is_text():
    for text in (b"MZ is a mark", b"ID3 tags are read", b"GIF89a is older", b"\x25 %!PS"):
        assert read_document("a.txt", text).kind == "text"


def test_numbers_of_two_bytes_each_are_no_utf16():
    """Tables of a font: small numbers, whose high byte is zero, among others of all sizes."""
    chance = random.Random(1)
    numbers = [chance.choice((chance.randrange(256), chance.randrange(1 << 16))) for _ in range(20_000)]
    for order in ("big", "little"):
        data = b"".join(number.to_bytes(2, order) for number in numbers)
        with pytest.raises(IngestError, match="a font"):
            read_document("a.ttf", data)
    for encoding in ("utf-16-le", "utf-16-be"):
        text = "Plain words, naïve and \t tabbed.\r\n" * 100
        assert read_document("a.txt", text.encode(encoding)).encoding == encoding
