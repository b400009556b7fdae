"""Which reader a file belongs to."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import PurePath

from ai_os_diffusion.ingestion.decoding import is_binary
from ai_os_diffusion.ingestion.foreign_formats import is_foreign_text, what_to_do
from ai_os_diffusion.ingestion.readers.compressed import inner_name

__all__ = ["KINDS", "TITLED", "kind_of", "title_of", "why_no_kind"]

KINDS = {
    "text": ("txt", "text", "log", "rst"),
    "markdown": ("md", "markdown", "mdown", "mkd", "mdx"),
    "html": ("html", "htm", "xhtml", "svg"),
    "pdf": ("pdf",),
    "epub": ("epub",),
    "odt": ("odt", "ott"),
    "docx": ("docx", "docm", "dotx", "dotm"),
    "mail": ("eml",),
    "mbox": ("mbox",),
    "jsonl": ("jsonl", "ndjson"),
    "table": ("csv", "tsv", "tab"),
    "notebook": ("ipynb",),
    "python": ("py", "pyi", "pyw"),
    "code": (
        *("c", "h", "cc", "cpp", "cxx", "hh", "hpp", "cs", "java", "kt", "kts", "scala", "go", "rs", "swift"),
        *("js", "mjs", "cjs", "jsx", "ts", "tsx", "vue", "svelte", "css", "scss", "less", "php", "rb", "pl"),
        *("lua", "r", "jl", "m", "mm", "hs", "ml", "mli", "ex", "exs", "erl", "clj", "lisp", "el", "scm"),
        *("sh", "bash", "zsh", "fish", "ps1", "bat", "sql", "dart", "zig", "nim", "asm", "s", "proto", "tf"),
        *("toml", "yaml", "yml", "ini", "cfg", "conf", "json", "xml", "cmake", "mk", "gradle", "dockerfile"),
    ),
}
"""Extensions by kind; of other names the first bytes tell, and what holds text is read as plain text."""

TITLED = frozenset(("html", "pdf", "epub", "odt", "docx", "mail", "mbox"))
"""Kinds whose documents say their own title, where they have one."""

# Extensions that say no more than that something is written there.
_OF_WRITING = frozenset(
    (*KINDS["text"], *KINDS["markdown"], *chain(*(KINDS.get(kind, ()) for kind in TITLED)))
)
_BY_EXTENSION = {extension: kind for kind, extensions in KINDS.items() for extension in extensions}
_CODE_NAMES = frozenset(("makefile", "dockerfile", "cmakelists.txt", "justfile", "rakefile", "gemfile"))
_BINARY = frozenset((None, "pdf", "epub", "odt", "docx"))
_PDF_MAGIC = b"%PDF-"
_PDF_MAGIC_WITHIN = 1024
# Every PDF holds an object; a note that quotes the mark does not.
_PDF_OBJECT = re.compile(rb"\b\d+\s+\d+\s+obj\b")
_ZIP_MAGIC = b"PK\3\4"
# Packages say in their first file, which is not compressed, what they are; not all do.
_PACKAGE_TYPE = re.compile(rb"PK\x03\x04.{26}mimetype(application/[\w.+-]*?)(?=PK)", re.DOTALL)
_PACKAGE_KINDS = {
    b"application/epub+zip": "epub",
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.text-template": "odt",
}
_PACKAGES = frozenset((*_PACKAGE_KINDS.values(), "docx"))
_IN_DOCX = b"word/document.xml"
_BEFORE_MARKUP = re.compile(rb"\A\xef\xbb\xbf|\A\s+|\A(?:\s*<(?:\?xml[^>]*>|!--.*?-->))+\s*", re.DOTALL)


def kind_of(name: str, data: bytes, *, sniff: bool = True) -> str | None:
    """Name the reader for a file, or None when its bytes are binary.

    The content has the last word: a PDF is one under any name, and a file called `.md` that holds
    binary bytes is not Markdown. A text that only speaks of PDF is none.

    Args:
        name: file name; only its extension counts.
        data: the whole content.
        sniff: look for a kind in the content where the name does not tell.
    """
    path = PurePath(name.lower())
    kind = "code" if path.name in _CODE_NAMES else _BY_EXTENSION.get(path.suffix.removeprefix("."))
    if sniff and data.startswith(_ZIP_MAGIC):
        return _package(data, kind)
    if sniff and _is_pdf(data, kind):
        return "pdf"
    if is_binary(data) or (kind is None and is_foreign_text(data)):
        return None
    if not sniff:
        return kind or "text"
    return _sniff(data) if kind in _BINARY else kind


def title_of(name: str) -> str:
    """What the name of a file says of what is in it: `ls.1` of `ls.1.txt.gz`, `wait.py` of itself."""
    inner = inner_name(name)
    stem, _, extension = inner.rpartition(".")
    return stem if stem and extension.lower() in _OF_WRITING else inner


def why_no_kind(name: str, data: bytes) -> str:
    """Say why `kind_of` names no reader, with what to do where something can be done.

    Args:
        name: file name.
        data: its content, or the beginning of it.
    """
    said = what_to_do(name, data)
    return f"this format is not supported: {said}" if said else "binary file"


def _package(data: bytes, kind: str | None) -> str | None:
    """The kind of a zip archive, if it is a document that is packed into one."""
    found = _PACKAGE_TYPE.match(data)
    if found:
        return _PACKAGE_KINDS.get(found.group(1))
    if kind in _PACKAGES:
        return kind
    return "docx" if _IN_DOCX in data else None


def _is_pdf(data: bytes, kind: str | None) -> bool:
    """Whether a file is a PDF, which may have other bytes before its mark."""
    if _PDF_MAGIC not in data[:_PDF_MAGIC_WITHIN]:
        return False
    return kind == "pdf" or _PDF_OBJECT.search(data) is not None


def _sniff(data: bytes) -> str:
    head = _BEFORE_MARKUP.sub(b"", data[:2048]).lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "html"
    if head.startswith(b"#!"):
        return "python" if b"python" in head.split(b"\n", 1)[0] else "code"
    return "text"
