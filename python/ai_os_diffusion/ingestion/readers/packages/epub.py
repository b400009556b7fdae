"""EPUB: the chapters of a book in the order in which they are read, each a page of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from ai_os_diffusion.ingestion.decoding import decode
from ai_os_diffusion.ingestion.document import Block, Remark, spans
from ai_os_diffusion.ingestion.readers.html import read_html
from ai_os_diffusion.ingestion.readers.packages.package import Package
from ai_os_diffusion.ingestion.readers.packages.parts import of_part, with_few_remarks
from ai_os_diffusion.ingestion.readers.packages.xml_parts import Element
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_epub"]

_WHAT = "an EPUB"
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Fonts are scrambled in books that are not locked.
_FONT_SCRAMBLING = frozenset(("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"))
_PAGES = frozenset(("application/xhtml+xml", "text/html", "image/svg+xml", "text/x-oeb1-document"))
# What a book is called and whose it is, in the words of Dublin Core.
_SAID = ("title", "creator", "contributor", "publisher", "date", "language", "subject", "description")
_MAX_TITLE_CHARS = 160
_MAX_SAID_CHARS = 10_000
# What HTML reads otherwise than XML. A value holds no `<` in XML, so no look goes beyond the next.
_XML_ONLY = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<!\[CDATA\[(?P<typed>.*?)(?:\]\]>|\Z)"
    r"|<(?P<name>[A-Za-z_][^\s<>/]*)(?P<rest>(?:[^<>\"']|\"[^<\"]*\"|'[^<']*')*)/>",
    re.DOTALL,
)
# These have no end in HTML, with a stroke or without.
_VOID = frozenset(
    "area base br circle col embed hr image img input line link meta param path rect source track wbr".split()
)


def read_epub(data: bytes) -> Iterator[tuple[list[Block], list[Remark]]]:
    """Read the chapters of a book one after the other, in the order of its spine.

    Each block names its chapter, a file within the book, as `part`, and has its lines in that file. The title
    of the book stands above all of them.

    Args:
        data: the book's bytes.

    Yields:
        Blocks of a chapter, the first with what the book says of itself; last, what is not in them.

    Raises:
        IngestError: it is no EPUB, damaged, locked by DRM, or nothing can be read of it.
    """
    package = Package(data, _WHAT)
    _refuse_locked(package)
    book_file = _book_file(package)
    book = package.tree(book_file)
    said = list(_said(book))
    title = next((text for name, text in said if name == "title"), "")[:_MAX_TITLE_CHARS]
    told = "\n".join(f"{name}: {text}" for name, text in said)
    front, remarks = of_part(book_file, [Block(told, 1, 1)] if told else [], ())
    headings = (title,) if title else ()
    is_read = False
    for chapter, kind in _spine(book, book_file):
        try:
            blocks, about = of_part(chapter, *_chapter(package, chapter, kind), headings)
        except IngestError as error:
            remarks.append(Remark("damaged", f"{chapter}: {error}"))
            continue
        remarks += about
        if blocks:
            for index, block in enumerate(blocks):
                # Said once, where the chapter says the title of the book again.
                if headings and block.headings[1:2] == headings:
                    blocks[index] = block._replace(headings=headings + block.headings[2:])
            yield (blocks if is_read else front + blocks), []
            is_read = True
    if not is_read:
        said_of_it = "; ".join(map(str, with_few_remarks(remarks)[:4])) or "its chapters hold no text"
        raise IngestError(f"nothing can be read of the EPUB: {said_of_it}")
    yield [], with_few_remarks(remarks)


def _refuse_locked(package: Package) -> None:
    if _ENCRYPTION not in package:
        return
    for entry in package.tree(_ENCRYPTION).every("EncryptedData"):
        method = entry.first("EncryptionMethod")
        if method is None or method.attributes.get("Algorithm") not in _FONT_SCRAMBLING:
            raise IngestError(
                "locked by DRM (encryption.xml lists encrypted files): only the shop's own program reads it; "
                "add a copy without DRM"
            )


def _book_file(package: Package) -> str:
    """Name of the file that says what the book consists of."""
    for root in package.tree(_CONTAINER).every("rootfile"):
        if path := root.attributes.get("full-path"):
            return path
    raise IngestError(f"not {_WHAT}: {_CONTAINER} within names no book")


def _said(book: Element) -> Iterator[tuple[str, str]]:
    """What the book says of itself, in the order of `_SAID`."""
    metadata = book.first("metadata")
    left = _MAX_SAID_CHARS
    for name in _SAID if metadata else ():
        for element in metadata.every(name) if metadata else ():
            text = " ".join(re.sub(r"<[^<>]*>", " ", element.text).split())[:left]
            left -= len(text)
            if text:
                yield name, text


def _spine(book: Element, book_file: str) -> Iterator[tuple[str, str]]:
    """Name and media type of each chapter, in the order of reading, each once."""
    items = {item.attributes.get("id"): item.attributes for item in book.every("item")}
    seen: set[str] = set()
    for reference in book.every("itemref"):
        item = items.get(reference.attributes.get("idref"))
        if item is None or "href" not in item:
            continue
        chapter = Package.resolve(book_file, item["href"])
        if chapter not in seen:
            seen.add(chapter)
            yield chapter, item.get("media-type", "")


def _chapter(package: Package, chapter: str, kind: str) -> tuple[list[Block], list[Remark]]:
    if kind not in _PAGES:
        return [], [Remark("no_text", f"not a page of text ({kind})")]
    decoded = decode(package.read(chapter), "html")
    blocks, remarks = read_html(_XML_ONLY.sub(_as_html, decoded.text), chapter)
    if decoded.replaced_lines:
        reason = f"bytes that are not {decoded.encoding}, each read as one U+FFFD"
        remarks.append(Remark("replaced", reason, lines=spans(decoded.replaced_lines)))
    return blocks, remarks


def _as_html(found: re.Match[str]) -> str:
    """XML as HTML has it: an element that ends where it begins has an end, and typed text its references."""
    typed, name = found["typed"], found["name"]
    if typed is not None:
        return escape(typed, quote=False)
    if name is None or name.lower() in _VOID:
        return found[0]
    return f"<{name}{found['rest']}></{name}>"
