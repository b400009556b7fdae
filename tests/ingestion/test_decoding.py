import pytest

from ai_os_diffusion.ingestion.decoding import decode
from ai_os_diffusion.utils.errors import IngestError

TEXT = "Grüße aus Köln\nzweite Zeile\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_every_encoding_gives_the_same_text(encoding):
    assert decode(TEXT.encode(encoding))[0] == TEXT


def test_a_byte_windows_1252_does_not_know_is_read_as_latin_1():
    assert decode(b"caf\xe9 \x81") == ("café \x81", "latin-1")


def test_line_ends_of_every_system_count_as_one():
    assert decode(b"a\r\nb\rc\nd")[0] == "a\nb\nc\nd"


@pytest.mark.parametrize(
    "data",
    [b"\x7fELF\x02\x01\x01\0\0\0", bytes(range(256)), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x01\x02\x03\x04"],
)
def test_binary_bytes_are_refused(data):
    with pytest.raises(IngestError, match="not text"):
        decode(data)


def test_a_mark_that_lies_is_named():
    with pytest.raises(IngestError, match="utf-16"):
        decode(b"\xff\xfea\0b")


def test_nothing_is_text():
    assert decode(b"") == ("", "utf-8")
