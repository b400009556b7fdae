"""Formats that are not read: what they are, by their first bytes and then by their names, and what to do."""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["is_foreign_text", "what_to_do"]

_SPREADSHEET = "a spreadsheet; save each sheet as .csv"
_SLIDES = "slides; save them as .pdf"
_PICTURE = "a picture; if it shows text, make a PDF of it with an OCR tool, for example ocrmypdf"
_SOUND = "sound; have it transcribed to text, for example by whisper"
_VIDEO = "video; add its subtitles, or have it transcribed to text"
_ARCHIVE = "an archive; unpack it and add its folder"
_PACKED = "a compressed file; unpack it and add what is in it"
_KINDLE = "a book of Kindle; convert it to .epub, for example with calibre's ebook-convert"
_DATABASE = "a database; export what is to be remembered as .csv or .jsonl"
_PROGRAM = "a program, or a part of one"
_FONT = "a font"
_PRINT = "print data; convert it to .pdf, for example with ps2pdf"
_OLD_OFFICE = "a file of Office before 2007, or one with a password; save it anew, as .docx, .csv or .pdf"
_ARROW = "a table of Arrow; export it as .csv or .jsonl, or take vectors in with: aios memory import"

_BY_NAME = {
    "doc": "Word before 2007; save it as .docx",
    "dot": "Word before 2007; save it as .docx",
    "rtf": "Rich Text; save it as .docx",
    "pages": "Pages; export it as .docx or .pdf",
    "wpd": "WordPerfect; save it as .docx",
    "msg": "a message of Outlook; save it as .eml",
    "pst": "a mailbox of Outlook; export it as .mbox, for example with readpst",
    "one": "a notebook of OneNote; export it as .docx or .pdf",
    "djvu": "DjVu; convert it to .pdf, for example with ddjvu -format=pdf",
    "djv": "DjVu; convert it to .pdf, for example with ddjvu -format=pdf",
    "chm": "help of Windows; convert it to .html, for example with extract_chmLib",
    "vsd": "a drawing; export it as .pdf",
    "vsdx": "a drawing; export it as .pdf",
    "odg": "a drawing; export it as .pdf",
    **dict.fromkeys("xls xlsx xlsm xlsb xlt xltx ods ots numbers".split(), _SPREADSHEET),
    **dict.fromkeys("ppt pptx pptm pps ppsx odp otp key".split(), _SLIDES),
    **dict.fromkeys("mobi azw azw3 kfx prc".split(), _KINDLE),
    **dict.fromkeys("png jpg jpeg gif bmp tif tiff webp heic avif ico psd wmf emf".split(), _PICTURE),
    **dict.fromkeys("mp3 wav flac ogg oga opus m4a aac wma aiff mid".split(), _SOUND),
    **dict.fromkeys("mp4 mkv mov avi webm wmv mpg mpeg m4v flv".split(), _VIDEO),
    **dict.fromkeys("zip tar tgz tbz2 txz 7z rar deb rpm whl jar iso cab cpio dmg apk".split(), _ARCHIVE),
    **dict.fromkeys("bz2 xz lzma zst lz4 br z".split(), _PACKED),
    **dict.fromkeys("sqlite sqlite3 db mdb accdb duckdb".split(), _DATABASE),
    **dict.fromkeys("parquet arrow feather".split(), _ARROW),
    **dict.fromkeys("exe dll so dylib pyc class wasm".split(), _PROGRAM),
    **dict.fromkeys("ttf otf woff woff2 pfb eot".split(), _FONT),
    **dict.fromkeys("ps eps xps prn".split(), _PRINT),
}
# The first bytes of a file, and where they stand.
_BY_BYTES = (
    (0, b"\x89PNG\r\n\x1a\n", _PICTURE),
    (0, b"\xff\xd8\xff", _PICTURE),
    (0, b"GIF8", _PICTURE),
    (0, b"II*\0", _PICTURE),
    (0, b"MM\0*", _PICTURE),
    (8, b"WEBP", _PICTURE),
    (8, b"WAVE", _SOUND),
    (8, b"AVI ", _VIDEO),
    (4, b"ftypM4A", _SOUND),
    (4, b"ftyphei", _PICTURE),
    (4, b"ftyp", _VIDEO),
    (0, b"ID3", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"OggS", _SOUND),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"7z\xbc\xaf'\x1c", _ARCHIVE),
    (0, b"Rar!\x1a\x07", _ARCHIVE),
    (257, b"ustar", _ARCHIVE),
    (0, b"!<arch>\n", _ARCHIVE),
    (0, b"\x1f\x8b", "a gzip file; call it .gz, and what is in it is read"),
    (0, b"BZh", _PACKED),
    (0, b"\xfd7zXZ\0", _PACKED),
    (0, b"(\xb5/\xfd", _PACKED),
    (0, b"AT&TFORM", _BY_NAME["djvu"]),
    (0, b"SQLite format 3\0", _DATABASE),
    (0, b"PAR1", _ARROW),
    (0, b"ARROW1", _ARROW),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"MZ", _PROGRAM),
    (0, b"{\\rtf", _BY_NAME["rtf"]),
    (0, b"%!PS", _PRINT),
)
_ZIP = b"PK\3\4"
# Of all that Office wrote before 2007, and of what it locks by a password.
_OLE = b"\xd0\xcf\x11\xe0"
_FOREIGN_TEXTS = (b"{\\rtf", b"%!PS")


def is_foreign_text(data: bytes) -> bool:
    """Whether a file is in letters that a program wrote for another one, and not for people."""
    return data.startswith(_FOREIGN_TEXTS)


def what_to_do(name: str, data: bytes) -> str:
    """What a file is that is not read, and what to do about it; "" where nobody knows.

    Args:
        name: of the file; its extension counts.
        data: its content, or the beginning of it.
    """
    by_name = _BY_NAME.get(PurePath(name.lower()).suffix.removeprefix("."), "")
    if data.startswith(_OLE):
        # Its bytes are the same, whatever of Office it is; a new format has them where it is locked.
        return by_name if by_name and not name.lower().endswith("x") else _OLD_OFFICE
    if data.startswith(_ZIP):
        return by_name or _ARCHIVE
    for at, mark, said in _BY_BYTES:
        if data.startswith(mark, at):
            return said
    return by_name
