"""Of mail its headers, texts and attachments are read; what is not read is named."""

import base64
import gzip
import sys
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.ingestion import Ingestor, read_document, reading
from ai_os_diffusion.ingestion.readers.mail import mbox, message
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import docx_of, epub_of, zip_of

DOCX = docx_of("<w:p><w:r><w:t>Water at dawn.</w:t></w:r></w:p>")
HEAD = b"From: Ada <ada@a.example>\nTo: Bob\nSubject: Roses\n"


def mail(text="Cut in March.", **headers):
    found = EmailMessage()
    for name, value in {"From": "ada@a.example", "Subject": "Roses", **headers}.items():
        found[name] = value
    found.set_content(text)
    return found


def read(data, name="a.eml"):
    document = read_document(name, data)
    return (
        [(block.text, block.line, block.headings) for block in document.blocks],
        [(remark.kind, remark.reason, remark.lines) for remark in document.remarks],
    )


def test_headers_and_text_with_their_lines():
    found, remarks = read(HEAD + b"X-No: no\nDate: Mon, 1 May\n\nHello,\nBob.\n\n> Cut?\n\nIn March.\n")
    assert found == [
        ("From: Ada <ada@a.example>\nTo: Bob\nSubject: Roses\nDate: Mon, 1 May", 1, ()),
        ("Hello,\nBob.", 7, ("Roses",)),
        ("> Cut?", 10, ("Roses",)),
        ("In March.", 12, ("Roses",)),
    ]
    assert remarks == []


def test_encoded_headers_and_texts_are_decoded():
    head = "Subject: =?utf-8?q?R=C3=B6schen?= und =?iso-8859-1?b?5A==?=\nFrom: Jürgen\n".encode()
    kind = b"Content-Type: text/plain; charset=%s\nContent-Transfer-Encoding: %s\n\n"
    found, _ = read(head + kind % (b"iso-8859-1", b"quoted-printable") + b"one =\ntwo\n\nR=F6schen\n")
    assert [entry[:2] for entry in found] == [
        ("Subject: Röschen und ä\nFrom: Jürgen", 1),
        ("one two", 6),
        ("Röschen", 9),
    ]
    found, _ = read(head + kind % (b"utf-8", b"base64") + b"UsO2\nc2NoZW4=\n")
    assert found[1] == ("Röschen", 6, ("Röschen und ä",))
    found, remarks = read(head + kind % (b"utf-8", b"8bit") + b"fine\nbr\xffken\n")
    assert found[1][0] == "fine\nbr\ufffdken"
    assert remarks[0][::2] == ("replaced", ((7, 7),))


def test_of_alternatives_the_plain_text_is_read_unless_it_is_empty():
    both = mail("plain\n")
    both.add_alternative("<p>page</p>", subtype="html")
    assert [text for text, *_ in read(bytes(both))[0]][1:] == ["plain"]
    only = mail(" \n")
    only.add_alternative("<h1>Title</h1><p>page</p>", subtype="html")
    assert read(bytes(only))[0][1][::2] == ("page", ("Roses", "Title"))


def test_mail_in_gzip_files_is_mail():
    outer = mail("innermost")
    for depth in range(message._MAX_DEPTH + 2):
        data, outer = gzip.compress(outer.as_bytes(), mtime=0), mail(f"around {depth}")
        outer.add_attachment(data, maintype="application", subtype="gzip", filename="a.eml.gz")
    found, remarks = read(outer.as_bytes())
    texts = [text for text, *_ in found]
    assert f"around {message._MAX_DEPTH + 1}" in texts
    assert "around 1" in texts
    assert "around 0" not in texts
    assert "innermost" not in texts
    assert any("a few deep only" in reason for _, reason, _ in remarks)


def test_attachments_that_unpack_to_far_more_are_named():
    outer = mail()
    data = gzip.compress(bytes(80_000_000), mtime=0)
    outer.add_attachment(data, maintype="application", subtype="gzip", filename="a.txt.gz")
    _, remarks = read(outer.as_bytes())
    assert [reason for _, reason, _ in remarks if "a.txt.gz: it unpacks to more than" in reason]


def test_attachments_are_read_by_their_own_readers_or_named():
    found = mail()
    found.add_attachment(DOCX, maintype="application", subtype="x", filename="Gießen.docx")
    found.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="a.png")
    found.add_attachment(b"\0\1\2" * 99, maintype="application", subtype="x", filename="a.bin")
    document = read_document("a.eml", bytes(found))
    assert [(block.text, block.metadata.get("part"), block.headings) for block in document.blocks[1:]] == [
        ("Cut in March.", None, ("Roses",)),
        ("Water at dawn.", "Gießen.docx", ("Roses",)),
    ]
    assert [(remark.kind, remark.reason) for remark in document.remarks] == [
        ("no_text", "attachments of type image, which are not read"),
        ("no_text", "attachment a.bin: binary file"),
    ]
    assert all(remark.lines for remark in document.remarks)


def test_messages_within_are_read_a_few_deep():
    inner = mail("innermost")
    for number in range(3):
        outer = mail(f"text {number}", Subject=f"s{number}")
        outer.add_attachment(inner)
        inner = outer
    texts = [(text, headings) for text, _, headings in read(bytes(inner))[0]]
    assert ("innermost", ("s2", "s1", "s0", "Roses")) in texts
    data = bytes(mail("innermost"))
    for _ in range(8):
        outer = mail("around")
        outer.add_attachment(data, maintype="application", subtype="x", filename="a.eml")
        data = bytes(outer)
    found, remarks = read(data)
    assert [text for text, *_ in found].count("around") == message._MAX_DEPTH + 1
    assert "a few deep only" in remarks[0][1]


def test_a_bounce_tells_what_failed():
    text = (
        HEAD + b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
    )
    found, _ = read(text + b"Reporting-MTA: dns; x\n\nStatus: 5.1.1\n\n--b--\n")
    assert found[1][0] == "Reporting-MTA: dns; x\nStatus: 5.1.1"


MBOX = b"".join(
    b"From ada@a.example Mon May  1 10:00:%02d 2023\nFrom: Ada\nSubject: s%d\n\nText %d.\nFrom now on.\n\n"
    % (n, n, n)
    for n in range(60)
)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_an_mbox_read_in_pieces_is_that_of_the_whole(monkeypatch, tmp_path, ends):
    data = MBOX.replace(b"\n", ends)
    path = tmp_path / "a.mbox"
    path.write_bytes(data)
    whole = read_document("a.mbox", data).blocks
    assert [(block.text, block.line, block.metadata["message"]) for block in whole[118:]] == [
        ("From: Ada\nSubject: s59", 415, 60),
        ("Text 59.\nFrom now on.", 418, 60),
    ]
    monkeypatch.setattr(reading, "_SHORT_BYTES", 100)
    pieces = reading.text_pieces
    monkeypatch.setattr(reading, "text_pieces", lambda file, **_: pieces(file, piece_chars=150))
    opened = Ingestor(lambda texts: [len(text.split()) for text in texts]).open("a.mbox", path)
    chunks = list(opened.chunks())
    assert [(chunk.text, chunk.line, chunk.metadata["message"]) for chunk in chunks] == [
        (block.text, block.line, block.metadata["message"]) for block in whole
    ]
    assert (opened.kind, opened.encoding, opened.remarks) == ("mbox", None, [])


def test_messages_that_cannot_be_read_are_named_and_the_others_read(monkeypatch):
    monkeypatch.setattr(mbox, "_MAX_MESSAGE_CHARS", 1000)
    at = b"From a Mon May  1 10:00:00 2023\n"
    data = (
        b"above\n\n"
        + at
        + b"no mail\n\n"
        + at
        + HEAD
        + b"\n"
        + b"long\n" * 300
        + b"\n"
        + at
        + HEAD
        + b"\nCut.\n"
    )
    found, remarks = read(data, "a.mbox")
    assert [text for text, *_ in found][1:] == ["Cut."]
    assert [(kind, lines) for kind, _, lines in remarks] == [
        ("damaged", ((1, 1),)),
        ("damaged", ((4, 4),)),
        ("damaged", ((7, 311),)),
    ]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.eml", b"just text\n", "not a mail message"),
        ("a.mbox", b"just text\n", "no message begins"),
        ("a.eml", HEAD + b"\n" * 6_000_000, "far more lines"),
        ("a.eml", HEAD + b"boundary=" * 3000 + b"\n" * 30_000, "far more lines"),
    ],
)
def test_what_is_no_mail_is_named(name, data, said):
    with pytest.raises(IngestError, match=said):
        read_document(name, data)


@pytest.mark.parametrize("calls", [None, 20_000])
def test_parts_nested_without_end_are_named(calls):
    """However deep the program lets calls go."""
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000))
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(calls or before)
        with pytest.raises(IngestError, match="nested more deeply"):
            read(HEAD + parts + b"\ntext\n")
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("value", [b'; "' * 400_000, b"=?utf-8?q?" * 200_000, b"a@b.c, " * 200_000])
def test_headers_without_end_are_cut_and_read_in_time(value):
    """Each takes minutes where its cost is quadratic."""
    data = HEAD + b"Cc: " + value + b"\nContent-Type: text/plain" + value + b"\n\nCut.\n"
    found, remarks = read(data)
    assert found[-1][0] == "Cut."
    assert remarks[0][0] == "limit"


def test_very_many_parts_that_are_not_found_again_are_read_in_time():
    """It takes minutes where each is looked for to the end."""
    part = b"--b\nContent-Transfer-Encoding: quoted-printable\n\n\xff%d\n"
    parts = b"".join(part % number for number in range(40_000))
    found, remarks = read(HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + parts + b"--b--\n")
    assert len(found) == 40_001
    assert (found[1][0][1:], found[-1][0][1:], remarks) == ("0", "39999", [])


@pytest.mark.parametrize(
    ("kind", "name", "data", "kept", "reason"),
    [
        ("application/octet-stream", "a.docx", docx_of("<w:p><w:r><w:t>turtle</w:t></w:r></w:p>"), True, ""),
        ("application/pdf", "a.txt", b"turtle", True, ""),
        ("text/plain", "a.epub", epub_of(["<p>turtle</p>"]), True, ""),
        ("application/msword", "a.md", b"# turtle", True, ""),
        ("text/plain", "a.txt", b"\x89PNG\r\n\x1a\n" + bytes(99), False, "a picture"),
        ("image/png", "a.png", b"turtle", False, "attachments of type image, which are not read"),
        ("text/html", "a.zip", zip_of({"a": "turtle"}), False, "an archive"),
        ("application/zip", "../../a.csv", b"what\nturtle\n", True, ""),
        ("nonsense", "a.txt", b"turtle", True, ""),
    ],
)
def test_attachments_of_a_wrong_type_are_read_as_what_they_are_or_named(kind, name, data, kept, reason):
    encoded = base64.encodebytes(data).decode()
    message = (
        'From: a@b\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n\n'
        f"--x\nContent-Type: {kind}\nContent-Transfer-Encoding: base64\n"
        f'Content-Disposition: attachment; filename="{name}"\n\n{encoded}\n--x--\n'
    )
    document = read_document("a.eml", message.encode())
    said = "\n".join("\n".join((*block.headings, block.text)) for block in document.blocks)
    assert ("turtle" in said) == kept
    assert any(reason in remark.reason for remark in document.remarks) or kept


def test_text_that_is_none_is_named_and_the_rest_read():
    message = (
        b'From: a@b\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n\n'
        b"--x\nContent-Type: text/plain; charset=nonsense\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(bytes(range(9)) * 50)
        + b"\n"
        b"--x\nContent-Type: text/plain; charset=utf-16\n\nturtle\xff\n--x--\n"
    )
    document = read_document("a.eml", message)
    assert "binary bytes" in document.remarks[0].reason
    assert len(document.blocks) == 2


@pytest.mark.parametrize("label", ["gbk", "us-ascii", "shift_jis", "iso-2022-jp"])
def test_a_charset_that_does_not_fit_text_that_is_plainly_utf8_is_passed_by(label):
    headers = f"From: a@b\nContent-Type: text/plain; charset={label}\nContent-Transfer-Encoding: 8bit\n\n"
    document = read_document("a.eml", headers.encode() + "代开各地 naïve — turtles œuvre\n".encode())
    assert document.blocks[1].text == "代开各地 naïve — turtles œuvre"
    assert document.remarks == ()


def test_a_charset_that_fits_is_believed():
    headers = b"From: a@b\nContent-Type: text/plain; charset=iso-8859-1\n\n"
    assert read_document("a.eml", headers + b"na\xefve").blocks[1].text == "naïve"
    # As sent by who declares one encoding and writes in it.
    assert read_document("a.eml", headers + "ï".encode()).blocks[1].text == "Ã¯"


LINES = (b"X: a\n", b"Content-Type: text/html\n", b" more\n", b"From x\n", b"mime-version:")
PIECES = st.sampled_from((*LINES, b"X", b":", b" ", b"\t", b"\n", b"\r\n", b"\x0c", b"\xe9"))


@given(st.lists(PIECES, max_size=12), st.lists(PIECES, max_size=6))
def test_a_simple_message_is_parsed_as_the_library_does(head, body):
    data = b"To: b\n" + b"".join(head) + b"\n\n" + b"".join(body)
    ours, library = message._parsed(data), message._parser.parsebytes(data)
    assert list(ours.raw_items()) == list(library.raw_items())
    assert ours.get_payload() == library.get_payload()
    assert ours.get_content_type() == library.get_content_type()
