"""Bytes to text: which encoding a file is in, and whether it is text at all."""

from __future__ import annotations

import codecs

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["decode", "is_binary"]

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 8192
_TEXT_CONTROLS = frozenset("\t\n\r\f\b\x1b")
_MAX_CONTROL_SHARE = 0.05


def decode(data: bytes) -> tuple[str, str]:
    """Decode a text file.

    A byte-order mark decides; then UTF-8; then UTF-16 without a mark, known by its NUL bytes standing
    all at even or all at odd places; then Windows-1252, and Latin-1 where that has holes.
    Line ends become line feeds, so that line numbers are those of an editor.

    Returns:
        The text and the name of the encoding found.

    Raises:
        IngestError: the bytes are not text.
    """
    text, encoding = _decode(data)
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def is_binary(data: bytes) -> bool:
    """Whether the bytes are no text in an encoding `decode` knows."""
    if data.startswith(tuple(mark for mark, _ in _MARKS)):
        return False
    if b"\0" in data:
        return _unmarked_utf16(data) is None
    return _is_garbled(data[:_SAMPLE_BYTES].decode("latin-1"))


def _is_garbled(text: str) -> bool:
    """Whether more control characters stand in a text than people write."""
    controls = sum(character < " " and character not in _TEXT_CONTROLS for character in text)
    return controls > _MAX_CONTROL_SHARE * len(text)


def _decode(data: bytes) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), encoding
            except UnicodeDecodeError as error:
                raise IngestError(
                    f"not text: it begins with the mark of {encoding}, but byte {error.start} is not; "
                    "save it as UTF-8"
                ) from error
    if is_binary(data):
        raise IngestError("not text: it holds binary bytes; convert it to text, Markdown, HTML or PDF")
    unmarked = _unmarked_utf16(data)
    candidates = (unmarked,) if unmarked else ("utf-8", "cp1252")
    encoding = next((name for name in candidates if _fits(data, name)), "latin-1")
    return data.decode(encoding), encoding


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 text without a mark, or None when it is something else."""
    sample = data[:_SAMPLE_BYTES]
    if len(data) % 2 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        encoding = "utf-16-le"
    elif even > 0.4 * half and odd < 0.05 * half:
        encoding = "utf-16-be"
    else:
        return None
    if not _fits(data, encoding):
        return None
    text = data.decode(encoding)
    return None if "\0" in text or _is_garbled(text[:_SAMPLE_BYTES]) else encoding
