"""Which reader a file belongs to."""

from __future__ import annotations

from pathlib import PurePath

from ai_os_diffusion.ingestion.decoding import is_binary

__all__ = ["KINDS", "kind_of"]

KINDS = {
    "markdown": ("md", "markdown", "mdown", "mkd", "mdx"),
    "html": ("html", "htm", "xhtml"),
    "pdf": ("pdf",),
    "jsonl": ("jsonl", "ndjson"),
    "python": ("py", "pyi", "pyw"),
    "code": (
        *("c", "h", "cc", "cpp", "cxx", "hh", "hpp", "cs", "java", "kt", "kts", "scala", "go", "rs", "swift"),
        *("js", "mjs", "cjs", "jsx", "ts", "tsx", "vue", "svelte", "css", "scss", "less", "php", "rb", "pl"),
        *("lua", "r", "jl", "m", "mm", "hs", "ml", "mli", "ex", "exs", "erl", "clj", "lisp", "el", "scm"),
        *("sh", "bash", "zsh", "fish", "ps1", "bat", "sql", "dart", "zig", "nim", "asm", "s", "proto", "tf"),
        *("toml", "yaml", "yml", "ini", "cfg", "conf", "json", "xml", "cmake", "mk", "gradle", "dockerfile"),
    ),
}
"""Extensions by kind; anything else that holds text is read as plain text."""

_BY_EXTENSION = {extension: kind for kind, extensions in KINDS.items() for extension in extensions}
_CODE_NAMES = frozenset(("makefile", "dockerfile", "cmakelists.txt", "justfile", "rakefile", "gemfile"))
_PDF_MAGIC = b"%PDF-"
_PDF_MAGIC_WITHIN = 1024


def kind_of(name: str, data: bytes) -> str | None:
    """Name the reader for a file, or None when its bytes are binary.

    The content has the last word: a PDF is one under any name, and a file called `.md` that holds
    binary bytes is not Markdown.

    Args:
        name: file name; only its extension counts.
        data: the whole content.
    """
    if _PDF_MAGIC in data[:_PDF_MAGIC_WITHIN]:
        return "pdf"
    if is_binary(data):
        return None
    path = PurePath(name.lower())
    if path.name in _CODE_NAMES:
        return "code"
    kind = _BY_EXTENSION.get(path.suffix.removeprefix("."))
    if kind in (None, "pdf"):
        return _sniff(data)
    return kind


def _sniff(data: bytes) -> str:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "html"
    if head.startswith(b"#!"):
        return "python" if b"python" in head.split(b"\n", 1)[0] else "code"
    return "text"
