"""Bytes to text: which encoding a file is in, and whether it is text at all."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import NamedTuple

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["Decoded", "declared_encoding", "decode", "is_binary", "read_labelled"]

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK_BYTES = tuple(mark for mark, _ in _MARKS)
_SAMPLE_BYTES = 8192
_FOREIGN_SAMPLE_BYTES = 1 << 18
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROLS = bytes(sorted(set(range(32)) - set(b"\t\n\r\f\b\x1b")))
_MAX_CONTROL_SHARE = 0.05
# Of what no mark calls UTF-16.
_MAX_UNMARKED_SHARE = 0.01
_NOT_IN_TEXT = frozenset(("Cc", "Cn", "Co", "Cs"))
# Nobody writes a NUL; one in a thousand bytes may be damage, more are a binary format.
_MAX_NUL_SHARE = 0.001
_PIECE_BYTES = 1 << 20
_REPLACEMENT = "\ufffd"
# Names under which browsers keep what they will not decode, and what is no text of a language.
_NO_ENCODINGS = frozenset(("replacement", "x-user-defined"))
_ASCII = frozenset(("ascii", "us-ascii", "ansi_x3.4-1968", "iso646-us"))

# Browsers look for a declaration in the first 1,024 bytes and parse again when it comes later.
_HEAD_BYTES = 16_384
_XML = re.compile(rb"\A\s*<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([\w.:\-]{1,40})[\"']", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(rb"<meta\s[^>]{0,2000}", re.IGNORECASE)
_CHARSET = re.compile(rb"\bcharset\s*=\s*[\"']?\s*([\w.:\-]{1,40})", re.IGNORECASE)
# PEP 263: in one of the first two lines.
_COOKIE = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]{1,40})")


class Decoded(NamedTuple):
    """Text that was bytes.

    Attributes:
        text: the text; its lines end with line feeds, so that their numbers are those of an editor.
        encoding: the encoding it was in, as browsers name it, in lower case.
        replaced_lines: 1-based lines, in order, with bytes that are not of the encoding; each such run of
            bytes is one U+FFFD.
    """

    text: str
    encoding: str
    replaced_lines: tuple[int, ...] = ()


def decode(data: bytes, kind: str = "text") -> Decoded:
    """Decode a text file.

    An mbox stays bytes, each a character: every part of a message has an encoding of its own.
    What the file declares decides: a byte-order mark; the encoding in an XML declaration, a `meta` element
    of HTML or a coding line of Python. Then UTF-8, even with stray bytes, as long as more of its characters
    are whole than broken; UTF-16 without a mark, known by its NUL bytes standing all at even or all at odd
    places; last what the bytes look most like.

    Args:
        data: the whole file.
        kind: the reader it is for, which says where an encoding may be declared.

    Raises:
        IngestError: the bytes are not text.
    """
    if kind == "mbox":
        return Decoded(data.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n"), "latin-1")
    marked = _by_mark(data)
    if marked is None and is_binary(data):
        raise IngestError("not text: it holds binary bytes; convert it to text, Markdown, HTML or PDF")
    text, encoding, is_whole = marked or _declared(data, kind) or _guessed(data)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if is_whole and "\0" not in text:
        return Decoded(text, encoding)
    # A NUL is no text in any encoding; stores and terminals stumble over it.
    text = text.replace("\0", _REPLACEMENT)
    lines = enumerate(text.split("\n"), 1)
    return Decoded(text, encoding, tuple(number for number, line in lines if _REPLACEMENT in line))


def is_binary(data: bytes) -> bool:
    """Whether the bytes are no text in an encoding `decode` knows."""
    if data.startswith(_MARK_BYTES):
        return False
    if b"\0" in data and _unmarked_utf16(data) is not None:
        return False
    if data.count(0) > _MAX_NUL_SHARE * len(data):
        return True
    controls = 0
    for start in range(0, len(data), _PIECE_BYTES):
        piece = data[start : start + _PIECE_BYTES]
        controls += len(piece) - len(piece.translate(None, _CONTROLS))
    return controls > _MAX_CONTROL_SHARE * len(data)


_Read = tuple[str, str, bool]
"""Text, its encoding, and whether all bytes are of that encoding."""


def _by_mark(data: bytes) -> _Read | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _read(data, encoding)
    return None


def _declared(data: bytes, kind: str) -> _Read | None:
    """The text by the encoding the file declares, unless it is unknown or the file is plainly UTF-8."""
    label = _label(data[:_HEAD_BYTES], kind)
    if label is None:
        return None
    # What could be read to find the declaration is no UTF-16.
    return read_labelled(data, "utf-8" if _is_utf16(label) else label)


def read_labelled(data: bytes, label: str) -> tuple[str, str, bool] | None:
    """The text by the encoding that a file or a message is said to be in.

    Args:
        data: the bytes.
        label: name of the encoding.

    Returns:
        Text, the encoding as browsers name it in lower case, and whether all bytes are of it; None where
        nobody knows the encoding, or the bytes do not fit it and are plainly UTF-8.
    """
    from ai_os_diffusion._native import decode_bytes, encoding_of_label

    name = encoding_of_label(label)
    read = decode_bytes(data, name) if name and name not in _NO_ENCODINGS else None
    # Browsers take ASCII for Windows-1252, which all bytes fit.
    fits = read is not None and not read[1] and (data.isascii() or label.lower() not in _ASCII)
    if read is None or name is None or (not fits and _fits(data, "utf-8")):
        return None
    return read[0], name.lower(), not read[1]


def _is_utf16(label: str) -> bool:
    from ai_os_diffusion._native import encoding_of_label

    return (encoding_of_label(label) or "").startswith("UTF-16")


def declared_encoding(data: bytes, kind: str) -> str | None:
    """The encoding that a file declares, as browsers name it.

    Args:
        data: its beginning, or all of it.
        kind: the reader it is for, which says where an encoding may be declared.
    """
    label = _label(data[:_HEAD_BYTES], kind)
    if label is None:
        return None
    from ai_os_diffusion._native import encoding_of_label

    name = encoding_of_label(label)
    if name is None or name in _NO_ENCODINGS:
        return None
    # What could be read to find the declaration is no UTF-16.
    return "UTF-8" if name.startswith("UTF-16") else name


def _label(head: bytes, kind: str) -> str | None:
    if kind == "python":
        found = _COOKIE.match(head)
    else:
        found = _XML.match(head)
        if found is None and kind == "html":
            metas = _META.findall(_COMMENT.sub(b"", head))
            found = next(filter(None, map(_CHARSET.search, metas)), None)
    return found.group(1).decode("ascii") if found else None


def _guessed(data: bytes) -> _Read:
    if _fits(data, "utf-8"):
        return data.decode("utf-8"), "utf-8", True
    unmarked = _unmarked_utf16(data)
    if unmarked:
        return _read(data, unmarked)
    text = data.decode("utf-8", "replace")
    broken = text.count(_REPLACEMENT)
    # Bytes of another encoding are whole characters of UTF-8 only by rare chance.
    if len(text) - len(text.encode("ascii", "ignore")) - broken > broken:
        return text, "utf-8", False
    from ai_os_diffusion._native import decode_bytes, detect_encoding

    name = detect_encoding(_foreign_sample(data))
    text, malformed = decode_bytes(data, name) or (text, [])
    return text, name.lower(), not malformed


def _foreign_sample(data: bytes) -> bytes:
    """Enough of what is not ASCII to tell its encoding; cut where no character of any encoding is cut."""
    first = _NOT_ASCII.search(data)
    sample = data[first.start() if first else 0 :][:_FOREIGN_SAMPLE_BYTES]
    if len(sample) < _FOREIGN_SAMPLE_BYTES:
        return sample
    return sample[: sample.rfind(b"\n") + 1] or sample[: sample.rfind(b" ") + 1] or sample


def _read(data: bytes, encoding: str) -> _Read:
    if _fits(data, encoding):
        return data.decode(encoding), encoding, True
    return data.decode(encoding, "replace"), encoding, False


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 text without a mark, or None when it is something else."""
    sample = data[: _SAMPLE_BYTES - len(data[:_SAMPLE_BYTES]) % 2]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        encoding = "utf-16-le"
    elif even > 0.4 * half and odd < 0.05 * half:
        encoding = "utf-16-be"
    else:
        return None
    text = sample.decode(encoding, "replace")
    # Controls, and what is no character: numbers in two bytes each are such as often as not.
    others = sum(unicodedata.category(character) in _NOT_IN_TEXT for character in text)
    others -= sum(map(text.count, "\t\n\r\f\b\x1b"))
    is_text = others + text.count(_REPLACEMENT) <= _MAX_UNMARKED_SHARE * len(text)
    return encoding if is_text else None
