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
    assert decode(b"caf\xe9 \x81")[:2] == ("café \x81", "windows-1252")


def test_line_ends_of_every_system_count_as_one():
    assert decode(b"a\r\nb\rc\nd")[0] == "a\nb\nc\nd"


@pytest.mark.parametrize(
    "data",
    [b"\x7fELF\x02\x01\x01\0\0\0", bytes(range(256)), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x01\x02\x03\x04"],
)
def test_binary_bytes_are_refused(data):
    with pytest.raises(IngestError, match="not text"):
        decode(data)


def test_a_byte_too_few_behind_a_mark_is_one_replacement_mark():
    assert decode(b"\xff\xfea\0b") == ("a\ufffd", "utf-16", (1,))


def test_nothing_is_text():
    assert decode(b"") == ("", "utf-8", ())


def test_a_stray_byte_of_utf_8_is_one_replacement_mark_on_a_line_that_is_named():
    data = "Grüße aus Köln.\nZweite Zeile: ".encode() + b"\xff" + "Füße\n".encode()
    assert decode(data) == ("Grüße aus Köln.\nZweite Zeile: \ufffdFüße\n", "utf-8", (2,))


def test_a_stray_nul_is_one_replacement_mark():
    data = b"line\r\n" * 300 + b"a\0b\n"
    decoded = decode(data)
    assert decoded.text.endswith("a\ufffdb\n")
    assert decoded.replaced_lines == (301,)


DECLARED = [
    (
        "html",
        "<html><!-- <meta charset=utf-8> --><meta charset='{}'>",
        "windows-1251",
        "Розы режут в марте.",
    ),
    (
        "html",
        "<META HTTP-EQUIV=x content='text/html; charset={}'>",
        "shift_jis",
        "三月にバラを切る。",
    ),
    ("html", "<?xml version='1.0' encoding='{}'?><html>", "gb2312", "三月修剪玫瑰。"),
    ("html", "<meta name=x content=y><meta charset={}>", "iso-8859-2", "Růže se stříhají v březnu."),
    ("code", '<?xml version="1.0" encoding="{}"?><a>', "koi8-r", "Розы режут в марте."),
    ("python", "#!/usr/bin/python\n# -*- coding: {} -*-\n", "iso-8859-15", "x = '€'"),
    ("html", "<meta charset={}>", "latin1", "Fünf “Rosen” für 5 €"),
]


@pytest.mark.parametrize(("kind", "head", "label", "text"), DECLARED)
def test_a_declared_encoding_decides(kind, head, label, text):
    codec = "cp1252" if label == "latin1" else label
    decoded = decode((head.format(label) + text).encode(codec), kind)
    assert decoded.text.endswith(text)
    assert decoded.replaced_lines == ()


@pytest.mark.parametrize("label", ["utf-8", "iso-2022-kr", "no-such", "utf-16", "x-user-defined"])
def test_a_declaration_that_is_plainly_wrong_is_passed_by(label):
    assert decode(f"<meta charset={label}>Größe".encode(), "html").text.endswith("Größe")


def test_what_is_utf_8_and_not_of_the_declared_encoding_is_utf_8():
    text = "<meta charset=gbk>Größe ✓ £"
    assert decode(text.encode(), "html")[:2] == (text, "utf-8")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Розы режут в марте, когда нет мороза."),
        ("shift_jis", "バラは三月に切ります。霜が降りない日に。"),
        ("gbk", "玫瑰在三月修剪，没有霜冻的时候。"),
        ("euc-kr", "장미는 서리가 없는 삼월에 자른다."),
        ("iso-8859-2", "Růže se stříhají v březnu, když nemrzne."),
    ],
)
def test_an_encoding_that_nobody_declares_is_detected(encoding, text):
    assert decode(text.encode(encoding))[0] == text
