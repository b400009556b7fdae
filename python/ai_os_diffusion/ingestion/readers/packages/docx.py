"""DOCX (ISO/IEC 29500): what Word shows and prints, with its headings, notes and comments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.packages.docx_styles import DocxStyles
from ai_os_diffusion.ingestion.readers.packages.docx_text import DocxNotes, DocxText
from ai_os_diffusion.ingestion.readers.packages.flow import Flow
from ai_os_diffusion.ingestion.readers.packages.package import Package
from ai_os_diffusion.ingestion.readers.packages.parts import of_part, with_few_remarks
from ai_os_diffusion.ingestion.readers.packages.xml_parts import XmlHandler, parse_xml
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_docx"]

_WHAT = "a DOCX"
_PROPERTIES = "docProps/core.xml"


def read_docx(data: bytes) -> tuple[list[Block], list[Remark]]:
    """Read the text of a Word document, then each of its headers and footers once.

    A block's line is the number of its paragraph. Notes and comments come behind the paragraph that refers to
    them. What tracked changes delete, and hidden text, are left out and named.

    Args:
        data: the file's bytes.

    Raises:
        IngestError: it is no DOCX, damaged, or nothing can be read of it.
    """
    package = Package(data, _WHAT)
    main = next(_related(package, "", "officeDocument"), "word/document.xml")
    content = package.read(main)
    styles = DocxStyles()
    for name in _related(package, main, "styles"):
        styles = DocxStyles.of(package.tree(name))
    notes: dict[tuple[str, str], str] = {}
    remarks: list[Remark] = []
    for kind in ("footnotes", "endnotes", "comments"):
        for name in _related(package, main, kind):
            read = DocxNotes(styles)
            remarks += _parse(package, name, read)
            notes |= read.notes
            remarks += of_part(name, (), read.remarks)[1]
    text = DocxText(Flow(package.title(_PROPERTIES)), styles, notes)
    parse_xml(content, text, main)
    blocks, own = text.flow.end()
    seen: set[tuple[str, ...]] = set()
    for name in chain(_related(package, main, "header"), _related(package, main, "footer")):
        beside = DocxText(Flow(), styles, notes)
        remarks += _parse(package, name, beside)
        found, about = of_part(name, *beside.flow.end())
        said_there = tuple(block.text for block in found)
        # The first page, and those on the left, mostly say the same.
        if said_there not in seen:
            seen.add(said_there)
            blocks += found
        remarks += about
    if not blocks:
        why = "; ".join(map(str, (own + remarks)[:4])) or "it holds no text"
        raise IngestError(f"nothing can be read of the DOCX: {why}")
    return blocks, own + with_few_remarks(remarks)


def _parse(package: Package, name: str, handler: XmlHandler) -> list[Remark]:
    """Parse a file beside the text; one that is damaged costs itself alone, and is named."""
    try:
        parse_xml(package.read(name), handler, name)
    except IngestError as error:
        return [Remark("damaged", str(error))]
    return []


def _related(package: Package, name: str, kind: str) -> Iterator[str]:
    """Files within that a file refers to as being of a kind, those that are there, each once.

    Args:
        package: that has them.
        name: of the file; "" for the package itself.
        kind: the last part of the relationship's type, which differs before it between editions.
    """
    folder, _, own = name.rpartition("/")
    relations = f"{folder}/_rels/{own}.rels".removeprefix("/")
    if relations not in package:
        return
    seen: set[str] = set()
    for relation in package.tree(relations).every("Relationship"):
        said = relation.attributes
        if said.get("Type", "").rpartition("/")[2] != kind or said.get("TargetMode") == "External":
            continue
        target = Package.resolve(name, said.get("Target", ""))
        if target in package and target not in seen:
            seen.add(target)
            yield target
